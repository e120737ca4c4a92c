"use strict";

// Chart: values over the places of a text.

/** Lines over the places of a text; `at` is marked. Colours are names of CSS variables. */
function drawChart(canvas, lines, at) {
  const scale = window.devicePixelRatio || 1;
  const [width, height] = [canvas.clientWidth, canvas.clientHeight];
  canvas.width = width * scale;
  canvas.height = height * scale;
  const context = canvas.getContext("2d");
  const style = getComputedStyle(canvas);
  context.scale(scale, scale);
  const [left, bottom] = [28, 6];
  const most = Math.max(4, ...lines.flatMap(([values]) => values));
  const x = (place, count) => left + ((width - left - 6) * place) / Math.max(1, count - 1);
  const y = (value) => height - bottom - ((height - bottom - 8) * Math.min(value, most)) / most;
  context.font = `11px ${style.fontFamily}`;
  context.textAlign = "right";
  context.textBaseline = "middle";
  const step = most > 12 ? 5 : 2;
  for (let value = 0; value <= most; value += step) {
    context.strokeStyle = style.getPropertyValue("--line");
    context.fillStyle = style.getPropertyValue("--soft");
    context.beginPath();
    context.moveTo(left, y(value));
    context.lineTo(width, y(value));
    context.stroke();
    context.fillText(String(value), left - 6, y(value));
  }
  if (at >= 0) {
    context.strokeStyle = style.getPropertyValue("--soft");
    context.beginPath();
    context.moveTo(x(at, lines[0][0].length), 0);
    context.lineTo(x(at, lines[0][0].length), height);
    context.stroke();
  }
  for (const [values, name] of lines) {
    context.strokeStyle = style.getPropertyValue(name);
    context.lineWidth = 2;
    context.lineJoin = "round";
    context.beginPath();
    values.forEach((value, place) => context.lineTo(x(place, values.length), y(value)));
    context.stroke();
  }
}
