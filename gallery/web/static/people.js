// The page People: the address says which view is shown; decisions of other windows are seen within two seconds.

import { $, number } from "./dom.js";
import { answer, askAgain, refill, showAsk } from "./people_ask.js";
import { askWho, desk, fail, fetchJson, hideError, say, showUndo, showWho, undoLast } from "./people_desk.js";
import { listenToAdd, showAdd } from "./people_enrol.js";
import { listenToGroups, showGroups } from "./people_groups.js";
import { listenToLog, showLog } from "./people_log.js";
import { listenToPerson, showPerson } from "./people_person.js";
import { listenToThreshold, showThreshold } from "./people_threshold.js";
import { Failure } from "./requests.js";

const POLL_SECONDS = 2;
const COUNTS = ["rows", "people", "alone"]; // of the state; they change with new rows and with the threshold
const VIEWS = ["ask", "groups", "person", "log"];
const ANSWERS = { y: "same", n: "different", u: "unsure" };
let state = null;

function place() {
  const [view, value] = location.hash.slice(1).split("=");
  if (view === "person" && /^\d+$/.test(value ?? "")) return { view, id: Number(value) };
  if (view === "log" || view === "groups") return { view };
  return { view: desk.canDecide ? "ask" : "groups" };
}

async function show({ moved = false } = {}) {
  if (!state?.is_ready) return;
  const { view, id } = place();
  for (const name of VIEWS) $(name).hidden = name !== view;
  for (const link of $("views").querySelectorAll("a")) {
    if (link.hash === `#${view === "person" ? "groups" : view}`) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  if (moved) scrollTo({ top: 0 });
  if (view === "ask") await (moved || desk.seen < 0 ? showAsk() : refill());
  if (view === "groups") await showGroups();
  if (view === "person") await showPerson(id);
  if (view === "log") await showLog();
  if (moved && view === "person") $("person-title").focus();
}

function showState() {
  $("about").textContent = state.is_ready
    ? `${number(state.people)} people, ${number(state.alone)} images alone, ${number(state.decisions)} decisions`
    : "";
  $("to-ask").hidden = $("you").hidden = !desk.canDecide;
  showAdd(state.can_enrol);
  if (state.is_ready) showThreshold(state);
  if (state.failure) fail(new Failure(state.failure));
  else if (!state.is_ready) say("The images are being compared; this takes a moment …");
}

async function poll() {
  try {
    const before = state;
    state = await fetchJson("people/state");
    desk.canDecide = state.can_decide;
    showState();
    if (state.is_ready && !before?.is_ready) {
      say("");
      await show({ moved: true });
    } else if (state.is_ready && (state.decisions !== desk.seen || COUNTS.some((name) => state[name] !== before[name]))) {
      desk.seen = state.decisions;
      await show();
    }
  } catch (error) {
    fail(error);
  }
  setTimeout(poll, 1000 * POLL_SECONDS);
}

function onKey(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || event.repeat || document.querySelector("dialog[open]")) return;
  if (event.target.matches("input:not([type=checkbox]), select, textarea")) {
    if (event.key === "Escape") event.target.blur();
    return;
  }
  const { view } = place();
  if (event.key === "z" && desk.canDecide) undoLast();
  else if (view === "ask" && desk.canDecide && event.key in ANSWERS) answer(ANSWERS[event.key]);
  else return;
  event.preventDefault();
}

async function afterDecision(_, kind) {
  const { view } = place();
  if (view === "groups") await showGroups();
  if (view === "log") await showLog();
  if (view === "person" && kind === "undo") await showPerson(place().id);
  if (view === "ask" && kind === "undo") await askAgain();
}

function main() {
  desk.changed = afterDecision;
  showWho();
  showUndo();
  listenToGroups();
  listenToPerson();
  listenToAdd();
  listenToThreshold();
  listenToLog();
  for (const button of $("answers").querySelectorAll("button")) button.addEventListener("click", () => answer(button.dataset.answer));
  $("undo").addEventListener("click", undoLast);
  $("rename-me").addEventListener("click", askWho);
  $("who").addEventListener("cancel", () => { $("who").returnValue = "cancelled"; });
  $("error-close").addEventListener("click", hideError);
  addEventListener("hashchange", () => { hideError(); show({ moved: true }); });
  addEventListener("keydown", onKey);
  poll();
}

main();
