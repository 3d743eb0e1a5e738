// Pictures as planes: three channels of floats in [0, 1], one after the other, with a height and a width.

/** Planes without content. */
export function emptyPlanes(height, width) {
  return { data: new Float32Array(3 * height * width), height, width };
}

/** Planes of the RGBA bytes of a canvas; transparency is ignored. */
export function toPlanes({ data, height, width }) {
  const planes = emptyPlanes(height, width);
  const size = height * width;
  for (let index = 0; index < size; index++) {
    for (let channel = 0; channel < 3; channel++) {
      planes.data[channel * size + index] = data[4 * index + channel] / 255;
    }
  }
  return planes;
}

/** RGBA bytes of planes, rounded as Python does: halves to even numbers. */
export function toBytes({ data, height, width }) {
  const size = height * width;
  const bytes = new Uint8ClampedArray(4 * size);
  for (let index = 0; index < size; index++) {
    for (let channel = 0; channel < 3; channel++) {
      bytes[4 * index + channel] = 255 * data[channel * size + index];
    }
    bytes[4 * index + 3] = 255;
  }
  return bytes;
}

/** A part of planes. */
export function crop({ data, height, width }, top, left, rows, columns) {
  const part = emptyPlanes(rows, columns);
  for (let channel = 0; channel < 3; channel++) {
    for (let row = 0; row < rows; row++) {
      const start = (channel * height + top + row) * width + left;
      part.data.set(data.subarray(start, start + columns), (channel * rows + row) * columns);
    }
  }
  return part;
}

/** Add a part, multiplied by row and column weights, to planes, in place. */
export function addWeighted(planes, part, top, left, rowWeights, columnWeights) {
  for (let channel = 0; channel < 3; channel++) {
    for (let row = 0; row < rowWeights.length; row++) {
      const to = (channel * planes.height + top + row) * planes.width + left;
      const from = (channel * rowWeights.length + row) * columnWeights.length;
      for (let column = 0; column < columnWeights.length; column++) {
        planes.data[to + column] += rowWeights[row] * columnWeights[column] * part[from + column];
      }
    }
  }
}

/** Planes resampled by antialiased bicubic interpolation with a = -0.5, as by Pillow; limits: of the values, or null. */
export function resize(planes, height, width, limits = null) {
  const across = interpolation(planes.width, width);
  const down = interpolation(planes.height, height);
  const narrow = emptyPlanes(planes.height, width);
  for (let row = 0; row < 3 * planes.height; row++) {
    for (let column = 0; column < width; column++) {
      const { first, weights } = across[column];
      let sum = 0;
      for (let k = 0; k < weights.length; k++) sum += weights[k] * planes.data[row * planes.width + first + k];
      narrow.data[row * width + column] = sum;
    }
  }
  const result = emptyPlanes(height, width);
  for (let channel = 0; channel < 3; channel++) {
    for (let row = 0; row < height; row++) {
      const { first, weights } = down[row];
      for (let column = 0; column < width; column++) {
        let sum = 0;
        for (let k = 0; k < weights.length; k++) {
          sum += weights[k] * narrow.data[(channel * planes.height + first + k) * width + column];
        }
        if (limits) sum = Math.min(Math.max(sum, limits[0]), limits[1]);
        result.data[(channel * height + row) * width + column] = sum;
      }
    }
  }
  return result;
}

/** For each new pixel along an axis: the first pixel that counts, and the weights from there. */
function interpolation(length, newLength) {
  const scale = length / newLength;
  const spread = Math.max(1, scale);
  return Array.from({ length: newLength }, (_, index) => {
    const centre = (index + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - 2 * spread + 0.5));
    const last = Math.min(length, Math.trunc(centre + 2 * spread + 0.5));
    const weights = Array.from({ length: last - first }, (_, k) => cubic((first + k - centre + 0.5) / spread));
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return { first, weights: weights.map((weight) => weight / total) };
  });
}

function cubic(x) {
  const a = -0.5;
  const distance = Math.abs(x);
  if (distance < 1) return ((a + 2) * distance - (a + 3)) * distance * distance + 1;
  if (distance < 2) return (((distance - 5) * distance + 8) * distance - 4) * a;
  return 0;
}

/** Mean step of the luma quantisation table in the bytes of a JPEG file; 0 for other files. */
export function jpegStep(bytes) {
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return 0;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let step = 0;
  for (let at = 2; at + 4 <= bytes.length && bytes[at] === 0xff && bytes[at + 1] !== 0xda; ) {
    const end = at + 2 + view.getUint16(at + 2);
    if (bytes[at + 1] === 0xdb) {
      for (let table = at + 4; table < end; ) {
        const size = bytes[table] >> 4 ? 2 : 1;
        if (table + 1 + 64 * size > bytes.length) return step;
        if ((bytes[table] & 15) === 0) {
          let sum = 0;
          for (let k = 0; k < 64; k++) {
            sum += size === 2 ? view.getUint16(table + 1 + 2 * k) : bytes[table + 1 + k];
          }
          step = sum / 64;
        }
        table += 1 + 64 * size;
      }
    }
    at = end;
  }
  return step;
}
