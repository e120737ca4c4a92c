"use strict";

// Attention: one head's weights on a story, as a matrix and as arcs from the chosen token.

const FAINT = 0.02; // a share below gets no arc

function attentionPanel(body, data) {
  const roles = headRoles(data.heads);
  let story = null;
  let strip = null;
  let query = 1;
  let head = [0, 0];
  const title = make("h3", { id: "head-title" });
  const scores = make("p", { class: "note" });
  const text = make("div", { class: "arcs" });
  const reading = make("p", { class: "reading", "aria-live": "polite" });
  const canvas = make("canvas", { class: "matrix", role: "img", "aria-labelledby": "head-title" });
  const mark = make("div", { class: "mark" });
  const cell = make("p", { class: "reading" });
  const grid = headGrid(data.heads.scores.shape, roles, (layer, at) => { head = [layer, at]; draw(); });
  const measured = `Scores: the mean share of a head's attention that goes there, over ${number(roles.stories)} validation stories, where there is something to look at.`;
  const side = make("div", { class: "side" }, champions(), grid.element, make("p", { class: "note" }, measured));
  const cut = make("p", { class: "note" }, "Of this story the first tokens are shown here: the weights of all would make the page large.");
  const picture = make("figure", {}, make("div", { class: "frame" }, canvas, mark), make("figcaption", {}, "Rows look, columns are looked at. ", cell));
  body.append(make("div", { class: "beside heads-first" }, side, make("div", {}, title, scores, text, cut, reading, legend("0 %", "100 % of its attention", "25 %"), picture)));

  /** A button for each role: the head that does it most. */
  function champions() {
    const list = make("ul", { class: "champions" });
    for (const [at, role] of roles.names.entries()) {
      const best = roles.champion(role);
      const where = `layer ${best.layer + 1}, head ${best.head + 1}`;
      const button = make(
        "button", { type: "button", "data-role": role, onclick: () => feature(best) },
        make("span", { class: `badge ${role}` }, ROLES[role][0]),
        make("span", { class: "what" }, ROLES[role][1]),
        make("span", { class: "where" }, `${where}: ${percent(best.score)} (by chance ${percent(roles.chance[at])})`),
      );
      list.append(make("li", {}, button));
    }
    return list;
  }

  /** Choose the head that does a role most, and a token that shows it. */
  function feature({ role, layer, head: at }) {
    grid.choose(layer, at);
    let [most, best] = [-1, query];
    for (let row = 1; row < story.attention.shape[2]; row += 1) {
      story.attention.row(layer, at, row).forEach((byte, key) => {
        if (byte > most && ROLES[role][2](story.tokens.values, row, key)) {
          [most, best] = [byte, row];
        }
      });
    }
    strip.choose(best);
  }

  function draw() {
    const [layer, at] = head;
    const { role, score, chance, scores: all } = roles.of(layer, at);
    title.textContent = `Layer ${layer + 1}, head ${at + 1}`;
    const much = `It gives ${percent(score)} of its attention to`;
    const does = role ? `${much} ${ROLES[role][1]} (by chance it would be ${percent(chance)}). ` : "No simple rule explains where it looks. ";
    scores.textContent = does + roles.names.map((name, k) => `${ROLES[name][0]} ${percent(all[k])}`).join(" · ");
    drawMatrix(canvas, matrix(story.attention, layer, at), story.attention.shape[2]);
    look(query);
  }

  /** Show where the token looks. */
  function look(index) {
    query = index;
    const row = Array.from(story.attention.row(head[0], head[1], query), (byte) => byte / 255);
    strip.paint(row.map(attentionShade));
    mark.style.top = `${(100 * query) / row.length}%`;
    mark.style.height = `${100 / row.length}%`;
    const order = row.map((share, key) => [share, key]).sort((a, b) => b[0] - a[0]).slice(0, 3);
    reading.replaceChildren(tokenName(data.textAt(story, query)), " looks at ");
    order.filter(([share]) => share > 0).forEach(([share, key], at) => {
      const name = key === query ? "itself" : tokenName(data.textAt(story, key));
      reading.append(at ? ", " : "", name, ` ${percent(share)}`);
      if (key === query + 1) {
        reading.append(" (the token that it has to predict)");
      }
    });
    text.dataset.weights = row.map((share) => Math.round(share * 255)).join(" ");
    drawArcs(text, strip.items, query, row);
  }

  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect();
    const size = story.attention.shape[2];
    const [row, column] = [(event.clientY - box.top) / box.height, (event.clientX - box.left) / box.width]
      .map((share) => Math.min(size - 1, Math.max(0, Math.floor(share * size))));
    const share = story.attention.at(head[0], head[1], row, column) / 255;
    const names = [row, column].map((at) => tokenName(data.textAt(story, at)));
    cell.replaceChildren(names[0], " gives ", names[1], ` ${percent(share)}`);
  });
  canvas.addEventListener("click", (event) => {
    const box = canvas.getBoundingClientRect();
    strip.choose(Math.floor(((event.clientY - box.top) / box.height) * story.attention.shape[2]));
  });
  new ResizeObserver(() => strip && look(query)).observe(text);

  return {
    show(next) {
      story = next;
      const texts = data.texts(story);
      const drawn = story.attention.shape[2]; // of a long story the page keeps the beginning's
      const label = "The story's tokens: choose the one that looks";
      cut.hidden = drawn === texts.length - 1;
      strip = tokenStrip({ texts: texts.slice(0, drawn), label, onChoose: look });
      text.replaceChildren(strip.element);
      grid.draw(story.attention);
      query = Math.round(drawn * 0.7);
      strip.choose(query);
      if (title.textContent === "") {
        const [best] = roles.names.filter((name) => name !== "first").map(roles.champion).sort((a, b) => b.score - a.score);
        feature(best);
      } else {
        draw();
      }
    },
    repaint() {
      grid.draw(story.attention);
      draw();
    },
  };
}

/** Curves from the token that looks to those that it looks at, over the text. */
function drawArcs(frame, items, query, shares) {
  const space = "http://www.w3.org/2000/svg";
  frame.querySelector("svg")?.remove();
  const svg = document.createElementNS(space, "svg");
  svg.setAttribute("aria-hidden", "true");
  const origin = frame.getBoundingClientRect();
  const place = (item) => {
    const box = item.querySelector(".ink").getBoundingClientRect();
    return [box.left + box.width / 2 - origin.left, box.top - origin.top + 2];
  };
  const [x, y] = place(items[query]);
  shares.forEach((share, key) => {
    if (share >= FAINT && key !== query) {
      const [toX, toY] = place(items[key]);
      const height = Math.min(y, toY) - 10 - Math.min(26, Math.abs(x - toX) / 10);
      const path = document.createElementNS(space, "path");
      path.setAttribute("d", `M${x} ${y} C${x} ${height} ${toX} ${height} ${toX} ${toY}`);
      path.setAttribute("stroke-width", (1 + 4 * share).toFixed(2));
      path.setAttribute("opacity", (0.25 + 0.75 * share).toFixed(2));
      svg.append(path);
    }
  });
  frame.prepend(svg);
}
