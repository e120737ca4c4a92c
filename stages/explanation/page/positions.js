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
    detail.replaceChildren(tokenName(data.text(story.tokens.at(index))), `: ${withTable.toFixed(2)} nats with positions, ${without.toFixed(2)} without.`);
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

/** Lines over the places of a text; `at` is marked. Colours are names of CSS variables. */
function drawChart(canvas, lines, at) {
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * scale;
  canvas.height = height * scale;
  const context = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  context.scale(scale, scale);
  const [left, bottom] = [28, 6];
  const most = Math.max(4, ...lines.flatMap(([values]) => values));
  const x = (place, count) => left + ((width - left - 6) * place) / Math.max(1, count - 1);
  const y = (value) => height - bottom - ((height - bottom - 8) * Math.min(value, most)) / most;
  context.font = `11px ${style.fontFamily}`;
  context.textAlign = "right";
  context.textBaseline = "middle";
  const step = most > 12 ? 5 : 2;
  for (let value = 0; value <= most; value += step) {
    context.strokeStyle = style.getPropertyValue("--line");
    context.fillStyle = style.getPropertyValue("--soft");
    context.beginPath();
    context.moveTo(left, y(value));
    context.lineTo(width, y(value));
    context.stroke();
    context.fillText(String(value), left - 6, y(value));
  }
  if (at >= 0) {
    context.strokeStyle = style.getPropertyValue("--soft");
    context.beginPath();
    context.moveTo(x(at, lines[0][0].length), 0);
    context.lineTo(x(at, lines[0][0].length), height);
    context.stroke();
  }
  for (const [values, name] of lines) {
    context.strokeStyle = style.getPropertyValue(name);
    context.lineWidth = 2;
    context.lineJoin = "round";
    context.beginPath();
    values.forEach((value, place) => context.lineTo(x(place, values.length), y(value)));
    context.stroke();
  }
}
