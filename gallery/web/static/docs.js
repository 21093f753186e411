"use strict";
// Shows openapi.json, the description of the API that FastAPI makes, without anything from another site.

const make = (name, text = "", ...children) => {
  const element = document.createElement(name);
  element.textContent = text;
  element.append(...children);
  return element;
};

const describe = (schema) =>
  [schema.type === "array" ? `list of ${schema.items.type}s` : schema.format === "binary" ? "file" : schema.type,
    schema.maximum < 1e6 && `${schema.minimum} to ${schema.maximum}`,
    schema.default?.length !== 0 && schema.default !== undefined && `default ${schema.default}`].filter(Boolean).join(", ");

function table(content) {
  const fields = Object.values(content)[0].schema.properties; // the same for a form and for JSON
  const body = make("table");
  for (const [name, schema] of Object.entries(fields)) {
    body.append(make("tr", "", make("td", "", make("code", name)), make("td", describe(schema)), make("td", schema.description)));
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
      const article = make("article", "", make("h2", `${method.toUpperCase()} ${path}`), make("p", route.description));
      const content = route.requestBody?.content;
      if (content) article.append(make("p", `Body: ${Object.keys(content).join(" or ")}`), table(content));
      document.getElementById("routes").append(article);
    }
  }
}

main();
