"use strict";

// Main: read the data, build the panels, show the first story.

async function start() {
  const data = await unpackAll(JSON.parse(document.getElementById("data").textContent));
  const names = new Map(Array.from(data.ids.values, (id, place) => [id, data.texts[place]]));
  const view = {
    ...data,
    /** A token as text; at place 0 end-of-text is the start. */
    text: (token, place = -1) => (token === data.end_of_text ? (place === 0 ? "⟨start⟩" : "⟨end⟩") : names.get(token)),
    textAt: (story, place) => view.text(story.tokens.at(place), place),
    texts: (story) => Array.from(story.tokens.values, (_, place) => view.textAt(story, place)),
  };
  const model = data.model;
  document.getElementById("facts").textContent =
    `${number(model.parameters)} parameters: ${model.layers} layers of ${model.heads} heads, width ${model.width}, context ${number(model.context)} tokens, ` +
    `${number(model.vocabulary)} tokens in the vocabulary, ${model.position} positions; trained on ${model.dataset}.`;
  document.getElementById("warning").hidden = model.causal;

  const builders = { surprise: surprisePanel, attention: attentionPanel, layers: layersPanel };
  const panels = Object.entries(builders).map(([id, build]) => build(document.querySelector(`#${id} .body`), view));
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#']"); // MLflow shows the page in a frame where links to its parts do nothing
    document.querySelector(link?.getAttribute("href") ?? "nothing")?.scrollIntoView();
  });
  const picker = document.getElementById("story");
  data.stories.forEach((story, index) => {
    const begin = view.texts(story).slice(1, 18).join("").replace(/\s+/g, " ").slice(0, 70);
    picker.append(make("option", { value: index }, `${index + 1}. ${begin}…`));
  });
  const show = () => panels.forEach((panel) => panel.show(data.stories[Number(picker.value)]));
  picker.addEventListener("change", show);
  dark.addEventListener("change", () => panels.forEach((panel) => panel.repaint()));
  show();
  document.body.dataset.ready = "yes";
}

start().catch((error) => {
  const text = `This page could not be drawn (${error.message}). It needs a browser from 2023 or newer.`;
  document.querySelector("main").prepend(make("p", { class: "warning" }, text));
  throw error;
});
