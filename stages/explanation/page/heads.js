"use strict";

// Heads: all attention heads as small pictures to choose from, each with the letter of what it does.

// letter, words, and whether token number k is what a head of this role looks for from token number q
const ROLES = {
  previous: ["P", "the token before", (tokens, q, k) => k === q - 1],
  same: ["S", "the same token, earlier", (tokens, q, k) => k < q && tokens[k] === tokens[q]],
  induction: ["I", "what followed the same token before (induction)", (tokens, q, k) => k < q && tokens[k - 1] === tokens[q]],
  first: ["F", "the first token, where a head looks that finds nothing else", (tokens, q, k) => k === 0],
  next: ["N", "the next token, the one to predict: the answer", (tokens, q, k) => k === q + 1],
};
const CLEAR = 0.15; // share of a head's attention that a role has to explain to give the head its letter,
const ABOVE_CHANCE = 2; // and at least this multiple of what uniform attention gives

/** What the heads measurably do: `of(layer, head)` gives the role, its score, and all scores. */
function headRoles(heads) {
  const of = (layer, head) => {
    const scores = Array.from(heads.scores.row(layer, head), (byte) => byte / 255);
    const best = scores.indexOf(Math.max(...scores));
    const clear = scores[best] >= CLEAR && scores[best] >= ABOVE_CHANCE * heads.chance[best];
    return { role: clear ? heads.roles[best] : null, score: scores[best], chance: heads.chance[best], scores };
  };
  /** The head that does a role most. */
  const champion = (role) => {
    const at = heads.roles.indexOf(role);
    const [layers, count] = heads.scores.shape;
    let found = { layer: 0, head: 0, score: -1 };
    for (let layer = 0; layer < layers; layer += 1) {
      for (let head = 0; head < count; head += 1) {
        const score = heads.scores.at(layer, head, at) / 255;
        found = score > found.score ? { role, layer, head, score } : found;
      }
    }
    return found;
  };
  return { of, champion, names: heads.roles, chance: heads.chance, stories: heads.stories };
}

/** The grid of heads: a row for each layer. Arrow keys walk through it. */
function headGrid(shape, roles, onChoose) {
  const [layers, count] = shape;
  const cells = [];
  let chosen = [0, 0];
  const grid = make("div", { class: "heads", role: "radiogroup", "aria-label": "Attention heads, a row for each layer" });
  grid.style.setProperty("--heads", count);
  for (let layer = 0; layer < layers; layer += 1) {
    grid.append(make("span", { class: "layer", "aria-hidden": "true" }, String(layer + 1)));
    cells.push([]);
    for (let head = 0; head < count; head += 1) {
      const { role, score } = roles.of(layer, head);
      const does = role ? `: ${ROLES[role][1]}, ${percent(score)}` : "";
      const words = `layer ${layer + 1}, head ${head + 1}${does}`;
      const canvas = make("canvas", { "aria-hidden": "true" });
      const badge = role ? [make("span", { class: `badge ${role}`, "aria-hidden": "true" }, ROLES[role][0])] : [];
      const cell = make(
        "button",
        { type: "button", role: "radio", "aria-checked": "false", tabindex: "-1", "aria-label": words, title: words, "data-head": `${layer},${head}` },
        canvas, ...badge,
      );
      cell.addEventListener("click", () => choose(layer, head));
      cells[layer].push(cell);
      grid.append(cell);
    }
  }

  function choose(layer, head) {
    const before = cells[chosen[0]][chosen[1]];
    before.setAttribute("aria-checked", "false");
    before.tabIndex = -1;
    chosen = [layer, head];
    cells[layer][head].setAttribute("aria-checked", "true");
    cells[layer][head].tabIndex = 0;
    onChoose(layer, head);
  }

  grid.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: [0, 1], ArrowLeft: [0, -1], ArrowDown: [1, 0], ArrowUp: [-1, 0] };
    if (event.key in steps) {
      event.preventDefault();
      const [down, right] = steps[event.key];
      const layer = (chosen[0] + down + layers) % layers;
      const head = (chosen[1] + right + count) % count;
      choose(layer, head);
      cells[layer][head].focus();
    }
  });
  return {
    element: grid,
    choose,
    /** Draw every head's weights on a story. */
    draw(attention) {
      const size = attention.shape[2];
      cells.forEach((row, layer) => row.forEach((cell, head) => drawMatrix(cell.firstChild, matrix(attention, layer, head), size)));
    },
  };
}

/** One head's weights, row by row. */
function matrix(attention, layer, head) {
  const size = attention.shape[2];
  const start = attention.index([layer, head, 0, 0]);
  return attention.values.subarray(start, start + size * size);
}
