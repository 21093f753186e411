// The player: the found seconds of a recording with the box drawn over them, or the stored crops; from sighting to sighting.

import { $, make } from "./dom.js";
import { setBlob } from "./pictures.js";
import { ask } from "./requests.js";
import { facts } from "./results.js";
import { inTime } from "./timeline.js";

const NEAR = 0.3; // seconds around the moment of the box in which it is shown
const HEIGHT = 60; // percent of the window
const STEP = 700; // milliseconds per crop, if there is no recording to play
let row = null; // the sighting that is shown
let order = []; // ids of the sightings between which the buttons move
let cropTimer = null;

// Open the player at a result.
export async function play(id, answer, fail) {
  const timed = inTime(answer.results);
  const matches = timed.filter((found) => found.verdict === "same");
  order = (matches.some((found) => found.id === id) ? matches : timed).map((found) => found.id);
  await show(id, fail);
}

async function show(id, fail) {
  stop();
  let found;
  try {
    found = await (await ask(`sighting/${id}`)).json();
  } catch (error) {
    $("player").close();
    return fail(error);
  }
  row = { id, ...found, isEnded: false };
  const place = order.indexOf(id);
  $("player-title").textContent = facts(found.record).join(" · ");
  $("player-place").textContent = place < 0 ? "" : `Sighting ${place + 1} of ${order.length}`;
  $("player-previous").disabled = place <= 0;
  $("player-next").disabled = place < 0 || place === order.length - 1;
  showStage();
  if (!$("player").open) $("player").showModal();
}

function showStage() {
  $("player-stage").hidden = !row.video;
  for (const id of ["player-again", "player-where"]) $(id).hidden = !row.video;
  if (row.video) $("player-video").src = row.video;
  showCrops();
  if (!row.video) showInstead(row.reason);
}

// Without a recording to play: the reason, and the crops one after the other.
function showInstead(reason) {
  $("player-stage").hidden = $("player-again").hidden = $("player-where").hidden = true;
  const sentence = reason.charAt(0).toUpperCase() + reason.slice(1);
  $("player-note").textContent = row.crops.length ? `${sentence}. These crops of the track are stored:` : `${sentence}.`;
  if (row.crops.length > 1 && !matchMedia("(prefers-reduced-motion: reduce)").matches) walkCrops(0);
}

function walkCrops(place) {
  [...$("player-crops").children].forEach((item, i) => item.classList.toggle("now", i === place));
  cropTimer = setTimeout(() => walkCrops((place + 1) % row.crops.length), STEP);
}

function showCrops() {
  $("player-crops").replaceChildren(...row.crops.map((crop) => {
    const item = make("li");
    const pick = make("button");
    pick.type = "button";
    pick.disabled = !row.video;
    pick.setAttribute("aria-label", `Crop of frame ${crop.frame}${row.video ? ": show it in the recording" : ""}`);
    pick.addEventListener("click", () => pauseAt(crop.seconds));
    const img = make("img");
    img.alt = "";
    ask(crop.image).then((response) => response.blob()).then((blob) => setBlob(img, blob)).catch(() => item.remove());
    pick.append(img);
    item.append(pick);
    return item;
  }));
}

// ---- the recording

// As large as the window permits; the box needs the shape of the frames.
function fitStage() {
  const { videoWidth, videoHeight } = $("player-video");
  $("player-stage").style.width = `min(100%, ${(HEIGHT * videoWidth) / videoHeight}vh)`;
}

function start() {
  row.isEnded = false;
  $("player-video").currentTime = row.start;
  $("player-video").play().catch(() => {}); // the visitor may have to press play first
}

function pauseAt(seconds) {
  row.isEnded = true; // whoever plays on from here wants to see more
  $("player-video").pause();
  $("player-video").currentTime = seconds;
}

function follow() {
  if (!row?.video) return;
  const { currentTime, videoWidth, videoHeight } = $("player-video");
  if (!row.isEnded && currentTime >= row.stop) {
    row.isEnded = true;
    $("player-video").pause();
  }
  const box = $("player-box");
  box.hidden = !videoWidth || Math.abs(currentTime - row.moment) > NEAR;
  if (box.hidden) return;
  const [x, y, width, height] = row.box;
  Object.assign(box.style, {
    left: `${(100 * x) / videoWidth}%`,
    top: `${(100 * y) / videoHeight}%`,
    width: `${(100 * width) / videoWidth}%`,
    height: `${(100 * height) / videoHeight}%`,
  });
}

function stop() {
  clearTimeout(cropTimer);
  row = null;
  $("player-note").textContent = "";
  $("player-box").hidden = true;
  $("player-video").pause();
  $("player-video").removeAttribute("src");
  $("player-video").load(); // ends the download
}

export function listenToPlayer(fail) {
  const video = $("player-video");
  const move = (step) => show(order[order.indexOf(row.id) + step], fail);
  video.addEventListener("loadedmetadata", () => { fitStage(); start(); });
  for (const event of ["timeupdate", "seeked"]) video.addEventListener(event, follow);
  video.addEventListener("error", () => {
    if (row?.video && video.getAttribute("src")) showInstead("this browser cannot play the recording: most play H.264 in .mp4, and VP8 or VP9 in .webm");
  });
  $("player-again").addEventListener("click", start);
  $("player-where").addEventListener("click", () => pauseAt(row.moment));
  $("player-previous").addEventListener("click", () => move(-1));
  $("player-next").addEventListener("click", () => move(1));
  $("player-close").addEventListener("click", () => $("player").close());
  $("player").addEventListener("close", stop);
}
