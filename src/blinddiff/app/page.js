// What Gradio lacks: photographs from the clipboard, and two pictures at full size that scroll together.
document.addEventListener("paste", (event) => {
  const pasted = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
  const input = document.querySelector("#upload input[type=file]");
  if (!pasted.length || !input) return;
  event.preventDefault();
  const transfer = new DataTransfer();
  pasted.forEach((file) => transfer.items.add(file));
  input.files = transfer.files;
  input.dispatchEvent(new Event("change", { bubbles: true }));
});
document.addEventListener("scroll", (event) => {
  const pane = event.target;
  if (!pane.classList?.contains("pane")) return;
  for (const other of pane.closest(".pair").querySelectorAll(".pane")) {
    if (other !== pane) other.scrollTo(pane.scrollLeft, pane.scrollTop);
  }
}, true);
