// Restores pictures in a thread of its own. Messages: {file, scale, mode} in; {status, share} and {result | error} out.

import * as ort from "./ort.js";
import { Engine } from "./engine.js";
import { jpegStep, toBytes, toPlanes } from "./images.js";

const LARGEST_RESULT = 32e6; // pixels; the memory of WebAssembly ends at 4 GB
const EXACT = { colorSpace: "srgb", willReadFrequently: true };

ort.env.wasm.wasmPaths = { wasm: new URL("./ort.wasm", import.meta.url).href };
ort.env.wasm.numThreads = self.crossOriginIsolated ? Math.min(8, navigator.hardwareConcurrency) : 1;
ort.env.logLevel = "error"; // it warns of every node that it cannot compute in advance

const sessions = new Map();
const loading = Promise.all(["graphs/blinddiff.json", "settings.json"].map(loadJson)).then(([description, settings]) => {
  self.postMessage({ ready: { scales: description.scales, modes: description.modes } });
  return new Engine(description, settings, run);
});
loading.catch(fail);
self.addEventListener("message", ({ data }) => restore(data).catch(fail));

function fail(error) {
  self.postMessage({ error: error.message ?? String(error) });
}

async function loadJson(path) {
  return (await fetched(path)).json();
}

async function fetched(path) {
  const response = await fetch(new URL(path, import.meta.url));
  if (!response.ok) throw new Error(`${path} cannot be loaded (${response.status})`);
  return response;
}

async function bytesOf(path) {
  return new Uint8Array(await (await fetched(path)).arrayBuffer());
}

function session(name) {
  if (!sessions.has(name)) sessions.set(name, load(name));
  return sessions.get(name);
}

async function load(name) {
  const linked = (await loading).description.weights?.file;
  const externalData = linked && [{ path: linked, data: await weights(linked) }];
  return ort.InferenceSession.create(await bytesOf(`graphs/${name}.onnx`), { externalData, executionProviders: ["wasm"] });
}

let loadedWeights;
function weights(path) {
  return (loadedWeights ??= bytesOf(`graphs/${path}`));
}

async function run(part, scale, inputs) {
  const loaded = await session(`${part}_x${scale}`);
  const tensors = Object.entries(inputs).map(([name, { data, dims }]) => [name, new ort.Tensor("float32", data, dims)]);
  return loaded.run(Object.fromEntries(tensors));
}

async function restore({ file, scale, mode }) {
  const engine = await loading;
  const bytes = new Uint8Array(await file.arrayBuffer());
  const y = await decode(file);
  if (Math.min(y.height, y.width) < engine.description.smallest_side) {
    throw new Error(`a picture of ${y.width} x ${y.height} pixels is too small`);
  }
  const pixels = y.height * y.width * engine.largestScale(scale) ** 2;
  if (pixels > LARGEST_RESULT) {
    throw new Error(`a result of ${(pixels / 1e6).toFixed()} megapixels is too large for a browser: choose a smaller scale or picture`);
  }
  self.postMessage({ status: "Estimating blur and noise" });
  const started = performance.now();
  const { x, ...found } = await engine.restore(toPlanes(y), scale, mode, jpegStep(bytes), (finished, all) => {
    const share = finished ? finished / all : null;
    self.postMessage({ status: all > 1 ? `Restoring: tile ${Math.min(finished + 1, all)} of ${all}` : "Restoring", share });
  });
  const seconds = (performance.now() - started) / 1000;
  const image = toBytes(x);
  const threads = ort.env.wasm.numThreads;
  const after = { image, height: x.height, width: x.width };
  const before = { image: y.data, height: y.height, width: y.width };
  const result = { after, before, scale, seconds, threads, ...found };
  self.postMessage({ result }, [image.buffer, y.data.buffer]);
}

/** The upright pixels of a file, on white, in sRGB. */
async function decode(file) {
  const bitmap = await createImageBitmap(file).catch(() => {
    throw new Error("this file cannot be read as a picture");
  });
  const context = new OffscreenCanvas(bitmap.width, bitmap.height).getContext("2d", EXACT);
  context.fillStyle = "white";
  context.fillRect(0, 0, bitmap.width, bitmap.height);
  context.drawImage(bitmap, 0, 0);
  return context.getImageData(0, 0, bitmap.width, bitmap.height);
}
