"use strict";

// Positions: the surprise at each token with the position table and without it.

function positionsPanel(body, data) {
  let story = null;
  let strip = null;
  const text = make("div");
  const detail = make("p", { class: "reading", "aria-live": "polite" });
  const sums = make("div", { class: "sums" });
  const chart = make("canvas", { class: "chart", role: "img", "aria-label": "Surprise at each token, with the position table and without it" });
  body.append(sums, text, legend("no difference", "6 nats more surprise, or above"), detail, make("figure", {}, chart, make("figcaption", {}, "Surprise token by token: ", make("span", { class: "key with" }, "with"), " and ", make("span", { class: "key without" }, "without"), " the position table, in nats.")));

  function paint() {
    const [withTable, without] = curves();
    strip.paint([undefined, ...without.map((value, at) => Math.max(0, value - withTable[at]) / 6)]);
    drawChart(chart, [[withTable, "--model"], [without, "--truth"]], strip.chosen() - 1);
  }

  function curves() {
    return [story.nats, story.without_positions].map((grid) => Array.from(grid.values, nats));
  }

  function show(index) {
    const [withTable, without] = [story.nats, story.without_positions].map((grid) => nats(grid.at(index - 1)));
    detail.replaceChildren(tokenName(data.textAt(story, index)), `: ${withTable.toFixed(2)} nats with positions, ${without.toFixed(2)} without.`);
    paint();
  }

  new ResizeObserver(() => strip && paint()).observe(chart);
  return {
    show(next) {
      story = next;
      strip = tokenStrip({ texts: data.texts(story), label: "The story's tokens, by what the positions are worth", first: 1, onChoose: show });
      text.replaceChildren(strip.element);
      const [withTable, without] = curves().map(mean);
      const box = (name, value) => make("div", {}, make("strong", {}, Math.exp(value).toFixed(1)), ` perplexity ${name} (${value.toFixed(2)} nats per token)`);
      sums.replaceChildren(box("with positions", withTable), box("without", without));
      const differences = curves()[1].map((value, at) => value - curves()[0][at]);
      strip.choose(1 + differences.indexOf(Math.max(...differences)));
    },
    repaint: paint,
  };
}
