/**
 * Show JSON so that people can read it.
 */

import { h } from "./dom.js";
import { words } from "./format.js";

/** Return elements for any JSON value. */
export function readable(value) {
  if (value === null) return h("span", { class: "none" }, "none");
  if (Array.isArray(value)) return list(value);
  if (typeof value === "object") {
    return h(
      "dl",
      { class: "answer" },
      Object.entries(value).map(([name, part]) =>
        h(
          "div",
          { key: name, class: isWide(part) ? "wide" : null },
          h("dt", null, words(name)),
          h("dd", null, readable(part)),
        ),
      ),
    );
  }
  if (typeof value === "boolean") return value ? "yes" : "no";
  return h("span", { class: typeof value === "number" ? "figure" : "prose" }, String(value));
}

function isWide(value) {
  return typeof value === "object" && value !== null && Object.keys(value).length > 0;
}

function list(values) {
  if (values.length === 0) return h("span", { class: "none" }, "none");
  const simple = values.every((value) => typeof value !== "object" || value === null);
  return h(
    "ul",
    { class: simple ? "plain-list" : "object-list" },
    values.map((value, index) => h("li", { key: index }, readable(value))),
  );
}
