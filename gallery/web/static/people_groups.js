// All people as stacks; some can be chosen and merged.

import { $, make, number } from "./dom.js";
import { decide, desk, fail, fetchJson, nameOf, replaceItems, stackItem } from "./people_desk.js";

const PAGE = 30;
const chosen = new Map(); // id of the first picture -> name
let shown = 0;

export async function showGroups(more = false) {
  try {
    const offset = more ? shown : 0;
    const limit = more ? PAGE : Math.min(Math.max(PAGE, shown), 100);
    const asked = new URLSearchParams({ offset, limit, order: $("order").value, find: $("find").value.trim() });
    const answer = await fetchJson(`people/groups?${asked}`);
    desk.seen = Math.max(desk.seen, answer.decisions);
    const items = answer.people.map(item);
    if (more) $("stacks").append(...items);
    else replaceItems($("stacks"), items);
    shown = offset + items.length;
    $("more-stacks").hidden = shown >= answer.total;
    if (!answer.total) $("stacks").append(make("li", "quiet", $("find").value ? "Nobody has this name." : "Nobody was seen twice yet."));
    $("groups").setAttribute("aria-label", `People, ${number(answer.total)}`);
    showMerge();
  } catch (error) {
    fail(error);
  }
}

function item(stack) {
  const found = stackItem(stack);
  if (!desk.canDecide) return found;
  const label = make("label", "pick-stack");
  const box = make("input");
  box.type = "checkbox";
  box.dataset.id = stack.ids[0];
  box.checked = chosen.has(stack.ids[0]);
  box.setAttribute("aria-label", `Choose ${nameOf(stack)} to merge`);
  found.classList.toggle("chosen", box.checked);
  box.addEventListener("change", () => {
    if (box.checked) chosen.set(stack.ids[0], nameOf(stack));
    else chosen.delete(stack.ids[0]);
    found.classList.toggle("chosen", box.checked);
    showMerge();
  });
  label.append(box);
  found.append(label);
  return found;
}

function showMerge() {
  $("merge").hidden = !desk.canDecide;
  $("merge").disabled = chosen.size < 2;
  $("merge").textContent = chosen.size > 1 ? `Merge ${chosen.size} people` : "Merge the chosen";
}

export async function mergeChosen() {
  const rows = [...chosen.keys()];
  if (await decide("merge", { rows })) chosen.clear();
  showMerge();
}

let typing = 0;
export function listenToGroups() {
  $("more-stacks").addEventListener("click", () => showGroups(true));
  $("merge").addEventListener("click", mergeChosen);
  $("order").addEventListener("change", () => { shown = 0; showGroups(); });
  $("find-form").addEventListener("submit", (event) => event.preventDefault());
  $("find").addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(() => { shown = 0; showGroups(); }, 250);
  });
}
