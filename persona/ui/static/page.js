"use strict";

// Progress of long work: the server sends its state, and the page is loaded again when it has ended.
for (const box of document.querySelectorAll("[data-job]")) {
  const source = new EventSource("events?job=" + encodeURIComponent(box.dataset.job));
  const bar = box.querySelector("progress");
  const show = (text) => {
    const state = JSON.parse(text);
    box.querySelector("[data-label]").textContent = state.label;
    const said = box.querySelector("[data-text]");
    if (said) said.textContent = state.text;
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

// Sliders: each follows the number beside it, and the command line says what the form would do.
const quoted = (word) => (/^[\w@%+=:,./-]+$/.test(word) ? word : "'" + word.replaceAll("'", "'\"'\"'") + "'");

for (const form of document.querySelectorAll("[data-command]")) {
  const line = form.querySelector("[data-line]");
  const rows = [...form.querySelectorAll("[data-strength]")];
  const message = form.elements.message;
  const show = () => {
    const words = ["persona", form.dataset.command];
    for (const row of rows) {
      const value = row.querySelector("input[type=number]").value;
      const changed = value !== "" && Number(value) !== Number(row.dataset.committed);
      row.classList.toggle("changed", changed);
      const name = row.dataset.strength;
      if (changed) words.push(...(name === "scale" ? ["--scale", value] : [name.slice("alpha.".length) + "=" + value]));
    }
    const changes = words.length > 2;
    if (message.value.trim()) words.push("-m", message.value.trim());
    line.textContent = changes ? words.map(quoted).join(" ") : "nothing is changed yet";
  };
  for (const row of rows) {
    const slider = row.querySelector("input[type=range]");
    const number = row.querySelector("input[type=number]");
    slider.hidden = false;
    slider.addEventListener("input", () => {
      number.value = slider.value;
      show();
    });
    number.addEventListener("input", () => {
      if (number.value !== "") slider.value = number.value;
      show();
    });
  }
  message.addEventListener("input", show);
  message.addEventListener("keydown", (event) => {
    if (event.key === "Enter") {
      event.preventDefault();
      form.requestSubmit(form.querySelector("[data-default]"));
    }
  });
  form.addEventListener("reset", () => setTimeout(show));
  show();
}

// The chat answers with the strengths of the sliders, committed or not.
for (const form of document.querySelectorAll("[data-with]")) {
  form.addEventListener("formdata", (event) => {
    for (const [name, value] of new FormData(document.getElementById(form.dataset.with))) {
      if (name === "scale" || name.startsWith("alpha.")) event.formData.set(name, value);
    }
  });
}
