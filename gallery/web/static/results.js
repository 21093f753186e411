// Results of a search: the verdict, one card per row, the threshold between them.

import { conditions } from "./address.js";
import { $, make } from "./dom.js";
import { attentionButton, setImage } from "./pictures.js";
import { timeText } from "./times.js";

const MANY_MISSED = 0.1; // share of true pairs beyond the threshold, above which a row beyond it may well be the person

const isKnown = (value) => value !== null && value !== undefined;
const percent = (share) => `${+(100 * share).toPrecision(2)} %`;

// What a verdict of the server means for the visitor.
export function wordOf(verdict, facets) {
  if (verdict === "different") return isKnown(facets?.missed) && facets.missed <= MANY_MISSED ? "no match" : "unsure";
  return { same: "match", unknown: "unknown" }[verdict];
}

// The two ways in which the threshold errs, as far as they are known.
function rates(facets) {
  const found = [];
  if (isKnown(facets?.fmr)) found.push(`${percent(facets.fmr)} of pairs of different people are this close`);
  if (isKnown(facets?.missed)) found.push(`${percent(facets.missed)} of pairs of one person are farther apart`);
  return found.join("; ");
}

function describeVerdict(answer, state, facets) {
  const { results, threshold } = answer;
  const same = results.filter((found) => found.verdict === "same").length;
  const limit = threshold?.toPrecision(3);
  if (!results.length) return ["", "No image of the gallery passes these filters."];
  if (threshold === null) return ["unknown", "The gallery has no threshold, so there is no verdict: compare the distances."];
  if (same) return ["same", `${same} of ${results.length} within the threshold ${limit}.`];
  if (answer.verdict === "match") {
    return ["same", `A person is within the threshold ${limit}, but re-ranked below these ${results.length}: choose more results, or switch re-ranking off.`];
  }
  const filtered = conditions(state).length || state.others ? " and the filters" : "";
  const missed = isKnown(facets?.missed) ? ` ${percent(facets.missed)} of pairs of one person are farther apart than that.` : "";
  return ["different", `Nobody here is within the threshold ${limit}${filtered}.${missed}`];
}

export function showAnswer(answer, state, facets, fail) {
  const [kind, text] = describeVerdict(answer, state, facets);
  const badge = kind ? [make("span", `badge ${kind}`, wordOf(kind, facets)), " "] : [];
  $("verdict").replaceChildren(...badge, text);
  if (answer.query.record) $("query-text").replaceChildren(...spans(answer.query.record));
  const cards = answer.results.map((found, i) => card(found, i + 1, facets, fail));
  const first = answer.results.findIndex((found) => found.verdict === "different");
  const inOrder = answer.results.slice(first).every((found) => found.verdict === "different");
  if (first >= 0 && inOrder) cards.splice(first, 0, line(answer.threshold, facets));
  $("results").replaceChildren(...cards);
}

function line(threshold, facets) {
  const known = rates(facets);
  return make("li", "threshold", `threshold ${threshold.toPrecision(3)}${known ? `: ${known}` : ""}`);
}

function facts(record) {
  const found = [];
  if (isKnown(record.pid)) found.push(`person ${record.pid}`);
  if (record.camera) found.push(`camera ${record.camera}`);
  if (isKnown(record.time)) found.push(timeText(record));
  return found;
}

const spans = (record) => facts(record).map((fact) => make("span", "", fact));

// An example of the gallery.
export function exampleCard(id) {
  const [item, pick] = picture(id);
  pick.setAttribute("aria-label", `Search for gallery image ${id}`);
  return item;
}

function card({ id, distance, verdict, record }, rank, facets, fail) {
  const [item, pick, img] = picture(id);
  const word = wordOf(verdict, facets);
  item.classList.add(verdict);
  pick.setAttribute("aria-label", `Rank ${rank}, distance ${distance.toFixed(3)}, ${word}, ${facts(record).join(", ")}. Search for this one`);
  pick.title = `${record.path}`;
  const top = make("div");
  top.append(make("span", "rank", `${rank}`), make("span", "distance", distance.toFixed(3)), make("span", "badge", word));
  const below = make("div");
  const list = make("span", "where");
  list.append(...spans(record));
  below.append(list);
  if (facets?.attention) below.append(attentionButton(img, id, fail));
  const text = make("div", "facts");
  text.append(top, below);
  item.append(text);
  return item;
}

function picture(id) {
  const item = make("li", "card");
  const pick = make("button", "pick");
  pick.type = "button";
  pick.dataset.id = id;
  const img = make("img");
  img.loading = "lazy";
  img.alt = "";
  pick.append(img);
  setImage(img, id);
  item.append(pick);
  return [item, pick, img];
}
