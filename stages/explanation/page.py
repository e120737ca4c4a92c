"""Page: data, style and script put together into one HTML file that needs nothing else and lets nothing else in."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Any

PARTS = Path(__file__).parent / "page"
MAIN = "main.js"  # comes last, because it starts what the other scripts define


def page(data: Mapping[str, Any]) -> str:
    """The whole page.

    Its policy allows this one script and this one style, by their checksums, and no request to anywhere: text of the data that
    passed for a script would not run.
    """
    scripts = sorted(path.name for path in PARTS.glob("*.js") if path.name != MAIN)
    style, script = _read("explorer.css"), "\n".join(_read(name) for name in [*scripts, MAIN])
    policy = (
        f"default-src 'none'; script-src {_source(script)}; style-src {_source(style)}; base-uri 'none'; form-action 'none'"
    )
    return Template(_read("template.html")).substitute(policy=policy, style=style, script=script, data=as_json(data))


def as_json(data: Mapping[str, Any]) -> str:
    """JSON that cannot end its script element: ASCII, and no character that means something in HTML."""
    text = json.dumps(data, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for sign in "<>&":
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return text


def _read(name: str) -> str:
    return (PARTS / name).read_text(encoding="utf-8")


def _source(text: str) -> str:
    """The name of an inline script or style in a content security policy."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
