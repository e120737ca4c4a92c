"use strict";

// Arrays: the numbers of the data element, as packed.py packed them.

/** Numbers with a shape; `at` and `row` take one index for each axis. */
class Grid {
  constructor(shape, values) {
    this.shape = shape;
    this.values = values;
  }

  index(place) {
    return place.reduce((sum, at, axis) => sum * this.shape[axis] + at, 0);
  }

  at(...place) {
    return this.values[this.index(place)];
  }

  /** The last axis, at a place of all the others. */
  row(...place) {
    const width = this.shape[this.shape.length - 1];
    const start = this.index(place) * width;
    return this.values.subarray(start, start + width);
  }
}

/** Inflate one packed array. */
async function unpack(packed) {
  const bytes = Uint8Array.from(atob(packed.data), (char) => char.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const buffer = await new Response(stream).arrayBuffer();
  return new Grid(packed.shape, packed.kind === "u8" ? new Uint8Array(buffer) : new Uint16Array(buffer));
}

/** The same object with every packed array in it inflated. */
async function unpackAll(value) {
  if (Array.isArray(value)) {
    return Promise.all(value.map(unpackAll));
  }
  if (value === null || typeof value !== "object") {
    return value;
  }
  if (value.kind && value.data) {
    return unpack(value);
  }
  const entries = Object.entries(value).map(async ([key, item]) => [key, await unpackAll(item)]);
  return Object.fromEntries(await Promise.all(entries));
}

const PER_NAT = 2000; // steps of a nat, as in packed.py
const NEVER = 65535; // what has probability 0

function nats(step) {
  return step === NEVER ? Infinity : step / PER_NAT;
}

function probability(step) {
  return Math.exp(-nats(step));
}

function mean(values) {
  return values.reduce((sum, value) => sum + value, 0) / Math.max(1, values.length);
}
