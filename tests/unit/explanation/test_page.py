"""The page is one valid file that nothing in a story can break out of, and that sends nothing anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import html5lib
import pytest

from stages.explanation import page as page_parts
from stages.explanation.page import PARTS, as_json, page

EVIL = '</script><img src=x onerror="alert(1)"><!-- <script> & \' ]]> \u2028\u2029\x00\u202e $data ${script}'


def element(text: str, tag: str) -> str:
    return re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", text, re.DOTALL)[-1]


@pytest.fixture(scope="module")
def evil_page() -> str:
    return page({"text": EVIL, "list": [EVIL, 1, None]})


def test_valid_html(evil_page: str) -> None:
    """A strict parser finds no error in it, and the elements that the script needs."""
    parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
    document = parser.parse(evil_page)
    assert parser.errors == []
    ids = {item.get("id") for item in document.iter() if item.get("id")}
    assert {"facts", "warning", "story", "data", "surprise", "attention", "layers", "samples", "positions", "training"} <= ids


def test_a_story_cannot_break_out(evil_page: str) -> None:
    """Whatever a story holds, the page has the elements that it has without it, and the data come back as they were."""
    harmless = page({"text": "", "list": []})

    def tags(text: str) -> list[str]:
        return [item.tag for item in html5lib.parse(text, namespaceHTMLElements=False).iter() if isinstance(item.tag, str)]

    assert tags(evil_page) == tags(harmless)
    document = html5lib.parse(evil_page, namespaceHTMLElements=False)
    (data,) = [item for item in document.iter("script") if item.get("id") == "data"]
    assert json.loads(data.text)["list"][0] == EVIL
    assert not set(as_json({"text": EVIL})) & set("<>&\u2028\u2029\x00\u202e")


def test_nothing_else_may_run(evil_page: str) -> None:
    """The policy allows nothing but this script and this style, by their checksums; no element has a handler or a style."""
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', evil_page)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for rule, tag in (("script-src", "script"), ("style-src", "style")):
        digest = base64.b64encode(hashlib.sha256(element(evil_page, tag).encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"
    document = html5lib.parse(evil_page, namespaceHTMLElements=False)
    for item in document.iter():
        assert not [name for name in item.keys() if name.startswith("on") or name in ("style", "src")]  # noqa: SIM118


def test_no_address_is_in_it() -> None:
    """Neither the page nor its script or style names a place to load from; text gets in as text, never as HTML."""
    for path in sorted(PARTS.iterdir()):
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"https?:|url\(|@import|\bfetch\(|XMLHttpRequest|WebSocket|sendBeacon", text), path.name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", text), path.name


def test_every_part_is_in_the_page(evil_page: str) -> None:
    """Each script file of the folder is used, is short enough to read, and says at its top what it is."""
    for path in PARTS.glob("*.js"):
        text = path.read_text(encoding="utf-8")
        assert text.strip() in evil_page
        assert text.startswith('"use strict";\n\n// ')
        assert len(text.splitlines()) <= 300


def test_the_same_data_give_the_same_page(evil_page: str) -> None:
    """No order of files or keys of this machine gets into the page."""
    assert page_parts.page({"text": EVIL, "list": [EVIL, 1, None]}) == evil_page
