// Times of records: in the time zone of their camera if it is known, else in that of the visitor.

const FIRST_DATE = 1e8; // seconds since 1970 (March 1973); smaller times count from the start of a recording

export const isDate = (time) => Math.abs(time) >= FIRST_DATE;

const two = (value) => String(Math.trunc(value)).padStart(2, "0");

// Seconds east of UTC of "+01:00"; null for other text.
function offsetOf(zone) {
  const found = /^([+-])(\d\d):(\d\d)$/.exec(zone ?? "");
  return found && (found[1] === "-" ? -1 : 1) * (found[2] * 3600 + found[3] * 60);
}

// Day, clock time and time zone of seconds since 1970.
export function parts(time, zone) {
  const offset = offsetOf(zone);
  const date = new Date(1000 * (offset === null ? time - 60 * new Date(1000 * time).getTimezoneOffset() : time + offset));
  const clock = [date.getUTCHours(), date.getUTCMinutes(), date.getUTCSeconds()].map(two).join(":");
  return { day: date.toISOString().slice(0, 10), clock, zone: offset === null ? localZone(time) : `UTC${zone}` };
}

// The visitor's time zone at a time, e.g. "CET" or "GMT+1".
export function localZone(time = Date.now() / 1000) {
  const found = new Intl.DateTimeFormat("en", { timeZoneName: "short" }).formatToParts(new Date(1000 * time));
  return found.find((part) => part.type === "timeZoneName")?.value ?? "local time";
}

const seconds = (time) => `${+time.toFixed(2)} s`;

export function pointText(time, zone) {
  if (!isDate(time)) return seconds(time);
  const { day, clock, zone: name } = parts(time, zone);
  return `${day} ${clock} ${name}`;
}

// A record's time, or its first and last one: "2026-01-31 08:00:00 to 08:00:07 UTC+01:00".
export function timeText(record) {
  const { time, end_time: end, time_zone: zone } = record;
  if (time === null || time === undefined) return "";
  if (end === null || end === undefined) return pointText(time, zone);
  if (!isDate(time)) return `${+time.toFixed(1)} to ${+end.toFixed(1)} s`;
  const first = parts(time, zone);
  const last = parts(end, zone);
  return `${first.day} ${first.clock} to ${last.day === first.day ? "" : `${last.day} `}${last.clock} ${last.zone}`;
}

// ---- inputs: their value is local and has no zone; in the address, and for the server, it has one

export function withZone(value) {
  if (!value) return "";
  const minutes = -new Date(value).getTimezoneOffset();
  const sign = minutes < 0 ? "-" : "+";
  return `${value}${sign}${two(Math.abs(minutes) / 60)}:${two(Math.abs(minutes) % 60)}`;
}

export function asInput(text) {
  const date = new Date(/([+-]\d\d:\d\d|Z)$/.test(text) ? text : `${text}Z`); // without a zone it is UTC, as for the server
  if (!text || Number.isNaN(date.getTime())) return "";
  return new Date(date.getTime() - 60_000 * date.getTimezoneOffset()).toISOString().slice(0, 16);
}
