// The estimated kernel: its picture and its widths; both as in Python (imaging/drawing.py, degradation/kernel_measures.py).

/** Draw a kernel, n x n: black at 0, lightest at the maximum, negative entries in blue. colours: of -1 to 1, as RGB. */
export function drawKernel(canvas, kernel, colours) {
  const n = Math.sqrt(kernel.length);
  canvas.width = canvas.height = n;
  const largest = Math.max(...kernel);
  const pixels = new ImageData(n, n);
  kernel.forEach((value, index) => {
    const place = Math.round(((Math.max(value / largest, -1) + 1) / 2) * (colours.length - 1));
    pixels.data.set([...colours[place], 255], 4 * index);
  });
  canvas.getContext("2d").putImageData(pixels, 0, 0);
}

/** Standard deviations along the principal axes of a kernel, n x n, the larger first. */
export function widths(kernel) {
  const n = Math.sqrt(kernel.length);
  const sum = (f) => kernel.reduce((total, value, index) => total + value * f(index % n, Math.floor(index / n)), 0);
  const moment = (f) => sum(f) / sum(() => 1);
  const [x, y] = [moment((column) => column), moment((_, row) => row)];
  const [varX, varY] = [moment((column) => (column - x) ** 2), moment((_, row) => (row - y) ** 2)];
  const covariance = moment((column, row) => (column - x) * (row - y));
  const spread = Math.hypot((varX - varY) / 2, covariance);
  return [1, -1].map((sign) => Math.sqrt(Math.max(0, (varX + varY) / 2 + sign * spread)));
}
