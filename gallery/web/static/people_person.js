// One person: all images, the name, splitting, moving, merging.

import { $, make } from "./dom.js";
import { decide, desk, fail, fetchJson, nameOf, picture, replaceItems, rowsText, stackItem } from "./people_desk.js";

const PAGE = 60, MOST = 200;
const chosen = new Set();
let row = null; // a row of the person
let shown = 0;
let stack = null;

export async function showPerson(id, more = false) {
  if (id !== row) {
    chosen.clear();
    shown = 0;
  }
  row = id;
  try {
    const offset = more ? shown : 0;
    const limit = more ? PAGE : Math.min(Math.max(PAGE, shown), MOST);
    const answer = await fetchJson(`people/group?${new URLSearchParams({ row, offset, limit })}`);
    if (id !== row) return; // another person meanwhile
    desk.seen = Math.max(desk.seen, answer.decisions);
    stack = answer;
    $("person-title").textContent = nameOf(answer);
    $("person-text").textContent = `${rowsText(answer)}. The most typical images come first, doubtful ones last.`;
    $("name-form").hidden = $("person-acts").hidden = !desk.canDecide;
    if (document.activeElement !== $("name")) $("name").value = answer.is_named ? answer.person : "";
    const items = answer.members.map(member);
    if (more) $("members").append(...items);
    else replaceItems($("members"), items);
    shown = offset + items.length;
    $("more-members").hidden = shown >= answer.rows;
    showNear(answer.near);
    showActs();
  } catch (error) {
    fail(error);
  }
}

function member({ id, camera, decided }) {
  const item = make("li");
  const label = make("label", "member");
  label.dataset.id = id;
  const text = [camera && `camera ${camera}`, decided && "decided"].filter(Boolean).join(", ");
  label.append(picture(id), make("span", "", text || `image ${id}`));
  if (desk.canDecide) {
    const box = make("input");
    box.type = "checkbox";
    box.dataset.id = id;
    box.checked = chosen.has(id);
    box.setAttribute("aria-label", `Choose image ${id}${text ? `, ${text}` : ""}`);
    box.addEventListener("change", () => {
      if (box.checked) chosen.add(id);
      else chosen.delete(id);
      showActs();
    });
    label.prepend(box);
  }
  item.append(label);
  return item;
}

function showActs() {
  const some = chosen.size;
  $("split").disabled = !some || some >= stack.rows;
  $("choose-none").disabled = !some;
  $("split").textContent = some ? `Split off ${some} as another person` : "Split off the chosen";
  $("all-same").disabled = stack.rows < 2 || shown < stack.rows || some > 0;
  $("all-same").title = shown < stack.rows ? "Show all images first" : "";
  for (const act of $("near").querySelectorAll(".move")) act.disabled = !some || some >= stack.rows;
}

function showNear(near) {
  $("near-part").hidden = !near.length || !desk.canDecide;
  $("near").replaceChildren(...near.map((other) => {
    const item = stackItem(other,
      ["Merge", () => merge(other), `Merge with ${nameOf(other)}`],
      ["Move chosen here", () => move(other), `Move the chosen images to ${nameOf(other)}`]);
    item.querySelector(".buttons button:last-child").classList.add("move");
    return item;
  }));
}

async function act(kind, fields) {
  if (await decide(kind, fields)) chosen.clear();
  await showPerson(row);
}

const merge = (other) => act("merge", { rows: [row, other.ids[0]] });

async function move(other) {
  const rows = [...chosen];
  stay(rows);
  await act("move", { rows, to: other.ids[0] });
}

// Keep showing this person when the row that the address names leaves.
function stay(rows) {
  if (!rows.includes(row)) return;
  row = allRows().find((id) => !rows.includes(id)) ?? row;
  history.replaceState(null, "", `#person=${row}`);
}

export function listenToPerson() {
  $("more-members").addEventListener("click", () => showPerson(row, true));
  $("split").addEventListener("click", () => {
    const rows = [...chosen];
    stay(rows);
    act("split", { rows });
  });
  $("choose-none").addEventListener("click", () => { chosen.clear(); showPerson(row); });
  $("all-same").addEventListener("click", () => act("decide", { answer: "same", rows: allRows() }));
  $("name-form").addEventListener("submit", (event) => {
    event.preventDefault();
    $("name").blur();
    act("name", { row, name: $("name").value });
  });
}

const allRows = () => [...$("members").querySelectorAll(".member")].map((label) => Number(label.dataset.id));
