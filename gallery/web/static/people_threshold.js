// The threshold up to which groups merge: shown, tried, and applied to all images.

import { $, number } from "./dom.js";
import { desk, fail, hideError, say, whoDecides } from "./people_desk.js";
import { post } from "./requests.js";

let tried = null; // the value that the preview is about

const text = (value) => value.toLocaleString("en", { maximumFractionDigits: 3 });
const countsText = ({ people, alone }) => `${number(people)} people, ${number(alone)} images alone`;

export function showThreshold(state) {
  $("threshold-part").hidden = !state.can_decide || state.threshold === null;
  if ($("threshold-part").hidden) return;
  $("threshold-now").textContent = `Groups merge up to a distance of ${text(state.threshold)} now: ${countsText(state)}.`;
  if (!$("threshold").value) $("threshold").value = text(state.threshold);
}

function forget() {
  tried = null;
  $("regroup").disabled = true;
  $("threshold-result").textContent = "";
}

async function preview() {
  const value = Number($("threshold").value);
  $("threshold-result").textContent = "Grouping …";
  const found = await (await post("people/regroup", { threshold: value, trial: true })).json();
  if (Number($("threshold").value) !== value) return; // changed meanwhile
  tried = value;
  $("threshold-result").textContent = `${text(value)} gives ${countsText(found)}; ${number(found.changed)} images get another person.`;
  $("regroup").disabled = false;
}

async function regroup() {
  const who = await whoDecides();
  if (!who || tried === null) return;
  const value = tried;
  forget();
  $("threshold-result").textContent = "Grouping …";
  const found = await (await post("people/regroup", { threshold: value, who })).json();
  $("threshold-result").textContent = "";
  say(`All images are grouped up to ${text(value)}: ${countsText(found)}.`);
  showThreshold({ ...found, can_decide: true });
  await desk.changed(found, "regroup");
}

async function attempt(act) {
  hideError();
  try {
    await act();
  } catch (error) {
    forget();
    fail(error);
    $("error").scrollIntoView({ block: "nearest" });
  }
}

export function listenToThreshold() {
  $("threshold").addEventListener("input", forget);
  $("threshold-form").addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(preview);
  });
  $("regroup").addEventListener("click", () => attempt(regroup));
}
