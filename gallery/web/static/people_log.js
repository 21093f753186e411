// The log: who decided what, and when; each decision can be taken back.

import { $, button, make } from "./dom.js";
import { decide, desk, fail, fetchJson, picture } from "./people_desk.js";
import { pointText } from "./times.js";

const PAGE = 50, PICTURES = 6;
let oldest = null;

const images = (entry) => `${entry.rows} image${entry.rows === 1 ? "" : "s"}`;
const WHAT = {
  same: (entry) => (entry.rows === 2 ? "one person" : `${entry.rows} images show one person`),
  different: () => "two people",
  unsure: () => "unsure",
  merge: (entry) => `merged ${entry.rows} people`,
  split: (entry) => `split off ${images(entry)}`,
  move: (entry) => `moved ${images(entry)}`,
  name: (entry) => `named ${entry.name}`,
  enrol: (entry) => `added ${entry.name} from ${images(entry)}`,
  undo: () => "took a decision back",
};

export async function showLog(more = false) {
  try {
    const asked = new URLSearchParams({ limit: PAGE, ...(more && oldest !== null && { before: oldest }) });
    const answer = await fetchJson(`people/decisions?${asked}`);
    desk.seen = Math.max(desk.seen, answer.total);
    const items = answer.decisions.map(item);
    if (more) $("entries").append(...items);
    else $("entries").replaceChildren(...items);
    oldest = answer.decisions.at(-1)?.number ?? 0;
    $("more-log").hidden = !oldest;
    if (!answer.total) $("entries").append(make("li", "quiet", "Nobody has decided anything yet."));
  } catch (error) {
    fail(error);
  }
}

function item(entry) {
  const found = make("li", entry.undone ? "undone" : "");
  const text = make("div");
  const what = make("span", "what");
  what.append(make("strong", "", entry.who), `: ${WHAT[entry.kind]?.(entry) ?? entry.kind}`);
  text.append(what, make("div", "quiet", pointText(Date.parse(entry.time) / 1000) + (entry.undone ? ", taken back" : "")));
  const pictures = make("div", "pictures");
  pictures.append(...[...entry.ids.slice(0, PICTURES), ...(entry.to === null ? [] : [entry.to])].map((id) => picture(id)));
  found.append(text, pictures);
  if (desk.canDecide && !entry.undone) {
    const act = button("", "Undo", () => decide("undo", { of: entry.id }));
    act.setAttribute("aria-label", `Undo: ${what.textContent}`);
    found.append(act);
  }
  if (entry.contradicts) found.append(make("p", "set-aside", `Set aside: ${entry.contradicts}`));
  return found;
}

export function listenToLog() {
  $("more-log").addEventListener("click", () => showLog(true));
}
