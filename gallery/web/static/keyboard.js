// Keys: u chooses a crop, f opens the filters, arrows walk over the results, a shows the attention.

import { $ } from "./dom.js";

function move(key) {
  const picks = [...document.querySelectorAll(".pick")];
  if (!picks.length) return;
  const here = picks.indexOf(document.activeElement);
  if (here < 0) return picks[0].focus();
  const tops = picks.map((pick) => pick.getBoundingClientRect().top);
  const columns = picks.findIndex((_, i) => tops[i] > tops[0] + 5);
  const row = columns > 0 ? columns : picks.length;
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -row, ArrowDown: row }[key];
  picks[Math.min(picks.length - 1, Math.max(0, here + step))].focus();
}

export function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input:not([type=checkbox], [type=file]), select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key.startsWith("Arrow")) move(event.key);
  else if (event.key === "u") $("file").click();
  else if (event.key === "f") toggleFilters();
  else if (event.key === "a") (document.activeElement.closest(".card")?.querySelector(".attend") ?? $("attention")).click();
  else return;
  event.preventDefault();
}

function toggleFilters() {
  $("filters").open = !$("filters").open;
  ($("filters").open ? $("filters").querySelector("fieldset:not([hidden]) select, #where") : $("filters").querySelector("summary")).focus();
}
