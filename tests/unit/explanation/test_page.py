"""The page is one valid file that nothing in a story can break out of, and that sends nothing anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
import re

import html5lib

from stages.explanation.page import page

EVIL = '</script><img src=x onerror="alert(1)"><!-- <script> & \' ]]> \u2028\u2029\x00\u202e $data ${script}'


def test_a_story_cannot_break_out() -> None:
    """Whatever a story holds, the page is strict HTML with the elements that it has without it, and the data come back."""
    tags = []
    for text in ("", EVIL):
        parser = html5lib.HTMLParser(strict=True, namespaceHTMLElements=False)
        document = parser.parse(page({"text": text}))
        assert parser.errors == []
        tags.append([item.tag for item in document.iter()])
        (data,) = [item for item in document.iter("script") if item.get("id") == "data"]
        assert json.loads(data.text)["text"] == text
        assert not set(data.text) & set("<>&\u2028\u2029\x00\u202e")
    assert tags[0] == tags[1]


def test_nothing_else_may_run() -> None:
    """The policy allows nothing but this script and this style, by their checksums; no element has a handler or a style."""
    text = page({"text": EVIL})
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for rule, tag in (("script-src", "script"), ("style-src", "style")):
        content = re.findall(rf"<{tag}[^>]*>(.*?)</{tag}>", text, re.DOTALL)[-1]
        assert rules[rule] == f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
    for item in html5lib.parse(text, namespaceHTMLElements=False).iter():
        assert not [name for name in item.keys() if name.startswith("on") or name in ("style", "src")]  # noqa: SIM118
