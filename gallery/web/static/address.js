// The page's state is its address: #id=7&camera=c1&topk=20, or #v=… for the embedding of an uploaded crop.

import { Failure } from "./requests.js";

const KEYS = ["id", "v", "camera", "not", "from", "to", "others", "rerank", "topk", "where", "own"];

export function readState() {
  const pairs = new URLSearchParams(location.hash.slice(1));
  const state = Object.fromEntries(KEYS.map((key) => [key, pairs.get(key) ?? ""]));
  state.camera = pairs.getAll("camera");
  return state;
}

export function addressOf(state) {
  const pairs = new URLSearchParams();
  for (const key of KEYS) for (const value of [state[key] ?? []].flat()) if (value !== "") pairs.append(key, value);
  return `#${pairs}`;
}

// An embedding as 16-bit numbers and their scale, in URL-safe base64.
export function pack(vector) {
  const scale = Math.max(...vector.map(Math.abs)) || 1;
  const bytes = new Uint8Array(4 + 2 * vector.length);
  const view = new DataView(bytes.buffer);
  view.setFloat32(0, scale, true);
  vector.forEach((value, i) => view.setInt16(4 + 2 * i, Math.round((value / scale) * 32767), true));
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replace(/=+$/, "");
}

function unpack(text) {
  try {
    const bytes = Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
    const view = new DataView(bytes.buffer);
    const scale = view.getFloat32(0, true);
    return Array.from({ length: (bytes.length - 4) / 2 }, (_, i) => (view.getInt16(4 + 2 * i, true) / 32767) * scale);
  } catch {
    throw new Failure("This link is damaged; copy it again.");
  }
}

const quote = (name) => (/[",\s]/.test(name) || name === "" ? `"${name.replaceAll('"', '""')}"` : name);

export function conditions(state) {
  const found = state.where.split(";").map((text) => text.trim()).filter(Boolean);
  if (state.camera.length) found.push(`camera${state.not ? "!=" : "="}${state.camera.map(quote).join(",")}`);
  if (state.from) found.push(`time>=${state.from}`);
  if (state.to) found.push(`time<=${state.to}`);
  return found;
}

// The body of a search.
export function searchFields(state) {
  const options = { topk: Number(state.topk) || 20, where: conditions(state), rerank: !!state.rerank, other_cameras: !!state.others };
  if (state.id) return { ...options, id: /^\d+$/.test(state.id) ? Number(state.id) : state.id };
  return { ...options, vector: unpack(state.v), ...(state.own && { camera: state.own }) };
}
