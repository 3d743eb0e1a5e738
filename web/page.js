// The page: takes a picture, gives it to the worker, and shows what comes back.

import { drawKernel, widths } from "./kernel.js";

const MODES = { fidelity: "Fidelity: closest on average", fast: "Fast: nearly as close, in half the time" };
const elements = Object.fromEntries([...document.querySelectorAll("[id]")].map((element) => [element.id, element]));
const settings = await (await fetch("settings.json")).json();
let worker = null;
let chosen = null;
let busy = false;

startWorker();
keepOffline();

/** Start a worker; it replaces one that works. */
function startWorker() {
  worker?.terminate();
  worker = new Worker("worker.js", { type: "module" });
  worker.addEventListener("error", (event) => fail(event.message ?? "the page cannot be loaded"));
  worker.addEventListener("message", ({ data }) => {
    if (data.ready) ready(data.ready);
    if (data.status) progress(data.status, data.share ?? null);
    if (data.error) fail(data.error);
    if (data.result) show(data.result);
  });
}

function ready({ scales, modes }) {
  if (!elements.scale.length) {
    elements.scale.replaceChildren(...scales.map((scale) => new Option(scale, scale, false, scale === scales.at(-1))));
    elements.mode.replaceChildren(...modes.map((mode) => new Option(MODES[mode] ?? mode, mode)));
    elements.status.textContent = "Ready";
  }
  update();
}

function update() {
  elements.restore.disabled = busy || !chosen || !elements.scale.length;
  elements.stop.hidden = elements.progress.hidden = !busy;
}

function progress(text, share) {
  elements.status.textContent = text;
  if (share === null) elements.progress.removeAttribute("value");
  else elements.progress.value = share;
}

function end(text) {
  busy = false;
  elements.status.textContent = text;
  update();
}

function fail(message) {
  end(`Not restored: ${message}`);
}

function choose(file) {
  if (!file) return;
  chosen = file;
  elements.name.textContent = file.name;
  update();
}

function show(found) {
  for (const name of ["before", "after"]) {
    const { image, height, width } = found[name];
    const canvas = elements[name];
    [canvas.height, canvas.width] = [height, width];
    canvas.getContext("2d").putImageData(new ImageData(image, width, height), 0, 0);
  }
  drawKernel(elements.kernel, found.kernel, settings.colours);
  elements.figures.replaceChildren(...figures(found).map(row));
  elements.note.textContent = notes(found).join(" ");
  offerDownload(found.scale);
  elements.result.hidden = false;
  end(`Done in ${found.seconds.toFixed(1)} s`);
}

function figures({ kernel, noiseLevel, consistency, after, threads }) {
  return [
    ["Size", `${after.width} x ${after.height} pixels`],
    ["Kernel widths", `${widths(kernel).map((each) => each.toFixed(2)).join(" x ")} pixels`],
    ["Noise", `${noiseLevel.toFixed(1)} grey levels`],
    ["Consistency", `${consistency.toFixed(2)} (near 1 is good)`],
    ["Threads", threads],
  ];
}

function row([name, value]) {
  const line = document.createElement("tr");
  const [head, cell] = ["th", "td"].map((tag) => line.appendChild(document.createElement(tag)));
  head.scope = "row";
  [head.textContent, cell.textContent] = [name, value];
  return line;
}

function notes({ decision, expectedKernelError }) {
  const found = [];
  if (decision.factor > 1) {
    found.push(`The picture was enlarged ${decision.factor.toFixed(1)} times before: restored from its own size.`);
  } else if (decision.fallback !== settings.as_estimated) {
    found.push(`The estimate did not agree with the picture: restored ${decision.fallback}.`);
  }
  if (expectedKernelError >= settings.unreliable_kernel_error) {
    found.push("The kernel cannot be determined from this picture.");
  }
  return found;
}

function offerDownload(scale) {
  const link = elements.download;
  URL.revokeObjectURL(link.href);
  link.removeAttribute("href");
  link.download = `${chosen.name.replace(/\.[^.]*$/, "")}-x${scale}.png`;
  elements.after.toBlob((blob) => {
    link.href = URL.createObjectURL(blob);
  }, "image/png");
}

elements.form.addEventListener("submit", (event) => {
  event.preventDefault();
  busy = true;
  update();
  progress("Loading the network", null);
  worker.postMessage({ file: chosen, scale: Number(elements.scale.value), mode: elements.mode.value });
});
elements.stop.addEventListener("click", () => {
  startWorker();
  end("Stopped");
});
elements.sample.addEventListener("click", async () => {
  choose(new File([await (await fetch("sample.jpg")).blob()], "sample.jpg"));
});
elements.file.addEventListener("change", () => choose(elements.file.files[0]));
elements.position.addEventListener("input", () => {
  elements.position.parentElement.style.setProperty("--position", `${elements.position.value}%`);
});
for (const name of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(name, (event) => {
    event.preventDefault();
    elements.drop.classList.toggle("over", name === "dragover");
    if (name === "drop") choose(event.dataTransfer.files[0]);
  });
}
document.addEventListener("paste", (event) => choose(event.clipboardData.files[0]));

/** Keep all files for use without a network, and load the page once more if that lets it use threads. */
async function keepOffline() {
  if (!navigator.serviceWorker) return;
  const isNew = !navigator.serviceWorker.controller;
  try {
    await navigator.serviceWorker.register("sw.js");
  } catch {
    return; // the browser does not allow it here; the page works on one thread, with a network
  }
  if (isNew) elements.offline.textContent = "Loading all parts, to work without a network.";
  await navigator.serviceWorker.ready;
  elements.offline.textContent = "Works without a network from now on.";
  if (isNew && !self.crossOriginIsolated && !chosen && !busy) location.reload();
}
