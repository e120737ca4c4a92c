"use strict";

// Training: the same samples at moments of the training.

function trainingPanel(body, data) {
  if (data.training.length === 0) {
    body.append(make("p", { class: "note" }, "This training kept no samples: with sharding no process had the whole network."));
    return { show() {}, repaint() {} };
  }
  const rows = data.training.map((moment) => make(
    "li", { "data-step": moment.step },
    make("h3", {}, moment.step === 0 ? "Before the first step" : `After step ${number(moment.step)}`),
    make("p", { class: "note" }, moment.val_loss === null ? "nothing is learned yet" : `validation loss ${moment.val_loss.toFixed(2)} nats per token, perplexity ${Math.exp(moment.val_loss).toFixed(1)}`),
    make("div", { class: "texts" }, ...moment.texts.map((text) => make("blockquote", { dir: "auto" }, text))),
  ));
  body.append(make("ol", { class: "moments" }, ...rows));
  return { show() {}, repaint() {} };
}
