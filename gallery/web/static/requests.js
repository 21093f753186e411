// Requests to the server, with the visitor's token; errors as sentences in the page's words.

import { $ } from "./dom.js";

export class Failure extends Error {} // its message is a sentence for the visitor

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
    throw new Failure(inPageWords(answer.detail ?? `The server answers with error ${response.status}`));
  }
  return response;
}

export const post = (path, body, options = {}) =>
  ask(path, body instanceof FormData
    ? { method: "POST", body, ...options }
    : { method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" }, ...options });

const LABELS = { where: "More conditions", topk: "Results", vector: "The link", camera: "Camera of the uploaded crop" };

function inPageWords(text) {
  if (text.startsWith("other_cameras: ")) {
    return "The query's camera is not known: choose it under “Camera of the uploaded crop”, or show results of all cameras.";
  }
  const [, field, rest] = /^(\w+)(?:\.\d+)?: (.*)$/s.exec(text) ?? [];
  const words = field in LABELS ? `${LABELS[field]}: ${rest}` : text;
  return words.charAt(0).toUpperCase() + words.slice(1) + (/[.!?]$/.test(words) ? "" : ".");
}

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
