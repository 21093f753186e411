// Small helpers for elements.

export const $ = (id) => document.getElementById(id);

export function make(name, kind, text = "") {
  const element = document.createElement(name);
  if (kind) element.className = kind;
  element.textContent = text;
  return element;
}

export function button(kind, text, click) {
  const element = make("button", kind, text);
  element.type = "button";
  element.addEventListener("click", click);
  return element;
}

export const number = (value) => value.toLocaleString("en");
