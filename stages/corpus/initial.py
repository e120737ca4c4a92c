"""Initial network: data/download/init, the weights that a training starts from; about.json there says what they are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stages.common import files
from stages.common.errors import UserError

FOLDER = Path("data/download/init")
SHAPE = ("n_layer", "n_head", "n_embd", "position", "tie_embeddings", "vocabulary")  # what the network decides


def read(folder: Path = FOLDER) -> dict[str, Any] | None:
    """What about.json says of the network: init_from, revision, shape and its files' sha256; None for random first weights.

    Raises:
        UserError: the file is missing or damaged.
    """
    about = files.read_json(folder / "about.json", "download", "init_from")
    return (
        None if about["init_from"] is None else files.read_json(folder / "about.json", "download", "revision", "shape", "files")
    )


def check_shape(init_from: str, shape: Mapping[str, Any], params: Mapping[str, Any]) -> None:
    """Fail unless the network has the shape that the given params say; the message has the words to type.

    Raises:
        UserError: the training would be of another network; the message has the words to type.
    """
    differ = {key: shape[key] for key in SHAPE if key in params and params[key] != shape[key]}
    if shape["position"] == "sinusoidal" and params.get("position") == "learned":
        differ.pop("position")  # others may have trained our table further, which only its weights say: `train` looks at them
    longest = shape["block_size"]
    if params.get("block_size", 0) > longest:
        differ["block_size"] = longest
        if params.get("stride", 0) > longest:
            differ["stride"] = longest
    if not differ:
        return
    found = ", ".join(f"{key} {_yaml(value)} (not {_yaml(params[key])})" for key, value in differ.items() if key != "stride")
    words = " ".join(f"-S {key}={_yaml(value)}" for key, value in differ.items())
    raise UserError(
        f"init_from: {init_from} has {found}. Give its shape: dvc exp run -S init_from={init_from} {words}\n"
        "(block_size may also be smaller. `make finetune DATA=... MODEL=...` types all of it)"
    )


def _yaml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
