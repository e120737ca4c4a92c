"use strict";

// Samples: what the network wrote, and what the sliders of sampling would have made of each place.

const SHOWN_BARS = 16;

/**
 * The distribution of a place after temperature, then top-p: rows of {token, share, off}, and the share of all other tokens.
 * A token's weight is p^(1/t). What the tokens here have together at each temperature comes with the data: the shares are exact.
 */
function redrawn(sample, place, temperatures, temperature, topP) {
  const tokens = Array.from(sample.drawn.row(place));
  const logs = Array.from(sample.drawn_nats.row(place), (step) => -nats(step));
  if (temperature === 0) {
    return { rows: tokens.map((token, k) => ({ token, share: k === 0 ? 1 : 0, off: k > 0 })), rest: 0, restOff: true };
  }
  const column = temperatures.findIndex((one) => Math.abs(one - temperature) < 1e-6);
  const weights = logs.map((log) => Math.exp(log / temperature));
  const together = probability(sample.drawn_share.at(place, column));
  const total = weights.reduce((sum, weight) => sum + weight, 0) / together;
  let before = 0;
  const rows = weights.map((weight, k) => {
    const share = weight / total;
    const off = topP < 1 && before >= topP;
    before += share;
    return { token: tokens[k], share, off };
  });
  const restOff = topP < 1 && before >= topP;
  const beyond = restOff ? 0 : Math.max(0, topP - before); // what tokens that are not here have, and keep
  const kept = rows.reduce((sum, row) => sum + (row.off ? 0 : row.share), beyond);
  return { rows: rows.map((row) => ({ ...row, share: row.off ? 0 : row.share / kept })), rest: beyond / kept, restOff };
}

function samplesPanel(body, data) {
  if (data.samples.length === 0) {
    body.append(make("p", { class: "note" }, "There is nothing to see: the prompt fills the network's whole context."));
    return { show() {}, repaint() {} };
  }
  let at = 0;
  let strip = null;
  const text = make("div");
  const detail = make("div", { class: "detail" });
  const place = make("h3");
  const table = make("div", { "aria-live": "polite" });
  const words = make("p", { class: "note" });
  const last = data.temperatures.length / 10;
  const heat = slider(
    "temperature", { min: 0, max: last, step: 0.1, value: 1 },
    (value) => (Number(value) === 0 ? "0: greedy" : Number(value).toFixed(1)), () => draw(),
  );
  const nucleus = slider("top-p", { min: 0.05, max: 1, step: 0.05, value: 1 }, (value) => (Number(value) === 1 ? "1: off" : Number(value).toFixed(2)), () => draw());
  const presets = [["greedy", 0, 1], ["as trained", 1, 1], ["safer", 0.7, 1], ["nucleus", 1, 0.9], ["wild", 1.6, 1]].map(([name, t, p]) =>
    make("button", { type: "button", onclick: () => { heat.set(t); nucleus.set(p); } }, name),
  );
  const options = data.samples.map((_, index) => [String(index), `sample ${index + 1}`]);
  detail.append(place, make("div", { class: "controls" }, heat.element, nucleus.element, make("div", { class: "presets" }, ...presets)), words, table);
  body.append(choice("Show", options, "0", (value) => { at = Number(value); open(); }), make("div", { class: "beside" }, make("div", {}, text, legend("certain", "8 nats: a daring choice")), detail));

  function draw() {
    const sample = data.samples[at];
    const index = strip.chosen();
    const temperature = heat.value();
    const found = redrawn(sample, index - 1, data.temperatures, temperature, nucleus.value());
    const came = sample.tokens.at(index);
    const rows = found.rows.slice(0, SHOWN_BARS).map((row) => ({ text: data.text(row.token), share: row.share, off: row.off, mark: row.token === came }));
    const others = found.rows.slice(SHOWN_BARS).reduce((sum, row) => sum + row.share, found.rest);
    const count = data.model.vocabulary - rows.length;
    if (count > 0) {
      rows.push({ text: `${number(count)} others`, share: others, off: others === 0 });
    }
    place.replaceChildren("After ", tokenName(data.textAt(sample, index - 1)), index <= sample.prompt ? " (the prompt: given, not drawn)" : "");
    words.textContent = explain(temperature, nucleus.value(), found);
    table.replaceChildren(bars(rows, "What could be drawn here; the token that came is marked"));
  }

  function explain(temperature, topP, found) {
    const kept = found.rows.filter((row) => !row.off).length;
    if (temperature === 0) {
      return "Greedy: always the likeliest token. The text is always the same, and often goes in circles.";
    }
    const heats = temperature < 1 ? "Below 1 the likely tokens gain and the text gets safer." : temperature > 1 ? "Above 1 the unlikely tokens gain and the text gets wilder." : "At 1 each token is drawn as often as the network says.";
    const cut = topP === 1 ? "" : ` Top-p keeps the likeliest tokens that together have ${percent(topP)}: ${found.restOff ? number(kept) : `more than ${number(kept)}`} of ${number(data.model.vocabulary)}.`;
    return heats + cut;
  }

  function paint() {
    const steps = Array.from(data.samples[at].nats.values, (step, place_) => (place_ < data.samples[at].prompt ? undefined : nats(step) / MOST_NATS));
    strip.paint([undefined, ...steps]);
  }

  function open() {
    const sample = data.samples[at];
    strip = tokenStrip({ texts: data.texts(sample), label: "The sample's tokens", first: 1, onChoose: draw });
    strip.items.forEach((item, index) => item.classList.toggle("given", index > 0 && index <= sample.prompt));
    text.replaceChildren(strip.element);
    paint();
    const steps = Array.from(sample.nats.values).map((step, index) => (index < sample.prompt ? 0 : step));
    strip.choose(1 + steps.indexOf(Math.max(...steps)));
  }
  open();
  return { show() {}, repaint() { paint(); draw(); } };
}
