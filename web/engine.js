// The engine of blinddiff's graphs, as blinddiff.light in Python: estimate, decide, restore in tiles. The constants, here
// "settings", come from Python (scripts/build_web.py); tests/browser/test_web.py compares the results.

import { addWeighted, crop, emptyPlanes, resize } from "./images.js";
import { widths } from "./kernel.js";

const ESTIMATES = ["kernel", "noise_level", "expected_kernel_error", "noise_spectrum"];

/** As Python's round: halves to even numbers. */
function round(value) {
  const rounded = Math.round(value);
  return rounded - value === 0.5 && rounded % 2 ? rounded - 1 : rounded;
}

/** Tiles along an axis: start, stop and blending weights; see blinddiff.sampling.spans. */
export function spans(length, unit, settings) {
  const padded = Math.ceil(length / unit) * unit;
  const overlap = Math.ceil((2 * settings.halo + settings.ramp) / unit) * unit;
  const side = Math.max(Math.floor(settings.tile / unit) * unit, 2 * overlap);
  if (length <= side) return [{ start: 0, stop: length, weights: new Float32Array(length).fill(1) }];
  const count = Math.ceil((padded - overlap) / (side - overlap));
  const starts = Array.from({ length: count }, (_, i) => round((i * (padded - side)) / (count - 1) / unit) * unit);
  const cuts = starts.slice(1).map((start, i) => (start + starts[i] + side) / 2);
  const ramp = (distance) => Math.sin((Math.min(Math.max(distance / settings.ramp + 0.5, 0), 1) * Math.PI) / 2) ** 2;
  return starts.map((start, i) => {
    const stop = Math.min(start + side, length);
    const weights = Float32Array.from({ length: stop - start }, (_, k) => {
      const position = start + k + 0.5;
      const left = i > 0 ? ramp(position - cuts[i - 1]) : 1;
      return left * (i < cuts.length ? ramp(cuts[i] - position) : 1);
    });
    return { start, stop, weights };
  });
}

/** A kernel, n x n, with half the width and the same sum about the centre; see blinddiff.sampling.decision. */
export function halved(kernel) {
  const n = Math.sqrt(kernel.length);
  const centre = Math.floor(n / 2);
  const weight = (row, k) => Math.max(0, 1 - Math.abs(row - centre - (k - centre) / 2));
  const result = new Float32Array(n * n);
  for (let row = 0; row < n; row++) {
    for (let column = 0; column < n; column++) {
      let sum = 0;
      for (let i = 0; i < n; i++) {
        for (let j = 0; weight(row, i) && j < n; j++) sum += weight(row, i) * kernel[i * n + j] * weight(column, j);
      }
      result[row * n + column] = sum;
    }
  }
  return result;
}

function meanSquare(values) {
  return values.reduce((sum, value) => sum + value * value, 0) / values.length;
}

/** Means of the three channels, and the share of values that are black or white. */
function levels({ data }) {
  const size = data.length / 3;
  const means = [0, 1, 2].map((channel) => {
    return data.subarray(channel * size, (channel + 1) * size).reduce((sum, value) => sum + value, 0) / size;
  });
  return { means, clipped: data.reduce((count, value) => count + (value <= 0 || value >= 1), 0) / data.length };
}

const FALLBACKS = {
  milder_data_term(estimate, residual) {
    const rms = Math.sqrt(meanSquare(residual.data));
    return { ...estimate, noise_level: Float32Array.of(2 * Math.max(estimate.noise_level[0], rms)) };
  },
  sharper_kernel(estimate, residual) {
    return { ...FALLBACKS.milder_data_term(estimate, residual), kernel: halved(estimate.kernel) };
  },
  no_deblurring(estimate) {
    const kernel = new Float32Array(estimate.kernel.length);
    const n = Math.sqrt(kernel.length);
    kernel[Math.floor(n / 2) * n + Math.floor(n / 2)] = 1;
    return { ...estimate, kernel };
  },
};

/**
 * Restores pictures.
 *
 * description: the folder's JSON. run: async (graph, scale, inputs) -> outputs, all {name: {data, dims}}.
 */
export class Engine {
  constructor(description, settings, run) {
    Object.assign(this, { description, settings, run });
  }

  /** The largest scale of the graphs that may restore planes for a scale. */
  largestScale(scale) {
    return scale === 1 && this.description.scales.includes(2) ? 2 : scale;
  }

  /** The scale of the graphs that restore planes for a scale; see blinddiff.sampling.decision. */
  async #workingScale(y, scale, jpegStep) {
    if (this.largestScale(scale) === scale) return scale;
    const { wide, sharp, clean, reliable_kernel_error: reliable } = this.settings;
    const { estimate } = await this.#estimate(y, scale, jpegStep);
    const [major] = widths(estimate.kernel);
    if (major > wide && estimate.expected_kernel_error[0] < reliable) return 1;
    return major < sharp && estimate.noise_level[0] < clean ? 1 : 2;
  }

  /**
   * Restore planes. Returns {x, kernel, noiseLevel, consistency, expectedKernelError, decision: {factor, fallback}}.
   *
   * onTile: called after each tile with (finished tiles, all tiles), again from 0 for a milder restoration.
   */
  async restore(y, scale, mode, jpegStep, onTile) {
    const working = await this.#workingScale(y, scale, jpegStep);
    const out = await this.#restoreSafely(y, working, jpegStep, (...given) => this.#restore(...given, mode, onTile));
    if (working === scale) return out;
    const half = [out.x.height, out.x.width].map((side) => Math.floor(side / 2));
    return { ...out, x: resize(out.x, ...half, [0, 1]), kernel: halved(out.kernel) };
  }

  async #restoreSafely(y, scale, jpegStep, restore) {
    const { certain, smallest_factor: smallestFactor, as_estimated: asEstimated } = this.settings;
    const { estimate, probabilities, factor } = await this.#estimate(y, scale, jpegStep);
    const expectedKernelError = estimate.expected_kernel_error[0];
    const found = (restored, enlarged, fallback) => ({
      x: restored.x,
      kernel: restored.kernel,
      noiseLevel: restored.noiseLevel,
      consistency: this.#consistency(restored),
      expectedKernelError,
      decision: { factor: enlarged, fallback },
    });
    if (probabilities.enlarged >= certain && factor >= smallestFactor) {
      const restored = await this.#restoreFromOwnSize(y, scale, factor, restore);
      return found(restored, factor, asEstimated);
    }
    let restored = await restore(y, scale, estimate);
    let taken = asEstimated;
    for (const [kind, name] of Object.entries(this.settings.fallbacks)) {
      if (this.#isAcceptable(y, restored)) break;
      taken = name;
      restored = await restore(y, scale, FALLBACKS[kind](estimate, restored.residual));
    }
    return found(restored, 1, taken);
  }

  /** Reduce an enlarged picture by its factor, restore it, and resize the result to the size asked for. */
  async #restoreFromOwnSize(y, scale, factor, restore) {
    const { scales } = this.description;
    const size = [y.height, y.width].map((side) => Math.max(this.description.smallest_side, round(side / factor)));
    const own = scales.find((each) => each > scale * factor - 0.25) ?? scales.at(-1);
    const reduced = resize(y, ...size, [0, 1]);
    const { estimate } = await this.#estimate(reduced, own, 0);
    const restored = await restore(reduced, own, estimate);
    return { ...restored, x: resize(restored.x, y.height * scale, y.width * scale, [0, 1]) };
  }

  async #estimate(y, scale, jpegStep) {
    const out = await this.run("estimate", scale, { ...image(y), jpeg_step: tensor(Float32Array.of(jpegStep)) });
    const kinds = this.description.picture_kinds;
    return {
      estimate: Object.fromEntries(ESTIMATES.map((name) => [name, out[name].data])),
      probabilities: Object.fromEntries(kinds.map((kind, index) => [kind, out.picture_probabilities.data[index]])),
      factor: out.enlarged_by.data[0],
    };
  }

  async #restore(y, scale, estimate, mode, onTile) {
    const unit = leastCommonMultiple(scale, this.description.size_multiple);
    const rows = spans(y.height * scale, unit, this.settings);
    const columns = spans(y.width * scale, unit, this.settings);
    const x = emptyPlanes(y.height * scale, y.width * scale);
    const residual = emptyPlanes(y.height, y.width);
    const kernel = new Float32Array(estimate.kernel.length);
    let [noiseLevel, total, finished] = [0, 0, 0];
    const inputs = {
      kernel: square(estimate.kernel),
      noise_level: tensor(estimate.noise_level),
      expected_kernel_error: tensor(estimate.expected_kernel_error),
      noise_spectrum: square(estimate.noise_spectrum),
    };
    onTile(0, rows.length * columns.length);
    for (const row of rows) {
      for (const column of columns) {
        const [top, left] = [row.start / scale, column.start / scale];
        const part = crop(y, top, left, (row.stop - row.start) / scale, (column.stop - column.start) / scale);
        const out = await this.run(`restore_${mode}`, scale, { ...image(part), ...inputs });
        addWeighted(x, out.x.data, row.start, column.start, row.weights, column.weights);
        const middle = (weights) => weights.filter((_, index) => index % scale === Math.floor(scale / 2));
        addWeighted(residual, out.residual.data, top, left, middle(row.weights), middle(column.weights));
        const share = gradientEnergy(part);
        out.refined_kernel.data.forEach((value, index) => (kernel[index] += share * value));
        noiseLevel += share * out.refined_noise_level.data[0];
        total += share;
        onTile(++finished, rows.length * columns.length);
      }
    }
    return { x, residual, kernel: kernel.map((value) => value / total), noiseLevel: noiseLevel / total };
  }

  /** RMS of the residual divided by that expected from noise and rounding. */
  #consistency({ residual, noiseLevel }) {
    return Math.sqrt(meanSquare(residual.data) / (noiseLevel ** 2 + this.settings.rounding ** 2));
  }

  #isAcceptable(y, restored) {
    const [before, after] = [levels(y), levels(restored.x)];
    const limits = this.description.acceptable;
    return (
      this.#consistency(restored) <= limits.consistency &&
      255 * Math.max(...after.means.map((mean, index) => Math.abs(mean - before.means[index]))) <= limits.colour_shift &&
      after.clipped - before.clipped <= limits.clipped
    );
  }
}

/** Sum of squared differences of neighbouring pixels; above 0, so that flat tiles weigh alike. */
function gradientEnergy({ data, height, width }) {
  const size = height * width;
  const grey = (index) => (data[index] + data[size + index] + data[2 * size + index]) / 3;
  let sum = 1e-30;
  for (let index = 0; index < size; index++) {
    if ((index + 1) % width) sum += (grey(index + 1) - grey(index)) ** 2;
    if (index + width < size) sum += (grey(index + width) - grey(index)) ** 2;
  }
  return sum;
}

function leastCommonMultiple(a, b) {
  const divisor = (m, n) => (n ? divisor(n, m % n) : m);
  return (a * b) / divisor(a, b);
}

function tensor(data, dims = [data.length]) {
  return { data, dims };
}

function square(data) {
  const side = Math.sqrt(data.length);
  return tensor(data, [1, side, side]);
}

function image({ data, height, width }) {
  return { y: tensor(data, [1, 3, height, width]) };
}
