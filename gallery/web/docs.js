"use strict";
// The API's description, made readable without anything from another site.

const make = (name, text = "", ...children) => {
  const element = document.createElement(name);
  element.textContent = text;
  element.append(...children);
  return element;
};

const describe = (schema) =>
  [schema.type === "array" ? `list of ${schema.items?.type ?? "values"}` : schema.type,
    schema.minimum !== undefined && `${schema.minimum}…${schema.maximum ?? ""}`,
    schema.default !== undefined && `default ${schema.default}`].filter(Boolean).join(", ");

function fields(content) {
  const found = new Map();
  for (const [kind, { schema }] of Object.entries(content)) {
    for (const choice of schema.oneOf ?? [schema]) {
      for (const [name, item] of Object.entries(choice.properties ?? {})) {
        if (!found.has(name)) found.set(name, { item, kinds: new Set() });
        found.get(name).kinds.add(kind === "application/json" ? "JSON" : "form");
      }
    }
  }
  return found;
}

function table(content) {
  const body = make("table");
  for (const [name, { item, kinds }] of fields(content)) {
    body.append(make("tr", "", make("td", "", make("code", name)), make("td", describe(item)),
      make("td", item.description ?? ""), make("td", [...kinds].join(" or "))));
  }
  return body;
}

async function main() {
  const api = await (await fetch("openapi.json")).json();
  document.getElementById("text").textContent = api.info.description;
  const pre = document.querySelector("pre");
  pre.textContent = pre.textContent.trim().replaceAll("HOST", new URL(".", location.href).href.replace(/\/$/, ""));
  for (const [path, methods] of Object.entries(api.paths)) {
    for (const [method, route] of Object.entries(methods)) {
      const article = make("article", "", make("h2", `${method.toUpperCase()} ${path}`), make("p", route.description ?? ""));
      if (route.requestBody) article.append(table(route.requestBody.content));
      document.getElementById("routes").append(article);
    }
  }
}

main();
