// The filters beside the query: built from what the gallery holds, shown from the address, read into it.

import { conditions, readState } from "./address.js";
import { $, make, number } from "./dom.js";
import { asInput, isDate, localZone, pointText, withZone } from "./times.js";

let hasDates = false;

export function buildFilters(facets) {
  $("about").textContent = `${number(facets.count)} images` +
    (facets.cameras.length ? `, ${facets.cameras.length} camera${facets.cameras.length > 1 ? "s" : ""}` : "") +
    (facets.threshold === null ? ", no threshold" : `, threshold ${facets.threshold.toPrecision(3)}`);
  for (const { name, count } of facets.cameras) {
    const chip = make("label", "chip");
    const box = make("input");
    box.type = "checkbox";
    box.value = name;
    chip.append(box, `${name} `, make("span", "quiet", number(count)));
    $("cameras").append(chip);
    $("own-camera").append(new Option(name, name));
  }
  $("camera-filter").hidden = !facets.cameras.length;
  $("time-filter").hidden = !facets.time;
  if (facets.time) buildTimes(facets.time);
}

function buildTimes(time) {
  hasDates = isDate(time[1]);
  $("time-unit").textContent = hasDates ? `(your time, ${localZone(time[1])})` : "(seconds)";
  for (const [i, id] of ["from", "to"].entries()) {
    Object.assign($(id), hasDates
      ? { type: "datetime-local", title: `the gallery's images: ${time.map((point) => pointText(point)).join(" to ")}` }
      : { type: "number", step: "any", placeholder: String(time[i]) });
  }
}

export function showFilters(state) {
  for (const box of $("cameras").querySelectorAll("input")) box.checked = state.camera.includes(box.value);
  $("camera-mode").value = state.not;
  for (const id of ["from", "to"]) if (document.activeElement !== $(id)) $(id).value = hasDates ? asInput(state[id]) : state[id];
  if (document.activeElement !== $("where")) $("where").value = state.where;
  for (const id of ["others", "rerank"]) $(id).checked = !!state[id];
  $("topk").value = state.topk || "20";
  $("own-camera").value = state.own;
  const count = conditions(state).length + Boolean(state.others);
  $("filter-count").textContent = count || "";
}

// The state with what the visitor has chosen.
export function chosenFilters() {
  const state = readState();
  state.camera = [...$("cameras").querySelectorAll(":checked")].map((box) => box.value);
  state.not = $("camera-mode").value;
  for (const id of ["from", "to"]) state[id] = hasDates ? withZone($(id).value) : $(id).value;
  state.where = $("where").value.trim();
  for (const id of ["others", "rerank"]) state[id] = $(id).checked ? "1" : "";
  state.topk = $("topk").value === "20" ? "" : $("topk").value;
  state.own = $("own-camera").value;
  return state;
}

export const withoutFilters = (state) => ({ ...state, camera: [], not: "", from: "", to: "", others: "", where: "" });
