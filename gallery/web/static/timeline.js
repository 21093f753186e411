// The time line: one row per camera, one mark per result that has a time.

import { $, make } from "./dom.js";
import { facts, wordOf } from "./results.js";
import { pointText, spanOf } from "./times.js";

const LEAST_WIDTH = 0.6; // percent of the line, so that a short sighting is seen

// Results that have a time, in its order.
export function inTime(results) {
  return results.filter((found) => spanOf(found.record))
    .sort((a, b) => a.record.time - b.record.time || spanOf(a.record)[1] - spanOf(b.record)[1] || a.id - b.id);
}

export function showTimeLine(answer, facets) {
  const found = inTime(answer?.results ?? []);
  const spans = found.map(({ record }) => spanOf(record));
  const first = Math.min(...spans.map(([start]) => start));
  const last = Math.max(...spans.map(([, end]) => end));
  $("timeline").hidden = !(found.length > 1 && last > first);
  if ($("timeline").hidden) return $("timeline").replaceChildren();
  const names = [...new Set(found.map(({ record }) => record.camera))].sort((a, b) => (a === null) - (b === null) || (a < b ? -1 : 1));
  const zones = new Set(found.map(({ record }) => record.time_zone));
  const zone = zones.size === 1 ? [...zones][0] : null; // cameras in several zones: the visitor's
  const rows = names.map((name) => row(name, found.filter(({ record }) => record.camera === name), first, last, answer, facets));
  const ends = make("div", "ends");
  ends.append(make("span", "", pointText(first, zone)), make("span", "", pointText(last, zone)));
  $("timeline").replaceChildren(...rows, ends);
}

function row(name, found, first, last, answer, facets) {
  const line = make("div", "camera-line");
  const marks = make("div", "marks");
  marks.append(...found.map((one) => mark(one, first, last, answer.results.indexOf(one) + 1, facets)));
  line.append(make("span", "camera-name", name ?? "unknown camera"), marks);
  return line;
}

function mark({ id, verdict, record }, first, last, rank, facets) {
  const [start, end] = spanOf(record);
  const dot = make("button", `mark ${verdict}`);
  dot.type = "button";
  dot.tabIndex = -1; // with the keyboard, a result's own buttons do the same
  dot.dataset.mark = id;
  const width = Math.max(LEAST_WIDTH, (100 * (end - start)) / (last - first));
  dot.style.left = `${Math.min(100 - width, (100 * (start - first)) / (last - first))}%`;
  dot.style.width = `${width}%`;
  dot.title = `Rank ${rank}, ${wordOf(verdict, facets)}: ${facts(record).join(", ")}`;
  dot.setAttribute("aria-label", dot.title);
  return dot;
}
