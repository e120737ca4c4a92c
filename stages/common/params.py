"""Params: params.yaml, checked whole before any work, and a frozen class for each stage with the keys that it reads."""

from __future__ import annotations

import difflib
import io
import re
import reprlib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import YAMLError

from stages.common.errors import UserError

Count = Annotated[int, Field(ge=1, le=10**12, strict=True)]
Whole = Annotated[int, Field(ge=0, le=10**12, strict=True)]
Size = Annotated[int, Field(ge=1, le=2**20, strict=True)]
Share = Annotated[float, Field(ge=0.0, lt=1.0, allow_inf_nan=False, strict=True)]
NotNegative = Annotated[float, Field(ge=0.0, le=1e6, allow_inf_nan=False, strict=True)]
Flag = Annotated[bool, Field(strict=True)]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d+)?)$", strict=True)]
Threads = Annotated[int, Field(ge=0, le=4096, strict=True)]
Seed = Annotated[int, Field(ge=0, lt=2**32, strict=True)]
FREE_TEXT = ("prompt", "dataset", "dataset_revision")  # keys whose text may look like something else
Text = Annotated[str, Field(strict=True, max_length=10_000)]


def _fraction(value: Any) -> str | int:
    """A fraction from 0 to 1 as text, such as 1/3, which divides exactly; or 0. An absolute rate is never taken for one."""
    if value in (0, "0") and not isinstance(value, bool):
        return 0
    if (found := re.fullmatch(r"([0-9]{1,9})/([0-9]{1,9})", str(value))) and int(found[1]) <= int(found[2]) > 0:
        return str(value)
    raise ValueError("a share of learning_rate is wanted, not a rate: a fraction up to 1/1, as in 1/10 for a tenth, or 0")


class _Part(BaseModel):
    """Some of params.yaml's keys. Units and choices stand in params.yaml; limits stand here."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class IdentifyParams(_Part):
    """What the stage `identify` reads."""

    init_from: Annotated[str, Field(strict=True, min_length=1, max_length=4_000)] | None
    init_revision: Annotated[str, Field(strict=True, min_length=1)] | None
    dataset: Annotated[str, Field(strict=True, min_length=1, max_length=4_000)]
    dataset_revision: Annotated[str, Field(strict=True)] | None


class DownloadParams(IdentifyParams):
    """What the stage `download` reads."""

    max_samples: Count | None
    max_val_samples: Count | None


class TokenizeParams(_Part):
    """What the stage `tokenize` reads."""

    vocabulary: Literal["corpus", "full"]


class ModelParams(_Part):
    """The network's shape: the fields of `GPT2Config` but the size of the vocabulary, which the tokens decide."""

    n_layer: Annotated[int, Field(ge=1, le=1000, strict=True)]
    n_head: Size
    n_embd: Size
    block_size: Size
    dropout: Share
    position: Literal["sinusoidal", "learned"]
    causal: Flag
    tie_embeddings: Flag


class TrainParams(ModelParams):
    """What the stage `train` reads."""

    epochs: Annotated[int, Field(ge=0, le=100_000, strict=True)]
    batch_size: Size
    grad_accumulation: Size
    stride: Size
    learning_rate: Annotated[float, Field(gt=0.0, le=100.0, allow_inf_nan=False, strict=True)]
    min_learning_rate: Annotated[Annotated[str, Field(pattern=r"^\d+/\d+$")] | Literal[0], BeforeValidator(_fraction)]
    warmup_steps: Whole
    weight_decay: NotNegative
    grad_clip: NotNegative
    optimizer: Literal["adamw", "muon"]
    precision: Literal["auto", "bf16", "fp16", "fp32"]
    compile: Flag | Literal["auto"]
    device: Device
    threads: Threads
    seed: Seed
    eval_every: Whole
    checkpoint_every: Count
    keep: Literal["last", "best"]
    launcher: Annotated[str, Field(strict=True, pattern=r"^(python|torchrun)( [\w.,:=/@-]+)*$")]
    sharding: Literal["ddp", "fsdp"]

    @property
    def last_learning_rate(self) -> float:
        """The learning rate of the last step."""
        above, _, below = str(self.min_learning_rate).partition("/")
        return self.learning_rate * int(above) / int(below or 1)


class EvaluateParams(_Part):
    """What the stage `evaluate` reads."""

    compile: Flag | Literal["auto"]
    device: Device
    threads: Threads
    eval_stride: Size | None


class GenerateParams(_Part):
    """What the stage `generate` reads."""

    device: Device
    threads: Threads
    seed: Seed
    prompt: Text | Annotated[list[Text], Field(min_length=1, max_length=1000)]
    num_samples: Annotated[int, Field(ge=1, le=10_000, strict=True)]
    max_new_tokens: Size
    temperature: Annotated[float, Field(ge=0.0, le=100.0, allow_inf_nan=False, strict=True)]
    top_k: Size | None
    top_p: Annotated[float, Field(gt=0.0, le=1.0, allow_inf_nan=False, strict=True)] | None

    @property
    def prompts(self) -> list[str]:
        """The prompt or prompts as a list.

        `$\\{` in params.yaml is `${` in the text: that itself is taken by `dvc exp run -S` for the name of another key.
        """
        given = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        return [text.replace("$\\{", "${") for text in given]


class ExplainParams(_Part):
    """What the stage `explain` reads."""

    device: Device
    threads: Threads


class Params(ExplainParams, GenerateParams, EvaluateParams, TrainParams, TokenizeParams, DownloadParams):
    """All of params.yaml, which `track` records; in its order, because pydantic takes the fields of the last base first."""

    @model_validator(mode="after")
    def _fit_together(self) -> Params:
        wrong = []
        if self.n_embd % self.n_head:
            wrong.append(f"n_head: {self.n_head} does not divide n_embd ({self.n_embd}); take a divisor")
        if self.stride > self.block_size:
            wrong.append(f"stride: {self.stride} is above block_size ({self.block_size}) and would skip tokens; lower it")
        if self.eval_stride and self.eval_stride > self.block_size:
            wrong.append(
                f"eval_stride: {self.eval_stride} is above block_size ({self.block_size}) and would skip tokens; lower it"
            )
        if self.dataset == "storybook" and self.max_samples is None:
            wrong.append("max_samples: the storybook has no end; give a number of stories")
        if self.dataset == "storybook" and self.max_val_samples is None:
            wrong.append("max_val_samples: the storybook has no end; give a number of stories")
        if self.sharding == "fsdp" and not self.launcher.startswith("torchrun"):
            wrong.append("sharding: fsdp needs several processes; set launcher, as in `torchrun --nproc-per-node 2`")
        if wrong:
            raise ValueError("\n".join(wrong))
        return self


Part = TypeVar("Part", bound=_Part)


def read_yaml(text: str) -> Any:
    """The value of a YAML file, read as DVC reads it: YAML 1.2, where `010` is 10, `yes` is text and 1e-3 is a number.

    Raises:
        UserError: the text is not YAML, or a key is given twice.
    """
    try:
        return YAML(typ="safe").load(text)
    except DuplicateKeyError as error:
        key = str(error.problem).split('"')[1::2][:1]
        raise UserError(f"{''.join(key)}: given twice; keep one line") from None
    except (YAMLError, RecursionError, ValueError, TypeError) as error:
        raise UserError(f"not YAML: {' '.join(str(error).split())}") from None


def write_yaml(values: Mapping[str, Any]) -> str:
    """The text that `read_yaml` reads as these values, in the same order."""
    writer, text = YAML(typ="safe"), io.StringIO()
    writer.default_flow_style = False
    writer.sort_base_mapping_type_on_output = False  # type: ignore[assignment]
    writer.allow_unicode, writer.width = False, 2**30  # a bare U+0085, or a long text cut into lines, would be read otherwise
    writer.dump(dict(values), text)
    return text.getvalue()


def load_params(part: type[Part], path: Path = Path("params.yaml")) -> Part:
    """Read and check the whole file; return the part of it that a stage reads.

    Raises:
        UserError: the file is missing or not YAML, or any of its keys is missing, unknown or wrong: all in one message.
    """
    try:
        raw = read_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing. Run from the project's folder, or restore it: git checkout {path}") from None
    except UserError as error:
        raise UserError(f"{path}{' is ' if str(error).startswith('not YAML') else ': '}{error}") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 text ({error.reason} at byte {error.start}); save it as UTF-8") from None
    if not isinstance(raw, dict):
        raise UserError(f"{path} must hold `key: value` lines, it holds {_kind(raw)}. Restore it: git checkout {path}")
    return part(**parse_params(raw, str(path)).model_dump(include=set(part.model_fields)))


def parse_params(raw: Mapping[Any, Any], source: str = "params.yaml") -> Params:
    """Check a mapping of all keys to values; see `load_params`."""
    return parse_part(Params, raw, source)


def parse_part(part: type[Part], raw: Mapping[Any, Any], source: str) -> Part:
    """Check a mapping of one part's keys to values.

    Raises:
        UserError: a key is missing, unknown or wrong: all in one message, which begins with `source`.
    """
    try:
        return part(**{str(key): value for key, value in raw.items()})
    except ValidationError as error:
        lines = _explain(error, {str(key) for key in raw}, set(part.model_fields))
        many = "1 problem" if len(lines) == 1 else f"{len(lines)} problems"
        raise UserError(f"{source} has {many}:\n" + "\n".join(f"  {line}" for line in lines)) from None


def _explain(error: ValidationError, given: set[str], known: set[str]) -> list[str]:
    """One line per problem: the key, what is wrong, what to do."""
    lines: dict[str, str] = {}
    hints: dict[str, str] = {}  # what to do, by key
    for item in error.errors(include_url=False):
        key = str(item["loc"][0]) if item["loc"] else ""
        if not key:  # from _fit_together: a line each, with its key
            for line in str(item["ctx"]["error"]).splitlines():
                lines.setdefault(line, line)
        elif item["type"] == "missing":
            lines[key] = f"{key}: missing; add it, or restore the file: git checkout params.yaml"
        elif item["type"] == "extra_forbidden":
            close = difflib.get_close_matches(key, known - given or known, 1)
            hint = f"did you mean {close[0]}?" if close else "remove it"
            lines[key] = f"{key[:100]}: unknown key; {hint}"
        else:
            shown = _short(item["input"])
            reason = item["msg"].removeprefix("Input ").removeprefix("Value error, ")
            if item["type"] == "float_type":
                reason = "give a number, not true or false" if isinstance(item["input"], bool) else "give a number"
            if key not in lines:
                lines[key] = f"{key}: {shown}: {reason}"
            elif reason not in lines[key]:
                lines[key] += f", or {reason}"
            if key in FREE_TEXT and item["type"] == "string_type" and isinstance(item["input"], int | float | dict):
                quoted = f'{key}: "..." in params.yaml, -S \'{key}="..."\' on the command line'
                hints[key] = f". Text that looks like a number, a list or a mapping needs quotes: {quoted}"
    return [line + hints.get(key, "") for key, line in lines.items()]


def _short(value: Any) -> str:
    """The value on a line; a few lines of YAML can stand for 10^9 values, so it is not written out and cut."""
    writer = reprlib.Repr()
    writer.maxstring = writer.maxlong = writer.maxother = 60
    writer.maxlevel = 2
    text = writer.repr(value)
    return text if len(text) <= 70 else f"{text[:67]}..."


def _kind(value: Any) -> str:
    return {"list": "a list", "str": "one text", "NoneType": "nothing"}.get(type(value).__name__, f"a {type(value).__name__}")
