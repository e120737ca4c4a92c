"use strict";

// Elements: pieces of the page. Text gets in as text only, never as HTML.

/** An element with attributes and children; a child may be a string. */
function make(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) {
      element.addEventListener(name.slice(2), value);
    } else if (value !== null && value !== false) {
      element.setAttribute(name, value === true ? "" : value);
    }
  }
  element.append(...children);
  return element;
}

/** A token inside a sentence or a table: set apart, whichever way its letters are written. */
function tokenName(text, more = "") {
  return make("bdi", { class: `name ${more}`.trim() }, text.replace(/^ /, "␣").replace(/\n$/, ""));
}

/** A probability as people read it. */
function percent(share) {
  if (share === 0) {
    return "0 %";
  }
  if (share < 0.0001) {
    return "< 0.01 %";
  }
  const value = share * 100;
  return `${value.toFixed(value < 0.1 ? 2 : value < 99.95 ? 1 : 0)} %`;
}

function number(value) {
  return value.toLocaleString("en");
}

/** A choice of one among a few, as radio buttons that look like a row of buttons. */
function choice(label, options, chosen, onChoose) {
  const name = `choice-${choice.count++}`;
  const fields = options.map(([value, text]) => {
    const input = make("input", { type: "radio", name, value, checked: value === chosen, onchange: () => onChoose(value) });
    return make("label", {}, input, make("span", {}, text));
  });
  return make("fieldset", { class: "choice" }, make("legend", {}, label), ...fields);
}
choice.count = 0;

/** A bar as long as a share of its track. */
function bar(share, kind = "bar") {
  const element = make("span", { class: kind });
  element.style.width = `${100 * share}%`;
  return element;
}

function tableHead(names) {
  return make("thead", {}, make("tr", {}, ...names.map((name) => make("th", { scope: "col" }, name))));
}

/**
 * Probabilities as bars, one line each.
 * Rows: {text, share, truth (or undefined), mark: whether it is the token that came}.
 */
function bars(rows, caption) {
  const lines = rows.map((row) => {
    const track = make("span", { class: "track" }, bar(row.share));
    const cells = [make("th", { scope: "row" }, tokenName(row.text)), make("td", { class: "bars" }, track)];
    cells.push(make("td", { class: "value" }, percent(row.share)));
    if (row.truth !== undefined) {
      track.append(bar(row.truth, "bar truth"));
      cells.push(make("td", { class: "value true" }, percent(row.truth)));
    }
    return make("tr", { class: row.mark && "came", "data-share": row.share.toFixed(6) }, ...cells);
  });
  const names = ["token", "", "network"];
  if (rows.some((row) => row.truth !== undefined)) {
    names.push("truth");
  }
  return make("table", { class: "probabilities" }, make("caption", {}, caption), tableHead(names), make("tbody", {}, ...lines));
}
