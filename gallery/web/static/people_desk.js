// What the views of the page People share: who decides, sending decisions, undo, messages, stacks of pictures.

import { $, button, make, number } from "./dom.js";
import { setImage } from "./pictures.js";
import { ask, Failure, post } from "./requests.js";

export const desk = {
  canDecide: false,
  seen: -1, // number of decisions that this page shows
  mine: [], // ids of this window's decisions, the last one at the end
  window: hex(8),
  changed: () => {}, // called after each decision
};

export function hex(bytes) {
  return Array.from(crypto.getRandomValues(new Uint8Array(bytes)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

export const fetchJson = async (path) => (await ask(path)).json();

export function fail(error) {
  if (!(error instanceof Failure)) console.error(error);
  $("error-text").textContent = error instanceof Failure ? error.message : `Something went wrong in the page: ${error.message}`;
  $("error").hidden = false;
}

export function hideError() {
  $("error").hidden = true;
  $("error-text").textContent = "";
}

export const say = (text) => { $("done").textContent = text; };

// ---- who decides

export function showWho() {
  const who = localStorage.getItem("who");
  $("rename-me").textContent = who ? `You are ${who}` : "Your name";
}

let asking = null; // one dialog for all decisions that wait for a name
export function askWho() {
  asking ??= new Promise((resolve) => {
    $("who-name").value = localStorage.getItem("who") ?? "";
    $("who").showModal();
    $("who").addEventListener("close", () => {
      asking = null;
      const who = $("who-name").value.trim();
      if ($("who").returnValue !== "cancelled" && who) localStorage.setItem("who", who);
      showWho();
      resolve(localStorage.getItem("who"));
    }, { once: true });
  });
  return asking;
}

// Return who decides; a visitor without a name is asked for it. Null = nobody.
export const whoDecides = async () => localStorage.getItem("who") || await askWho();

// ---- decisions

const WORDS = { decide: "Answer saved.", merge: "Merged.", split: "Split off.", move: "Moved.", name: "Name saved.", undo: "Taken back." };
let sending = Promise.resolve(); // decisions are sent one after the other

// Send a decision; returns the answer, or null if it was refused (the message says why) or nobody gave a name.
export function decide(kind, fields) {
  const id = hex(16); // the same when it is sent again, so it is taken once
  sending = sending.then(async () => {
    try {
      const who = await whoDecides();
      if (!who) return null;
      hideError();
      const answer = await (await sent(`people/${kind}`, { ...fields, who, id })).json();
      if (kind === "undo") desk.mine = desk.mine.filter((one) => one !== fields.of);
      else desk.mine.push(id);
      desk.seen = answer.decisions;
      showUndo();
      say(WORDS[kind]);
      await desk.changed(answer, kind);
      return answer;
    } catch (error) {
      fail(error);
      return null;
    }
  });
  return sending;
}

async function sent(path, body) {
  for (const pause of [500, 1500, null]) {
    try {
      return await post(path, body);
    } catch (error) {
      if (pause === null || !/does not answer|try again/.test(error.message)) throw error;
      await new Promise((resolve) => setTimeout(resolve, pause));
    }
  }
}

export function undoLast() {
  const of = desk.mine.pop(); // at once: a second undo takes the one before it back
  showUndo();
  if (of) return decide("undo", { of });
  say("There is nothing of this window to take back; the log can take back all decisions.");
  return null;
}

export function showUndo() {
  $("undo").disabled = !desk.mine.length;
}

// Show a list anew; the box that had the focus keeps it.
export function replaceItems(list, items) {
  const focused = list.contains(document.activeElement) ? document.activeElement.dataset.id : undefined;
  list.replaceChildren(...items);
  if (focused !== undefined) list.querySelector(`input[data-id="${focused}"]`)?.focus();
}

// ---- pictures

export function picture(id, alt = "") {
  const img = make("img");
  img.alt = alt;
  img.loading = "lazy";
  setImage(img, id);
  return img;
}

export const rowsText = (stack) =>
  `${number(stack.rows)} image${stack.rows === 1 ? "" : "s"}` + (stack.cameras ? `, ${stack.cameras} camera${stack.cameras === 1 ? "" : "s"}` : "");

export const nameOf = (stack) => stack.person ?? "not named yet";

// A person as a pile of pictures, with a link to all of them.
export function stackItem(stack, ...acts) {
  const item = make("li", "stack");
  const pile = make("div", "pile");
  pile.append(...stack.ids.map((id) => picture(id)));
  const called = make("a", "called", nameOf(stack));
  called.href = `#person=${stack.ids[0]}`;
  item.append(pile, called, make("span", "quiet", rowsText(stack)));
  if (acts.length) {
    const buttons = make("div", "buttons");
    buttons.append(...acts.map(([text, click, label]) => {
      const act = button("", text, click);
      if (label) act.setAttribute("aria-label", label);
      return act;
    }));
    item.append(buttons);
  }
  return item;
}
