"use strict";

// Chart: values over the places of a text.

/** Lines over the places of a text; `at` is marked. Colors are names of CSS variables. */
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
  const stroke = (name, points) => {
    context.strokeStyle = style.getPropertyValue(name);
    context.beginPath();
    points.forEach(([across, down]) => context.lineTo(across, down));
    context.stroke();
  };
  context.font = `11px ${style.fontFamily}`;
  context.textAlign = "right";
  context.textBaseline = "middle";
  const step = most > 12 ? 5 : 2;
  for (let value = 0; value <= most; value += step) {
    stroke("--line", [[left, y(value)], [width, y(value)]]);
    context.fillStyle = style.getPropertyValue("--soft");
    context.fillText(String(value), left - 6, y(value));
  }
  if (at >= 0) {
    const marked = x(at, lines[0][0].length);
    stroke("--soft", [[marked, 0], [marked, height]]);
  }
  context.lineWidth = 2;
  context.lineJoin = "round";
  for (const [values, name] of lines) {
    stroke(name, values.map((value, place) => [x(place, values.length), y(value)]));
  }
}
