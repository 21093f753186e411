// Pictures of rows and uploads, and the model's attention over them.

import { button, make } from "./dom.js";
import { ask, post } from "./requests.js";

// Show the image of a row.
export async function setImage(img, id) {
  img.onerror = () => {
    img.hidden = true;
    img.after(make("span", "gone", "The image is gone"));
  };
  if (!sessionStorage.getItem("token")) img.src = `image/${id}`;
  else await ask(`image/${id}`).then((response) => response.blob()).then((blob) => setBlob(img, blob)).catch(() => img.onerror());
}

// Show a file; its object URL is freed once the picture is loaded.
export function setBlob(img, blob) {
  const address = URL.createObjectURL(blob);
  for (const end of ["load", "error"]) img.addEventListener(end, () => URL.revokeObjectURL(address), { once: true });
  img.loading = "eager"; // a lazy image that is never scrolled to would keep its object URL
  img.src = address;
}

export function attentionButton(img, id, fail) {
  const attend = button("attend", "attention", () => toggleAttention(attend, img, { id: Number(id) }, () => setImage(img, id), fail));
  attend.setAttribute("aria-pressed", "false");
  return attend;
}

export async function toggleAttention(pressed, img, query, showPlain, fail) {
  const isOn = pressed.getAttribute("aria-pressed") === "true";
  pressed.setAttribute("aria-pressed", String(!isOn));
  if (isOn) return showPlain();
  try {
    const blob = await (await post("attention", query)).blob();
    if (pressed.getAttribute("aria-pressed") === "true") setBlob(img, blob); // not switched off meanwhile
  } catch (error) {
    pressed.setAttribute("aria-pressed", "false");
    fail(error);
  }
}
