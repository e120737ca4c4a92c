"use strict";

// Surprise: a story token by token, how unexpected each one was, and what had been expected.

const MOST_NATS = 8; // at the dark end of the scale

function surprisePanel(body, data) {
  const modes = [["nats", "surprise"], ["free", "entropy of the text"], ["wrong", "error of the network"]];
  const sentences = {
    nats: "Surprise: how little the network expected the token that came, in nats, -log of its probability.",
    free: "Entropy: the expected surprise of the true distribution, which no model can avoid (irreducible loss).",
    wrong: "Error: what the network adds to that because its distribution is not the true one (Kullback-Leibler divergence).",
  };
  let mode = "nats";
  let story = null;
  let strip = null;
  const hasTruth = data.stories.some((one) => one.truth);
  const explained = make("p", { class: "note" });
  const text = make("div");
  const detail = make("div", { class: "detail", "aria-live": "polite" });
  const sums = make("p", { class: "note" });
  const scale = make("div");
  const chart = make("canvas", { class: "chart", role: "img", "aria-label": "Surprise at each token" });
  const keys = hasTruth ? [" and of ", make("span", { class: "key without" }, "the true distribution")] : [];
  const figure = make("figure", {}, chart, make("figcaption", {}, "Surprise of ", make("span", { class: "key" }, "the network"), ...keys, ", in nats."));
  const buttons = hasTruth ? [choice("Color the tokens by", modes, mode, (chosen) => { mode = chosen; paint(); })] : [];
  body.append(...buttons, explained, make("div", { class: "beside" }, make("div", {}, text, scale, sums, figure), detail));

  function values() {
    const grid = mode === "nats" ? story.nats : story.truth[mode];
    return Array.from(grid.values, nats);
  }

  function paint() {
    const most = mode === "wrong" ? 2 : MOST_NATS;
    explained.textContent = hasTruth ? sentences[mode] : sentences.nats;
    strip.paint([undefined, ...values().map((value) => value / most)]);
    scale.replaceChildren(legend("0 nats: certain", `${most} nats or more`));
    drawCurves();
  }

  function drawCurves() {
    const truth = story.truth ? [[Array.from(story.truth.nats.values, nats), "--truth"]] : [];
    drawChart(chart, [...truth, [Array.from(story.nats.values, nats), "--model"]], strip.chosen() - 1);
  }

  function show(index) {
    const place = index - 1;
    const token = story.tokens.at(index);
    drawCurves();
    const p = probability(story.nats.at(place));
    const truth = story.truth;
    const rows = Array.from(story.likeliest.row(place), (other, k) => ({
      text: data.text(other),
      share: probability(story.likeliest_nats.at(place, k)),
      truth: truth ? probability(truth.likeliest.at(place, k)) : undefined,
      mark: other === token,
    }));
    if (!rows.some((row) => row.mark)) {
      rows.push({ text: data.text(token), share: p, truth: truth ? probability(truth.nats.at(place)) : undefined, mark: true });
    }
    const facts = [["probability", percent(p)], ["rank", `${number(story.rank.at(place))} of ${number(data.model.vocabulary)}`]];
    facts.push(["surprise", `${nats(story.nats.at(place)).toFixed(2)} nats`]);
    if (truth) {
      facts.push(["true probability", percent(probability(truth.nats.at(place)))]);
    }
    detail.replaceChildren(
      make("h3", {}, tokenName(data.textAt(story, index))),
      make("dl", {}, ...facts.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
      bars(rows, "What was expected here; the token that came is marked"),
      ...(truth ? [make("p", { class: "verdict" }, verdict(nats(truth.free.at(place)), nats(truth.wrong.at(place))))] : []),
    );
  }

  new ResizeObserver(() => strip && drawCurves()).observe(chart);
  return {
    show(next) {
      story = next;
      strip = tokenStrip({ texts: data.texts(story), label: "The story's tokens, by surprise", first: 1, onChoose: show });
      text.replaceChildren(strip.element);
      const own = mean(Array.from(story.nats.values, nats));
      const parts = [`This story: ${own.toFixed(2)} nats per token, perplexity ${Math.exp(own).toFixed(2)}.`];
      if (story.truth) {
        const best = mean(Array.from(story.truth.nats.values, nats));
        parts.push(`The storybook itself: ${best.toFixed(2)} nats, perplexity ${Math.exp(best).toFixed(2)}: the floor.`);
      }
      if (!story.whole) {
        parts.push("Only the story's beginning is shown.");
      }
      sums.textContent = parts.join(" ");
      paint();
      const all = Array.from(story.nats.values);
      strip.choose(1 + all.indexOf(Math.max(...all)));
    },
    repaint: paint,
  };
}

/** In words: is the entropy high here, or is the network wrong? */
function verdict(free, wrong) {
  const numbers = `Of the expected loss here, ${free.toFixed(2)} nats are the entropy of the text and ${wrong.toFixed(2)} the error of the network.`;
  if (wrong > 0.3) {
    return `${numbers} The network is wrong here: its bars are not the true ones.`;
  }
  if (free > 1) {
    return `${numbers} The text is open here: no model could know.`;
  }
  return `${numbers} The text is nearly determined here, and the network knows it.`;
}
