// The query: an uploaded crop or a row of the gallery, its picture and its buttons.

import { readState } from "./address.js";
import { $, make } from "./dom.js";
import { setBlob, setImage, toggleAttention } from "./pictures.js";

const KEPT = 30; // uploads whose picture can be shown again
const uploads = new Map(); // v -> uploaded file, while the page is open
let shown = { id: null, v: null }; // the query whose picture is on the page

export const fileOf = (state) => uploads.get(state.v);

export function keepUpload(v, file) {
  uploads.set(v, file);
  if (uploads.size > KEPT) uploads.delete(uploads.keys().next().value);
}

export function clearQuery() {
  shown = { id: null, v: null };
  $("drop").classList.remove("full");
  $("drop-empty").hidden = false;
  $("drop").querySelector(".gone")?.remove();
  $("query-image").hidden = $("query-none").hidden = $("query-info").hidden = true;
}

export function showQuery(state, hasAttention) {
  if (shown.id === state.id && shown.v === state.v) return;
  clearQuery();
  shown = { id: state.id, v: state.v };
  const file = fileOf(state);
  const img = make("img");
  Object.assign(img, { id: "query-image", alt: "The query" });
  $("query-image").replaceWith(img);
  $("drop").classList.add("full");
  $("drop-empty").hidden = true;
  $("query-info").hidden = false;
  img.hidden = !state.id && !file;
  $("query-none").hidden = !img.hidden;
  showPlain(img, state);
  $("query-text").textContent = state.id ? "" : file?.name ?? "";
  $("attention").hidden = !hasAttention || img.hidden;
  $("attention").setAttribute("aria-pressed", "false");
}

function showPlain(img, state) {
  if (state.id) setImage(img, state.id);
  else if (fileOf(state)) setBlob(img, fileOf(state));
}

export function attendQuery(fail) {
  const state = readState();
  const img = $("query-image");
  const form = new FormData();
  if (fileOf(state)) form.append("image", fileOf(state));
  if (state.own) form.append("camera", state.own);
  toggleAttention($("attention"), img, state.id ? { id: Number(state.id) } : form, () => showPlain(img, state), fail);
}
