// A new person from images: name and files are sent as a form; the server keeps the images.

import { $, number } from "./dom.js";
import { desk, fail, hex, hideError, say, showUndo, whoDecides } from "./people_desk.js";
import { post } from "./requests.js";

async function add() {
  const who = await whoDecides();
  if (!who) return;
  const form = new FormData();
  form.append("who", who);
  form.append("id", hex(16));
  form.append("name", $("add-name").value);
  if ($("add-camera").value.trim()) form.append("camera", $("add-camera").value.trim());
  for (const file of $("add-images").files) form.append("image", file);
  const answer = await (await post("enrol", form)).json();
  desk.mine.push(answer.decision.id);
  desk.seen = answer.decisions;
  showUndo();
  say(addedText(answer));
  $("done").scrollIntoView({ block: "nearest" });
  $("add-form").reset();
  showChosen();
}

function addedText({ decision, is_calibrated }) {
  const images = `${number(decision.rows)} image${decision.rows === 1 ? "" : "s"}`;
  const known = is_calibrated ? "Searches for new images know this person from now on." : "Too few people have enough images yet, so /identify asks about everybody.";
  return `${decision.name} was added from ${images}. ${known}`;
}

function showChosen() {
  const files = [...$("add-images").files];
  $("add-chosen").textContent = files.length > 1 ? `${number(files.length)} images, which must all show this person.` : "";
}

export const showAdd = (isAllowed) => { $("add-part").hidden = !isAllowed; };

export function listenToAdd() {
  $("add-images").addEventListener("change", showChosen);
  $("add-form").addEventListener("submit", async (event) => {
    event.preventDefault();
    const send = $("add-send");
    if (send.getAttribute("aria-disabled") === "true") return;
    hideError();
    send.setAttribute("aria-disabled", "true"); // `disabled` would take the focus away
    send.textContent = "Adding …";
    try {
      await add();
    } catch (error) {
      fail(error);
      $("error").scrollIntoView({ block: "nearest" });
    } finally {
      send.removeAttribute("aria-disabled");
      send.textContent = "Add this person";
    }
  });
}
