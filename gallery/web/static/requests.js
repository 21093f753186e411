// What goes to the server, and into the address of the page.

export class Failure extends Error {} // its message is a sentence for the visitor

const $ = (id) => document.getElementById(id);

// ---- the server

export async function ask(path, options = {}) {
  const token = sessionStorage.getItem("token");
  const headers = { ...options.headers, ...(token && { Authorization: `Bearer ${token}` }) };
  let response;
  try {
    response = await fetch(path, { ...options, headers });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Failure("The server does not answer. Is it still running?");
  }
  if (response.status === 401) {
    await login(token ? "This token is wrong." : "");
    return ask(path, options);
  }
  if (!response.ok) {
    const answer = await response.json().catch(() => ({}));
    throw new Failure(sentence(answer.detail ?? `The server answers with error ${response.status}.`));
  }
  return response;
}

export const post = (path, body, options = {}) =>
  ask(path, body instanceof FormData
    ? { method: "POST", body, ...options }
    : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, ...options });

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1) + (/[.!?]$/.test(text) ? "" : ".");

let waiting = null; // one dialog for all requests that need a token
function login(message) {
  waiting ??= new Promise((resolve) => {
    $("login-error").textContent = message;
    $("token").value = "";
    $("login").showModal();
    $("login").addEventListener("close", () => {
      sessionStorage.setItem("token", $("token").value.trim());
      waiting = null;
      resolve();
    }, { once: true });
  });
  return waiting;
}
$("login").addEventListener("cancel", (event) => event.preventDefault());

// ---- the address: #id=7&camera=c1&topk=20, or #v=… for the embedding of an uploaded crop

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
