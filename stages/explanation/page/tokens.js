"use strict";

// Tokens: a text whose tokens can be pointed at, walked through with the arrow keys, and colored.

/**
 * A strip of tokens.
 *
 * Pointing at a token or walking to it chooses it; a click holds the choice until the next click.
 * Options: texts, label, first (tokens before it cannot be chosen), onChoose(index).
 */
function tokenStrip({ texts, label, first = 0, onChoose }) {
  let chosen = -1;
  let held = false;
  const items = texts.map((text, index) => {
    const options = index < first ? {} : { role: "option", tabindex: "-1", "aria-selected": "false" };
    return make("span", { class: "token", ...options, "data-index": index }, ...pieces(text));
  });
  const element = make("div", { class: "story", role: "listbox", "aria-label": label, "aria-orientation": "horizontal" }, ...items);

  function choose(index) {
    if (items[chosen]) {
      items[chosen].classList.remove("chosen");
      items[chosen].setAttribute("aria-selected", "false");
      items[chosen].tabIndex = -1;
    }
    chosen = Math.min(items.length - 1, Math.max(first, index));
    items[chosen].classList.add("chosen");
    items[chosen].setAttribute("aria-selected", "true");
    items[chosen].tabIndex = 0;
    onChoose(chosen);
  }

  function indexOf(event) {
    const item = event.target.closest("[role=option]");
    return item ? Number(item.dataset.index) : -1;
  }

  element.addEventListener("pointerover", (event) => {
    const index = indexOf(event);
    if (index >= 0 && !held && event.pointerType !== "touch") {
      choose(index);
    }
  });
  element.addEventListener("click", (event) => {
    const index = indexOf(event);
    if (index >= 0) {
      held = !(held && index === chosen);
      choose(index);
      items[index].focus();
    }
  });
  element.addEventListener("focusin", (event) => {
    const index = indexOf(event);
    if (index >= 0 && index !== chosen) {
      choose(index);
    }
  });
  element.addEventListener("keydown", (event) => {
    const steps = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: 8, ArrowUp: -8, Home: -items.length, End: items.length };
    if (event.key in steps) {
      event.preventDefault();
      held = true;
      choose(chosen + steps[event.key]);
      items[chosen].focus();
    }
  });
  return {
    element,
    items,
    choose,
    chosen: () => chosen,
    /** Color the tokens by shares from 0 to 1; undefined leaves one plain. */
    paint(shares) {
      items.forEach((item, index) => {
        const ink = item.querySelector(".ink");
        if (shares[index] === undefined) {
          ink.style.backgroundColor = ink.style.color = "";
        } else {
          shade(ink, shares[index]);
        }
      });
    },
  };
}

/** A token's text with the blank before it set apart, which takes no color, and its line ends, which end the line. */
function pieces(text) {
  const gap = /^ (?=\S)/.test(text) ? " " : "";
  const ink = make("span", { class: "ink" }, text.slice(gap.length).replaceAll("\n", "").replace(/^ +$/, (blanks) => "␣".repeat(blanks.length)));
  return [gap, ink, ...(text.includes("\n") ? [make("br")] : [])].filter((piece) => piece !== "");
}
