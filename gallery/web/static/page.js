// The page: reads its state from the address, asks the server, shows the answer.

import { addressOf, pack, readState, searchFields } from "./address.js";
import { $ } from "./dom.js";
import { buildFilters, chosenFilters, showFilters, withoutFilters } from "./filters.js";
import { onKey } from "./keyboard.js";
import { attendQuery, clearQuery, fileOf, keepUpload, showQuery } from "./query.js";
import { ask, Failure, post } from "./requests.js";
import { exampleCard, showAnswer } from "./results.js";
import { asCsv, download } from "./table.js";

let facets = null;
let shownAnswer = null; // the search whose results are on the page
let searching = null; // AbortController of the running search

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
    hideError();
    if (!state.id && !state.v) return start();
    showQuery(state, facets?.attention);
    const answer = await (await post("search", searchFields(state), { signal: own.signal })).json();
    if (own === searching) show(answer, state);
  } catch (error) {
    if (error.name !== "AbortError") fail(error);
  } finally {
    if (own === searching) document.body.classList.remove("busy");
  }
}

function show(answer, state) {
  shownAnswer = answer;
  $("download").hidden = !answer.results.length;
  showAnswer(answer, state, facets, fail);
}

function start() {
  clearQuery();
  clearResults();
  $("verdict").textContent = facets?.count ? "Choose a crop, or start with a person from the gallery:" : "The gallery is empty.";
  $("results").replaceChildren(...(facets?.examples ?? []).map(exampleCard));
}

function clearResults() {
  shownAnswer = null;
  $("download").hidden = true;
  $("verdict").textContent = "";
  $("results").replaceChildren();
}

function fail(error) {
  if (!(error instanceof Failure)) console.error(error);
  $("error-text").textContent = error instanceof Failure ? error.message : `Something went wrong in the page: ${error.message}`;
  $("error").hidden = false;
  clearResults();
}

function hideError() {
  $("error").hidden = true;
  $("error-text").textContent = "";
}

async function upload(file) {
  if (!file) return;
  hideError();
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
    keepUpload(v, file);
    await write({ ...state, id: "", v });
  } catch (error) {
    fail(error);
  } finally {
    document.body.classList.remove("busy");
    $("file").value = "";
  }
}

async function changeFilters(event) {
  const state = chosenFilters();
  await write(state, { replace: true });
  if (event?.target === $("own-camera") && fileOf(state)) upload(fileOf(state)); // the camera goes into the embedding
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

function listen() {
  $("file").addEventListener("change", () => upload($("file").files[0]));
  $("another").addEventListener("click", () => $("file").click());
  $("attention").addEventListener("click", () => attendQuery(fail));
  $("copy").addEventListener("click", copyLink);
  $("download").addEventListener("click", () => download("results.csv", asCsv(shownAnswer, facets)));
  $("error-close").addEventListener("click", hideError);
  $("form").addEventListener("change", changeFilters);
  $("form").addEventListener("submit", (event) => event.preventDefault());
  $("clear").addEventListener("click", () => write(withoutFilters(readState()), { replace: true }));
  $("results").addEventListener("click", (event) => {
    const pick = event.target.closest(".pick");
    if (!pick) return;
    write({ ...readState(), id: pick.dataset.id, v: "" });
    scrollTo({ top: 0 });
  });
  addEventListener("popstate", run);
  addEventListener("keydown", onKey);
  addEventListener("paste", (event) => upload([...event.clipboardData.files][0]));
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
    buildFilters(facets);
  } catch (error) {
    return fail(error);
  }
  run();
}

main();
