// The page's state is its address; see requests.js.

import { Failure, addressOf, ask, conditions, pack, post, readState, searchFields } from "./requests.js";

const $ = (id) => document.getElementById(id);
const uploads = new Map(); // v -> uploaded file, while the page is open
let facets = null;
let shown = { id: null, v: null }; // the query whose picture is on the page
let searching = null; // AbortController of the running search

// ---- searching

function write(state, { replace = false } = {}) {
  const address = addressOf(state);
  if (address !== (location.hash || "#")) history[replace ? "replaceState" : "pushState"](null, "", address);
  return run();
}

async function run() {
  const state = readState();
  showFilters(state);
  searching?.abort();
  const own = (searching = new AbortController());
  document.body.classList.add("busy");
  try {
    $("error").hidden = true;
    if (!state.id && !state.v) return start();
    showQuery(state);
    const answer = await (await post("search", searchFields(state), { signal: own.signal })).json();
    if (own === searching) showAnswer(answer, state);
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
  } finally {
    if (own === searching) document.body.classList.remove("busy");
  }
}

function fail(error) {
  if (!(error instanceof Failure)) console.error(error);
  $("error").textContent = error instanceof Failure ? error.message : `Something went wrong in the page: ${error.message}`;
  $("error").hidden = false;
  $("verdict").textContent = "";
  $("results").replaceChildren();
}

async function upload(file) {
  if (!file) return;
  $("error").hidden = true;
  document.body.classList.add("busy");
  try {
    if (facets && file.size > facets.max_bytes) {
      throw new Failure(`The file is larger than ${facets.max_bytes / 1e6} MB; send the crop of the person alone.`);
    }
    const form = new FormData();
    form.append("image", file);
    const state = readState();
    if (state.own) form.append("camera", state.own);
    const v = pack((await (await post("embed", form)).json()).vector);
    uploads.set(v, file);
    if (uploads.size > 30) uploads.delete(uploads.keys().next().value);
    await write({ ...state, id: "", v });
  } catch (error) {
    fail(error);
  } finally {
    document.body.classList.remove("busy");
    $("file").value = "";
  }
}

// ---- query and results

const number = (value) => value.toLocaleString("en");
const isDate = () => facets?.time && facets.time[1] > 1e8; // seconds since 1970, or of a film
const when = (time) => (time > 1e8 ? new Date(time * 1000).toISOString().slice(0, 19).replace("T", " ") : `${+time.toFixed(2)} s`);

function make(name, kind, text = "") {
  const element = document.createElement(name);
  if (kind) element.className = kind;
  element.textContent = text;
  return element;
}

// Show the image of a row.
async function setImage(img, id) {
  img.onerror = () => {
    img.hidden = true;
    img.after(make("span", "gone", "The image is gone"));
  };
  if (!sessionStorage.getItem("token")) img.src = `image/${id}`;
  else await ask(`image/${id}`).then((response) => response.blob()).then((blob) => setBlob(img, blob)).catch(() => img.onerror());
}

// Show a file; its object URL is freed once the picture is loaded.
function setBlob(img, blob) {
  const address = URL.createObjectURL(blob);
  for (const end of ["load", "error"]) img.addEventListener(end, () => URL.revokeObjectURL(address), { once: true });
  img.loading = "eager"; // a lazy image that is never scrolled to would keep its object URL
  img.src = address;
}

function clearQuery() {
  shown = { id: null, v: null };
  $("drop").classList.remove("full");
  $("drop-empty").hidden = false;
  $("drop").querySelector(".gone")?.remove();
  $("query-image").hidden = $("query-none").hidden = $("query-info").hidden = true;
}

function showQuery(state) {
  if (shown.id === state.id && shown.v === state.v) return;
  clearQuery();
  shown = { id: state.id, v: state.v };
  const file = uploads.get(state.v);
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
  $("attention").hidden = !facets?.attention || img.hidden;
  $("attention").setAttribute("aria-pressed", "false");
}

function showPlain(img, state) {
  if (state.id) setImage(img, state.id);
  else if (uploads.has(state.v)) setBlob(img, uploads.get(state.v));
}

function start() {
  clearQuery();
  $("verdict").textContent = facets?.count ? "Choose a crop, or start with a person from the gallery:" : "The gallery is empty.";
  $("results").replaceChildren(...(facets?.examples ?? []).map((id) => card({ id })));
}

function describeVerdict(answer, state) {
  const { results, threshold } = answer;
  const same = results.filter((found) => found.verdict === "same").length;
  const limit = threshold?.toPrecision(3);
  if (!results.length) return ["", "No image of the gallery passes these filters."];
  if (threshold === null) return ["unknown", "The gallery has no threshold, so there is no verdict: compare the distances."];
  if (same) return ["same", `${same} of ${results.length} within the threshold ${limit}.`];
  if (answer.verdict === "match") return ["same", `A person is within the threshold ${limit}, but re-ranked below these ${results.length}: choose more results, or switch re-ranking off.`];
  return ["unknown", `Nobody here is within the threshold ${limit}${conditions(state).length || state.others ? " and the filters" : ""}.`];
}

function showAnswer(answer, state) {
  const [kind, text] = describeVerdict(answer, state);
  const texts = { same: "same person", unknown: "unknown person" };
  $("verdict").replaceChildren(...(kind ? [make("span", `badge ${kind}`, answer.threshold === null ? "unknown" : texts[kind]), " "] : []), text);
  if (answer.query.record) $("query-text").replaceChildren(...spans(answer.query.record));
  const cards = answer.results.map((found, i) => card(found, i + 1));
  const first = answer.results.findIndex((found) => found.verdict === "different");
  const inOrder = answer.results.slice(first).every((found) => found.verdict === "different");
  if (first >= 0 && inOrder) cards.splice(first, 0, line(answer.threshold));
  $("results").replaceChildren(...cards);
}

function line(threshold) {
  const rate = facets?.fmr ? ` (${+(100 * facets.fmr).toPrecision(2)} % false matches)` : "";
  return make("li", "threshold", `threshold ${threshold.toPrecision(3)}${rate}`);
}

function facts(record) {
  const found = [];
  if (record.pid !== null && record.pid !== undefined) found.push(`person ${record.pid}`);
  if (record.camera) found.push(`camera ${record.camera}`);
  if (record.time !== null && record.time !== undefined) found.push(when(record.time));
  return found;
}

const spans = (record) => facts(record).map((fact) => make("span", "", fact));

function card({ id, distance, verdict, record }, rank) {
  const item = make("li", `card ${verdict ?? ""}`);
  const pick = make("button", "pick");
  pick.type = "button";
  pick.dataset.id = id;
  const img = make("img");
  img.loading = "lazy";
  img.alt = "";
  pick.append(img);
  setImage(img, id);
  item.append(pick);
  if (!rank) {
    pick.setAttribute("aria-label", `Search for gallery image ${id}`);
    return item;
  }
  const where = facts(record).join(" · ");
  pick.setAttribute("aria-label", `Rank ${rank}, distance ${distance.toFixed(3)}, ${verdict}, ${where}. Search for this one`);
  pick.title = `${record.path}`;
  const top = make("div");
  top.append(make("span", "rank", `${rank}`), make("span", "distance", distance.toFixed(3)), make("span", "badge", verdict));
  const below = make("div");
  const list = make("span", "where");
  list.append(...spans(record));
  below.append(list);
  if (facets?.attention) below.append(attentionButton(img, id));
  const text = make("div", "facts");
  text.append(top, below);
  item.append(text);
  return item;
}

function attentionButton(img, id) {
  const button = make("button", "attend", "attention");
  button.type = "button";
  button.setAttribute("aria-pressed", "false");
  button.addEventListener("click", () => toggleAttention(button, img, { id: Number(id) }, () => setImage(img, id)));
  return button;
}

async function toggleAttention(button, img, query, showPlainImage) {
  const isOn = button.getAttribute("aria-pressed") === "true";
  button.setAttribute("aria-pressed", String(!isOn));
  if (isOn) return showPlainImage();
  try {
    const blob = await (await post("attention", query)).blob();
    if (button.getAttribute("aria-pressed") === "true") setBlob(img, blob); // not switched off meanwhile
  } catch (error) {
    button.setAttribute("aria-pressed", "false");
    fail(error);
  }
}

// ---- filters

function buildFilters() {
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
  if (!facets.time) return;
  $("time-unit").textContent = isDate() ? "(UTC)" : "(seconds)";
  for (const [i, id] of ["from", "to"].entries()) {
    Object.assign($(id), isDate()
      ? { type: "datetime-local", title: `the gallery's images: ${facets.time.map(when).join(" to ")}` }
      : { type: "number", step: "any", placeholder: String(facets.time[i]) });
  }
}

function showFilters(state) {
  for (const box of $("cameras").querySelectorAll("input")) box.checked = state.camera.includes(box.value);
  $("camera-mode").value = state.not;
  for (const id of ["from", "to", "where"]) if (document.activeElement !== $(id)) $(id).value = state[id];
  for (const id of ["others", "rerank"]) $(id).checked = !!state[id];
  $("topk").value = state.topk || "20";
  $("own-camera").value = state.own;
  const count = conditions(state).length + Boolean(state.others);
  $("filter-count").textContent = count || "";
}

async function changeFilters(event) {
  const state = readState();
  state.camera = [...$("cameras").querySelectorAll(":checked")].map((box) => box.value);
  state.not = $("camera-mode").value;
  for (const id of ["from", "to", "where"]) state[id] = $(id).value.trim();
  for (const id of ["others", "rerank"]) state[id] = $(id).checked ? "1" : "";
  state.topk = $("topk").value === "20" ? "" : $("topk").value;
  state.own = $("own-camera").value;
  const file = uploads.get(state.v);
  await write(state, { replace: true });
  if (event?.target === $("own-camera") && file) upload(file); // the camera goes into the embedding
}

// ---- keyboard and mouse

function move(key) {
  const picks = [...document.querySelectorAll(".pick")];
  if (!picks.length) return;
  const here = picks.indexOf(document.activeElement);
  if (here < 0) return picks[0].focus();
  const tops = picks.map((pick) => pick.getBoundingClientRect().top);
  const columns = picks.findIndex((_, i) => tops[i] > tops[0] + 5);
  const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -(columns > 0 ? columns : picks.length), ArrowDown: columns > 0 ? columns : picks.length }[key];
  picks[Math.min(picks.length - 1, Math.max(0, here + step))].focus();
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("login").open) return;
  if (event.target.matches("input:not([type=checkbox]), select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  if (event.key.startsWith("Arrow")) move(event.key);
  else if (event.key === "u") $("file").click();
  else if (event.key === "f") toggleFilters();
  else if (event.key === "a") (document.activeElement.closest(".card")?.querySelector(".attend") ?? $("attention")).click();
  else if ((event.key === "Enter" || event.key === " ") && event.target === $("drop")) $("file").click();
  else return;
  event.preventDefault();
}

function toggleFilters() {
  $("filters").open = !$("filters").open;
  ($("filters").open ? $("filters").querySelector("fieldset:not([hidden]) select, #where") : $("filters").querySelector("summary")).focus();
}

async function copyLink() {
  try {
    await navigator.clipboard.writeText(location.href);
    $("copy").textContent = "Link copied";
  } catch {
    $("copy").textContent = "Copy it from the address bar";
  }
  setTimeout(() => { $("copy").textContent = "Copy link"; }, 2000);
}

function attendQuery() {
  const state = readState();
  const img = $("query-image");
  const form = new FormData();
  if (uploads.has(state.v)) form.append("image", uploads.get(state.v));
  if (state.own) form.append("camera", state.own);
  toggleAttention($("attention"), img, state.id ? { id: Number(state.id) } : form, () => showPlain(img, state));
}

function listen() {
  $("file").addEventListener("change", () => upload($("file").files[0]));
  $("another").addEventListener("click", () => $("file").click());
  $("attention").addEventListener("click", attendQuery);
  $("copy").addEventListener("click", copyLink);
  $("form").addEventListener("change", changeFilters);
  $("form").addEventListener("submit", (event) => event.preventDefault());
  $("clear").addEventListener("click", () => write({ ...readState(), camera: [], not: "", from: "", to: "", others: "", where: "" }, { replace: true }));
  $("results").addEventListener("click", (event) => {
    const pick = event.target.closest(".pick");
    if (!pick) return;
    write({ ...readState(), id: pick.dataset.id, v: "" });
    scrollTo({ top: 0 });
  });
  addEventListener("popstate", run);
  addEventListener("keydown", onKey);
  addEventListener("paste", (event) => {
    const file = [...event.clipboardData.files][0];
    if (file) upload(file);
  });
  addEventListener("dragover", (event) => { event.preventDefault(); $("drop").classList.add("over"); });
  addEventListener("dragleave", (event) => { if (!event.relatedTarget) $("drop").classList.remove("over"); });
  addEventListener("drop", (event) => {
    event.preventDefault();
    $("drop").classList.remove("over");
    upload(event.dataTransfer.files[0]);
  });
}

async function main() {
  listen();
  if (matchMedia("(min-width: 44.01rem)").matches) $("filters").open = true;
  try {
    facets = await (await ask("facets")).json();
    $("attention-key").hidden = !facets.attention;
    buildFilters();
  } catch (error) {
    return fail(error);
  }
  run();
}

main();
