"use strict";

// Layers: the prediction after each block (the logit lens).

function layersPanel(body, data) {
  let story = null;
  let strip = null;
  const text = make("div");
  const detail = make("div", { class: "detail", "aria-live": "polite" });
  body.append(make("p", { class: "note" }, "The stronger a token's color, the deeper the block from which on it is the likeliest. Tokens without color never are: mostly, nobody could know them."), text, legend("the embedding alone", "the last block"), detail);

  /** The first layer from which on the token is the likeliest; one more than there are if it never is. */
  function settled(place) {
    const ranks = Array.from(story.lens.rank.row(place));
    let layer = ranks.length;
    while (layer > 0 && ranks[layer - 1] === 1) {
      layer -= 1;
    }
    return layer;
  }

  function show(index) {
    const place = index - 1;
    const token = story.tokens.at(index);
    const layers = story.lens.nats.shape[1];
    const rows = [];
    for (let layer = 0; layer < layers; layer += 1) {
      const chips = Array.from(story.lens.tokens.row(place, layer), (other, k) => {
        const share = probability(story.lens.token_nats.at(place, layer, k));
        const chip = make("span", { class: other === token ? "chip came" : "chip" }, tokenName(data.text(other)), ` ${percent(share)}`);
        shade(chip, share);
        return chip;
      });
      const share = probability(story.lens.nats.at(place, layer));
      rows.push(make(
        "tr", { "data-layer": layer, "data-share": share.toFixed(6) },
        make("th", { scope: "row" }, layer === 0 ? "embedding" : `block ${layer}`),
        make("td", { class: "chips" }, ...chips),
        make("td", { class: "bars" }, make("span", { class: "track" }, bar(share))),
        make("td", { class: "value" }, percent(share)),
        make("td", { class: "value" }, number(story.lens.rank.at(place, layer))),
      ));
    }
    const [before, answer] = [place, index].map((at) => tokenName(data.textAt(story, at)));
    const caption = make("caption", {}, "What comes after ", before, "? The answer is ", answer, ": its probability and rank on the right.");
    const head = tableHead(["after", "likeliest next tokens", "", "probability", "rank"]);
    detail.replaceChildren(make("table", { class: "lens" }, caption, head, make("tbody", {}, ...rows)));
  }

  function paint() {
    const layers = story.lens.nats.shape[1];
    const shares = Array.from({ length: story.lens.nats.shape[0] }, (_, place) => settled(place) / layers);
    strip.paint([undefined, ...shares.map((share) => (share < 1 ? share : undefined))]);
  }

  return {
    show(next) {
      story = next;
      strip = tokenStrip({ texts: data.texts(story), label: "The story's tokens: choose the one to be predicted", first: 1, onChoose: show });
      text.replaceChildren(strip.element);
      paint();
      const layers = story.lens.nats.shape[1];
      const late = Array.from({ length: story.lens.nats.shape[0] }, (_, place) => settled(place));
      strip.choose(1 + late.indexOf(Math.max(...late.filter((layer) => layer < layers), 0)));
    },
    repaint() {
      paint();
      show(strip.chosen());
    },
  };
}
