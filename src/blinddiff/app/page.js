// What Gradio lacks: photographs from the clipboard, and two pictures at full size that scroll together.
document.addEventListener("paste", (event) => {
  const pasted = [...(event.clipboardData?.files ?? [])].filter((file) => file.type.startsWith("image/"));
  if (!pasted.length) return;
  event.preventDefault();
  const give = (tries) => {
    const input = document.querySelector("#upload input[type=file]");
    if (!input) {
      // A chosen file hides the field.
      if (tries === 20) document.querySelector("#upload button[aria-label='Clear']")?.click();
      if (tries > 0) setTimeout(give, 50, tries - 1);
      return;
    }
    const transfer = new DataTransfer();
    pasted.forEach((file) => transfer.items.add(file));
    input.files = transfer.files;
    input.dispatchEvent(new Event("change", { bubbles: true }));
  };
  give(20);
});
document.addEventListener("scroll", (event) => {
  const pane = event.target;
  if (!pane.classList?.contains("pane")) return;
  for (const other of pane.closest(".pair").querySelectorAll(".pane")) {
    if (other !== pane) other.scrollTo(pane.scrollLeft, pane.scrollTop);
  }
}, true);
