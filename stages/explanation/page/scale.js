"use strict";

// Scale: a number from 0 to 1 as a color. One hue whose lightness alone says how much, so that every eye can order it.

const dark = matchMedia("(prefers-color-scheme: dark)");
const LIGHT_STOPS = [[255, 255, 255], [214, 230, 244], [138, 187, 220], [62, 128, 186], [22, 74, 133], [8, 35, 80]];
const DARK_STOPS = [[28, 31, 38], [24, 58, 98], [32, 96, 160], [74, 148, 207], [158, 204, 236], [240, 249, 255]];

/** The color's three parts, 0 to 255. */
function color(share) {
  const stops = dark.matches ? DARK_STOPS : LIGHT_STOPS;
  const place = Math.min(1, Math.max(0, share)) * (stops.length - 1);
  const low = Math.min(stops.length - 2, Math.floor(place));
  return stops[low].map((part, axis) => Math.round(part + (stops[low + 1][axis] - part) * (place - low)));
}

/** How bright a color is to the eye (WCAG 2, relative luminance). */
function luminance(parts) {
  const [r, g, b] = parts.map((part) => {
    const share = part / 255;
    return share <= 0.03928 ? share / 12.92 : ((share + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

/** Give an element the color, and a text color that can be read on it. */
function shade(element, share) {
  const parts = color(share);
  element.style.backgroundColor = `rgb(${parts.join(" ")})`;
  element.style.color = luminance(parts) > 0.179 ? "#000" : "#fff"; // the two contrasts are equal there
}

/** Shares of attention: most are small, so the color grows with their square root. */
function attentionShade(share) {
  return Math.sqrt(share);
}

/** Draw a square matrix of bytes, one pixel for each. */
function drawMatrix(canvas, values, size) {
  canvas.width = canvas.height = size;
  const context = canvas.getContext("2d");
  const image = context.createImageData(size, size);
  const table = Array.from({ length: 256 }, (_, byte) => color(attentionShade(byte / 255)));
  values.forEach((byte, at) => {
    image.data.set(table[byte], 4 * at);
    image.data[4 * at + 3] = 255;
  });
  context.putImageData(image, 0, 0);
}

/** A strip of all colors with what its ends mean, and its middle if that does not go without saying. */
function legend(from, to, middle = "") {
  const strip = make("span", { class: "strip", "aria-hidden": "true" });
  for (let step = 0; step < 12; step += 1) {
    const cell = make("span");
    cell.style.backgroundColor = `rgb(${color(step / 11).join(" ")})`;
    strip.append(cell);
  }
  return make("p", { class: "legend" }, make("span", {}, from), strip, make("span", {}, middle ? `${to} (the middle is ${middle})` : to));
}
