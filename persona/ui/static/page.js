"use strict";

// Progress of long work: the server sends its state, and the page is loaded again when it has ended.
for (const box of document.querySelectorAll("[data-job]")) {
  const source = new EventSource("events?job=" + encodeURIComponent(box.dataset.job));
  const bar = box.querySelector("progress");
  const show = (text) => {
    const state = JSON.parse(text);
    box.querySelector("[data-label]").textContent = state.label;
    if (state.total > 0) {
      bar.max = state.total;
      bar.value = Math.min(state.done, state.total);
    } else {
      bar.removeAttribute("value");
    }
  };
  source.addEventListener("message", (event) => show(event.data));
  source.addEventListener("end", () => {
    source.close();
    location.reload();
  });
}
