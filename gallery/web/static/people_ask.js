// The questions: two sides, and the answers yes, no and unsure.

import { $, make, number } from "./dom.js";
import { percentText } from "./results.js";
import { decide, desk, fail, fetchJson, nameOf, picture, rowsText } from "./people_desk.js";

const AHEAD = 3; // questions fetched at once
let queue = [];
let shown = null;
let open = 0; // answers on their way
let count = 0; // answers of this window

export async function showAsk() {
  $("ask-title").textContent = shown ? $("ask-title").textContent : "The next question is being chosen …";
  await refill();
  if (!shown) next();
}

// Fetch the questions after the one that is shown: answers change what is asked next.
export async function refill() {
  try {
    const answer = await fetchJson(`people/questions?count=${AHEAD}&window=${desk.window}`);
    desk.seen = Math.max(desk.seen, answer.decisions);
    queue = answer.questions.filter((one) => !isSame(one, shown));
    for (const one of queue.slice(0, 2)) for (const side of one.sides) picture(side.ids[0]).loading = "eager";
    if (!shown) next();
  } catch (error) {
    fail(error);
  }
}

const isSame = (one, other) => one && other && one.rows.join() === other.rows.join();

function next() {
  shown = queue.shift() ?? null;
  $("answers").hidden = !shown;
  if (!shown) {
    $("ask-title").textContent = open ? "The next question is being chosen …" : "There is nothing worth asking.";
    $("ask-why").textContent = "";
    return $("sides").replaceChildren();
  }
  $("ask-title").textContent = shown.are_together ? "Are these parts of a group one person?" : "Do these two groups show one person?";
  $("ask-why").textContent = whyText();
  $("sides").replaceChildren(...shown.sides.map((side, i) => sideOf(side, i)));
}

function whyText() {
  const likely = `The model gives ${percentText(shown.probability)} for yes.`;
  return `${likely} ${count ? `${number(count)} answered by you since this page was opened.` : ""}`;
}

function sideOf(side, i) {
  const box = make("div", "side");
  const others = make("div", "others");
  others.append(...side.ids.slice(1).map((id) => picture(id)));
  const text = shown.are_together ? rowsText(side) : `${nameOf(side)}: ${rowsText(side)}`;
  const main = picture(side.ids[0], `${i ? "Right" : "Left"}: ${text}`);
  main.loading = "eager";
  box.append(main, others, make("p", "quiet", text));
  return box;
}

export async function answer(what) {
  if (!shown) return;
  const asked = shown;
  open += 1;
  next(); // at once; what comes later is chosen again when the answer is in
  const answered = await decide("decide", { answer: what, rows: asked.rows });
  open -= 1;
  if (answered) count += 1;
  else [shown, queue] = [null, [asked, ...(shown ? [shown] : []), ...queue]];
  if (!open) await refill();
  if (!shown) next();
  else $("ask-why").textContent = whyText();
}

// After an undo the pair is asked again, if it is the best question still.
export async function askAgain() {
  shown = null;
  await refill();
}
