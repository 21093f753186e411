// The results as a CSV file.

import { wordOf } from "./results.js";
import { timeText } from "./times.js";

const FIRST = ["rank", "id", "distance", "verdict", "when"];

// A cell; one that a spreadsheet would take for a formula gets an apostrophe in front.
function cell(value) {
  if (value === null || value === undefined) return "";
  const text = typeof value === "object" ? JSON.stringify(value) : String(value);
  const safe = typeof value !== "number" && /^[=+\-@\t\r]/.test(text) ? `'${text}` : text;
  return /[",\r\n]/.test(safe) ? `"${safe.replaceAll('"', '""')}"` : safe;
}

export function asCsv(answer, facets) {
  const columns = [...new Set(answer.results.flatMap((found) => Object.keys(found.record)))].filter((name) => name !== "id");
  const rows = answer.results.map(({ id, distance, verdict, record }, i) =>
    [i + 1, id, distance, wordOf(verdict, facets), timeText(record), ...columns.map((name) => record[name])]);
  return [[...FIRST, ...columns], ...rows].map((row) => `${row.map(cell).join(",")}\r\n`).join("");
}

export function download(name, text) {
  const address = URL.createObjectURL(new Blob(["\ufeff", text], { type: "text/csv" })); // the mark says UTF-8 to spreadsheets
  const link = document.createElement("a");
  Object.assign(link, { href: address, download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(address), 10_000);
}
