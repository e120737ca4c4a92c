"""The page of samples: Markdown shows each text as it is, and nothing in a text is taken for Markdown."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt  # comes with mlflow

from stages.common.terminal import printable
from stages.generation.sampler import Sample
from stages.generation.samples_page import text

ACTIVE = st.text(st.sampled_from("#-+*_`~>|[](){}<>!\\&$=:.1 \n\t\r\u2028ab\"'é"))
# fmt: off
INJECTIONS = [
    "# heading", "> quote", "- item", "+ item", "1. item", "23) item", "---", "===", "x\n===", "x\n---", "***", "    code",
    "```\ncode\n```", "~~~", "`code`", "*a* _b_ **c** __d__", "[link](http://x)", "![image](x)", "<b>x</b>",
    "<script>1</script>", "<!-- x -->", "<?x?>", "&amp; &#35;", "| a | b |\n|---|---|\n| 1 | 2 |", "[x]: /url", "\\*", "a\\",
    "a  \nb", "http://x.y", "", "\n", "\n\nx", "x\n", " x ", "\r# x", "\x0b# x", "\u2028# x", "Hi!", '"Hi"', "(x)", "**",
    "a**", "~~a~~", "$x$", "- [ ] x",
]
# fmt: on
BLOCKS = {"heading_open", "paragraph_open", "blockquote_open", "inline", "heading_close", "paragraph_close", "blockquote_close"}
SPANS = {"text", "softbreak", "strong_open", "strong_close", "text_special"}


def shown(page: str) -> tuple[list[str], set[str]]:
    """The words of the one quotation as a reader sees them, those in bold, and nothing else on the page."""
    tokens = MarkdownIt("gfm-like", {"linkify": False}).parse(page)
    kinds = [token.type for token in tokens]
    assert set(kinds) <= BLOCKS, kinds
    assert (kinds.count("heading_open"), kinds.count("blockquote_open")) == (2, 1)
    inside = tokens[kinds.index("blockquote_open") : kinds.index("blockquote_close")]
    words, bold = "", ""
    strong = False
    for block in inside:
        for span in block.children or []:
            if span.type == "html_inline":
                assert span.content in ("<b>", "</b>"), span.content
                strong = span.content == "<b>"
                continue
            assert span.type in SPANS, span.type
            strong = span.type == "strong_open" or (strong and span.type != "strong_close")
            words += span.content if "text" in span.type else " " if span.type == "softbreak" else ""
            bold += span.content if strong and "text" in span.type else ""
        words += " "
    return words.split(), set(bold.split())


def check(prompt: str, continuation: str) -> None:
    page = text([Sample(prompt, 1, continuation, [1, 2], True)], "Temperature 1.0")
    words, _ = shown(page)
    assert words == printable(re.sub(r"\s", " ", prompt + continuation)).split()


@pytest.mark.parametrize("injection", INJECTIONS)
def test_markdown_in_a_text_is_text(injection: str) -> None:
    """Headings, lists, code, links, HTML, tables: as prompt, as continuation, on a line of its own, it is shown as it is."""
    check(injection, " and so on")
    check("Once", injection)
    check("Once", f"\n{injection}\nmore")
    check(injection, injection)


@settings(max_examples=300, deadline=None)
@given(ACTIVE | st.text(), ACTIVE | st.text())
def test_any_text_is_shown_as_it_is(prompt: str, continuation: str) -> None:
    """For any prompt and continuation the quotation has exactly their words."""
    check(prompt, continuation)


@pytest.mark.parametrize("prompt", ["Once upon a time", "Hi!", '"Hello," she said', "(x)", "* *", "日本"])
@pytest.mark.parametrize("continuation", [", there", " there", "there"])
def test_the_prompt_is_bold(prompt: str, continuation: str) -> None:
    """The prompt's words are bold, the continuation's are not, whatever characters meet at the seam."""
    _, bold = shown(text([Sample(prompt, 1, continuation, [1], True)], "Temperature 1.0"))
    assert bold == set(prompt.split())


def test_the_page_shows_settings_sizes_and_endings() -> None:
    """The page as a whole, once: settings, numbers, the prompt in bold, and how each text ended."""
    found = [Sample("Once", 1, " there was.", [1, 2, 3], True), Sample("Once", 2, " a\n\ncat", [1] * 1000, False)]
    assert text(found, "Temperature 1.0, seed 7") == (
        "# Samples\n\nTemperature 1.0, seed 7. The prompt is in bold.\n\n"
        "## 1\n\n> **Once** there was.\n\n(3 tokens, finished)\n\n"
        "## 2\n\n> **Once** a\n>\n> cat\n\n(1,000 tokens, cut)\n"
    )
