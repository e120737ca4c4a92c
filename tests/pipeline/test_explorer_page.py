"""The page to look inside a network, driven in a real browser: what it shows is what the network does."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import network, token_file

from docs.make import pictures
from model import GPT2
from stages.common.errors import UserError
from stages.corpus.tokenizer import Tokenizer
from stages.corpus.tokens import TokenFile
from stages.explanation.attention_weights import attention_weights
from stages.explanation.explorer import Explorer
from stages.explanation.page import page

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
EVIL = [
    '</script><img src="x" onerror="document.title=1"> "quoted" \' & &amp; <b>bold</b>',
    "Control \x00\x07\x1b characters, a tab\tand two\n\nlines.",
    "Marks \u202eturn round\u202c, \u2028 separate, \ufeff hide; שלום עולם.",
    "🦉 and 日本 and é: letters of all kinds.",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium without a window, which writes down its console and every request."""
    with ExitStack() as stack:
        try:
            window = stack.enter_context(pictures.browser())
        except UserError as missing:
            pytest.skip(str(missing))
        yield window


class Page:
    """A page in the browser."""

    def __init__(self, browser: Any, file: Path) -> None:
        self.browser, self.address = browser, file.as_uri()
        for kind in ("browser", "performance"):
            browser.get_log(kind)  # forget the last page's
        pictures.open_page(browser, file)

    def run(self, script: str, *values: Any) -> Any:
        return self.browser.execute_script(script, *values)

    def find(self, selector: str) -> Any:
        return self.browser.find_element("css selector", selector)

    def all(self, selector: str) -> list[Any]:
        return list(self.browser.find_elements("css selector", selector))

    def press(self, *keys: str) -> None:
        self.browser.switch_to.active_element.send_keys(*keys)

    def assert_quiet(self) -> None:
        """No error or warning on the console, and no request except for the page itself."""
        assert [line for line in self.browser.get_log("browser") if line["level"] != "INFO"] == []
        events = [json.loads(line["message"])["message"] for line in self.browser.get_log("performance")]
        sent = {event["params"]["request"]["url"] for event in events if event["method"] == "Network.requestWillBeSent"}
        assert sent <= {self.address}
        assert self.run("return performance.getEntriesByType('resource').length") == 0


@pytest.fixture(scope="module")
def tokenizer(tokenized: Path) -> Tokenizer:
    return Tokenizer.load(tokenized / "data/tokenize/tokenizer.json")


@pytest.fixture(scope="module")
def net(tokenizer: Tokenizer) -> GPT2:
    return network(0.2, vocab_size=tokenizer.vocab_size, block_size=96, n_head=3, n_embd=12)


@pytest.fixture(scope="module")
def shown(browser: Any, tokenizer: Tokenizer, net: GPT2, tokenized: Path, tmp_path_factory: pytest.TempPathFactory) -> Page:
    """The page of a small network on the storybook."""
    validation = TokenFile.open(tokenized / "data/tokenize", "validation")
    file = tmp_path_factory.mktemp("explorer") / "explorer.html"
    file.write_text(page(Explorer(net, tokenizer, validation, True).data("storybook")), encoding="utf-8")
    return Page(browser, file)


def tokens_of(shown: Page, tokenizer: Tokenizer, panel: str) -> list[int]:
    """The ids of the tokens that a panel shows, from their texts."""
    text = shown.run("return [...document.querySelectorAll(`#${arguments[0]} .token`)].map(item => item.textContent)", panel)
    return [tokenizer.end_of_text, *tokenizer.encode("".join(text[1:]).removesuffix("⟨end⟩"))]


def name(tokenizer: Tokenizer, token: int) -> str:
    """A token as the page names it in a table."""
    text = "⟨end⟩" if token == tokenizer.end_of_text else tokenizer.decode([token])
    return "␣" + text[1:] if text.startswith(" ") else text


def pick(shown: Page, story: int) -> None:
    shown.run("const f = document.getElementById('story'); f.value = arguments[0]; f.dispatchEvent(new Event('change'))", story)


@pytest.mark.parametrize("how", ["hover", "keyboard"])
def test_a_token_shows_its_alternatives(how: str, shown: Page, tokenizer: Tokenizer, net: GPT2) -> None:
    """Pointing at a token, or walking to it, shows the network's own probability and rank of it, and its five likeliest."""
    from selenium.webdriver.common.action_chains import ActionChains
    from selenium.webdriver.common.keys import Keys

    index = 6 if how == "hover" else 5
    items = shown.all("#surprise .token")
    if how == "hover":
        shown.run("arguments[0].scrollIntoView({block: 'center', behavior: 'instant'})", items[index])
        ActionChains(shown.browser).move_to_element(items[index]).perform()
    else:
        shown.run("document.querySelector('#surprise .token.chosen').focus()")
        shown.press(Keys.HOME)
        for _ in range(index - 1):
            shown.press(Keys.ARROW_RIGHT)
        assert shown.run("return document.activeElement.dataset.index") == str(index)
    tokens = tokens_of(shown, tokenizer, "surprise")
    with torch.no_grad():
        log_p = net(torch.tensor([tokens[:index]]))[0, -1].log_softmax(-1)
    p, best = log_p.exp(), log_p.topk(5).indices.tolist()
    bars = shown.run(
        "return [...document.querySelectorAll('#surprise .probabilities tbody tr')]"
        ".map(row => [row.querySelector('th').textContent, Number(row.dataset.share)])"
    )
    assert [text for text, _ in bars[:5]] == [name(tokenizer, token) for token in best]
    assert [share for _, share in bars[:5]] == pytest.approx([float(p[token]) for token in best], rel=1e-3)
    assert bars[-1][0] == name(tokenizer, tokens[index]) or tokens[index] in best
    facts = [item.text for item in shown.all("#surprise dd")]
    rank = 1 + int((p > p[tokens[index]]).sum())
    assert facts[1] == f"{rank:,} of {tokenizer.vocab_size:,}"
    assert facts[2] == f"{-float(log_p[tokens[index]]):.2f} nats"
    assert len(facts) == 4, "the true probability is beside it"


def test_a_head_draws_its_weights(shown: Page, tokenizer: Tokenizer, net: GPT2) -> None:
    """Choosing a head, by a click or by keyboard, draws its matrix and shows where the chosen token looks."""
    from selenium.webdriver.common.keys import Keys

    shown.run("const head = document.querySelector('[data-head=\"1,1\"]'); head.click(); head.focus()")
    shown.press(Keys.ARROW_RIGHT)
    assert shown.find("#head-title").text == "Layer 2, head 3"
    drawn = len(shown.all("#attention .token"))
    weights = attention_weights(net, torch.tensor([tokens_of(shown, tokenizer, "surprise")]))[1, 2][:drawn, :drawn]
    red = shown.run(
        "const c = document.querySelector('.matrix'), data = c.getContext('2d').getImageData(0, 0, c.width, c.height).data;"
        "return [...data].filter((_, at) => at % 4 === 0)"
    )
    order = np.corrcoef(weights.sqrt().flatten(), red)[0, 1]
    assert abs(order) > 0.9, "the stronger the weight, the further the color is from the page's"
    shown.run("document.querySelectorAll('#attention .token')[9].click()")
    row = [int(byte) for byte in shown.find("#attention .arcs").get_attribute("data-weights").split()]
    assert row == pytest.approx((weights[9] * 255).tolist(), abs=0.6)
    arcs = len(shown.all("#attention svg path"))
    assert arcs == sum(round(float(share) * 255) / 255 >= 0.02 for at, share in enumerate(weights[9]) if at != 9)
    shown.run("document.querySelectorAll('#attention .token')[9].click()")  # let it go again


def test_layers_show_the_answer_being_formed(shown: Page, tokenizer: Tokenizer, net: GPT2) -> None:
    """There is a row for the embedding and each block; the last one has the network's own probability, in each story."""
    pick(shown, 1)
    shown.run("document.querySelectorAll('#layers .token')[7].click()")
    shares = [float(row.get_attribute("data-share")) for row in shown.all("#layers tbody tr")]
    assert len(shares) == net.config.n_layer + 1
    tokens = tokens_of(shown, tokenizer, "layers")
    with torch.no_grad():
        p = net(torch.tensor([tokens[:7]]))[0, -1].softmax(-1)
    assert shares[-1] == pytest.approx(float(p[tokens[7]]), rel=1e-3, abs=1e-6)
    pick(shown, 0)


def test_everything_can_be_reached_by_keyboard(shown: Page) -> None:
    """One tab stop for each strip, grid and field; nothing else traps the focus; each has a name that can be read out."""
    unnamed = shown.run(
        "return [...document.querySelectorAll('input, select, button, [role=listbox], [role=radiogroup], canvas[role=img]')]"
        ".filter(e => !(e.getAttribute('aria-label') || e.getAttribute('aria-labelledby') || e.textContent.trim()"
        " || e.labels?.length)).map(e => e.outerHTML.slice(0, 80))"
    )
    assert unnamed == []
    for strip in shown.all("[role=listbox]"):
        assert len(strip.find_elements("css selector", "[tabindex='0']")) == 1
    assert len(shown.all(".heads [tabindex='0']")) == 1


@pytest.mark.parametrize("width", [390, 1280])
def test_fits_the_window_of_a_phone_and_a_desktop(width: int, shown: Page) -> None:
    """Nothing reaches over the edge."""
    from selenium.webdriver.support.wait import WebDriverWait

    pictures.resize(shown.browser, width, 900)
    try:
        WebDriverWait(shown.browser, pictures.PATIENCE).until(lambda _: shown.run("return innerWidth") == width)
        assert shown.run("return document.documentElement.scrollWidth") <= width
    finally:
        shown.browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_the_page_sends_nothing_and_reports_no_error(shown: Page) -> None:
    """After all of it: nothing on the console, and no request has left the page."""
    shown.assert_quiet()


def test_untrusted_text_is_shown_as_text(browser: Any, tmp_path: Path) -> None:
    """Stories with scripts, quotes, control characters and marks that turn the writing round are shown, and nothing else."""
    tokenizer = Tokenizer.gpt2()  # the full vocabulary: 50,257 tokens
    net = network(0.2, vocab_size=tokenizer.vocab_size, block_size=96, n_embd=6, causal=False)
    split = token_file([tokenizer.encode(text) for text in EVIL], tokenizer.end_of_text)
    file = tmp_path / "explorer.html"
    file.write_text(page(Explorer(net, tokenizer, split, False).data(EVIL[0])), encoding="utf-8")
    shown = Page(browser, file)
    shown.assert_quiet()
    assert shown.run("return document.title") == "Look inside: what this GPT-2 sees"
    assert shown.all("main img, main b, main script, main iframe") == []
    assert shown.find("#warning").is_displayed(), "it has no mask, and says so"
    texts = []
    for story in range(len(EVIL)):
        pick(shown, story)
        texts.append(shown.run("return document.querySelector('#surprise .story').textContent"))
    assert texts[0] == "⟨start⟩" + EVIL[0] + "⟨end⟩"
    assert "⟨U+0000⟩" in texts[1]
    everything = shown.run("return document.body.innerText")
    assert not set(everything) & set("\x00\x07\x1b\u202e\u2028\ufeff")
    assert shown.run("return document.querySelectorAll('#surprise .choice').length") == 0, "nobody knows the truth here"
    shown.assert_quiet()
