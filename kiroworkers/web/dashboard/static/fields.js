/**
 * Make the fields of a form from a JSON schema, and read the input from them.
 */

import { h } from "./dom.js";
import { words } from "./format.js";

/** How deep objects become groups of fields; below, they are JSON text. */
const MAX_DEPTH = 2;

export class FieldError extends Error {
  constructor(field, message) {
    super(message);
    this.field = field;
  }
}

/** Return the fields of an object schema: the required ones first. */
export function fieldsOf(schema, example, path = [], depth = 0) {
  const required = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties ?? {}).map(([name, part]) =>
    field(name, part === true ? {} : part, required.has(name), example?.[name], path, depth),
  );
  const rank = ({ required, kind }) => (required ? 0 : kind === "group" ? 2 : 1);
  return fields.sort((a, b) => rank(a) - rank(b));
}

function field(name, schema, required, example, parents, depth) {
  const path = [...parents, name];
  const kind = kindOf(schema, depth);
  return {
    name,
    path,
    id: `field-${path.join("-").replace(/[^\w-]/g, "_")}`,
    label: schema.title ?? words(name),
    description: schema.description ?? "",
    schema,
    required,
    example,
    kind,
    fields: kind === "group" ? fieldsOf(schema, example, path, depth + 1) : [],
  };
}

function kindOf(schema, depth) {
  if (Array.isArray(schema.enum)) return "choice";
  const types = [schema.type ?? []].flat().filter((type) => type !== "null");
  const hasAlternatives = ["anyOf", "oneOf", "allOf", "$ref"].some((name) => name in schema);
  if (types.length !== 1 || hasAlternatives) return hasAlternatives ? "json" : "any";
  switch (types[0]) {
    case "string":
      return "text";
    case "number":
    case "integer":
    case "boolean":
      return types[0];
    case "array":
      return schema.items?.type === "string" && !schema.items.enum ? "list" : "json";
    default: {
      const known = Object.keys(schema.properties ?? {}).length > 0;
      return known && depth < MAX_DEPTH ? "group" : "json";
    }
  }
}

/** Return an example of a field as the text that a person would type. */
function asText({ kind }, value) {
  if (value === undefined || value === null) return "";
  if (kind === "list" && Array.isArray(value)) return value.join("\n");
  if (kind === "json") return JSON.stringify(value, null, 2);
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** Return the elements of `fields`; `error` is a `FieldError` or a failure with a field, or null. */
export function drawFields(fields, error) {
  return fields.map((item) => (item.kind === "group" ? group(item, error) : single(item, error)));
}

function group(item, error) {
  const concerned = concerns(error, item.path);
  const content = [
    item.description ? h("p", { class: "hint" }, item.description) : null,
    concerned && fieldFor(item.fields, error) === null
      ? h("p", { class: "field-error", id: `${item.id}-error` }, error.message)
      : null,
    drawFields(item.fields, error),
  ];
  const label = [item.label, item.required ? mark() : h("span", { class: "optional" }, "optional")];
  if (item.required) {
    return h("fieldset", { key: item.id, class: "group" }, h("legend", null, label), content);
  }
  return h(
    "details",
    { key: item.id, id: item.id, class: "group", open: concerned },
    h("summary", null, label),
    content,
  );
}

function mark() {
  return h("span", { class: "required" }, "required");
}

function single(item, error) {
  const wrong = fieldIs(error, item);
  const notes = [item.description ? `${item.id}-hint` : null, wrong ? `${item.id}-error` : null];
  const common = {
    id: item.id,
    name: item.path.join("."),
    "aria-describedby": notes.filter((note) => note !== null).join(" ") || null,
    "aria-invalid": wrong ? "true" : null,
    "aria-required": item.required ? "true" : null,
  };
  const hint = { list: " One per line.", json: " As JSON.", any: "" }[item.kind] ?? "";
  return h(
    "div",
    { key: item.id, class: `field ${wrong ? "wrong" : ""}` },
    h(
      "div",
      { class: "field-label" },
      h("label", { for: item.id }, item.label),
      item.required ? mark() : h("span", { class: "optional" }, "optional"),
    ),
    control(item, common),
    wrong ? h("p", { class: "field-error", id: `${item.id}-error` }, error.message) : null,
    item.description || hint
      ? h("p", { class: "hint", id: `${item.id}-hint` }, `${item.description}${hint}`.trim())
      : null,
  );
}

function control(item, common) {
  const { kind, schema, required } = item;
  const placeholder = asText(item, item.example);
  switch (kind) {
    case "choice":
    case "boolean": {
      const values = kind === "boolean" ? [true, false] : schema.enum;
      return h(
        "select",
        common,
        required ? null : h("option", { value: "" }, "Not given"),
        values.map((value) =>
          h(
            "option",
            { value: JSON.stringify(value) },
            kind === "boolean" ? (value ? "Yes" : "No") : String(value),
          ),
        ),
      );
    }
    case "number":
    case "integer":
      return h("input", {
        ...common,
        type: "number",
        step: kind === "integer" ? 1 : "any",
        min: schema.minimum,
        max: schema.maximum,
        placeholder,
      });
    default: {
      const lines = { list: 2, json: 3 }[kind] ?? (placeholder.length > 50 ? 3 : 1);
      return h("textarea", {
        ...common,
        rows: lines,
        placeholder,
        maxlength: schema.maxLength,
        class: kind === "json" ? "mono" : null,
        spellcheck: kind === "json" ? "false" : null,
      });
    }
  }
}

/** Return whether the dotted path of a failure is `path` or below it. */
function concerns(error, path) {
  const name = path.join(".");
  return (
    error?.field === name ||
    Boolean(error?.field?.startsWith(`${name}.`) || error?.field?.startsWith(`${name}[`))
  );
}

function fieldIs(error, item) {
  return item.kind !== "group" && concerns(error, item.path);
}

/** Return the field that a failure is about, or null. */
export function fieldFor(fields, error) {
  for (const item of fields) {
    const found =
      item.kind === "group" ? fieldFor(item.fields, error) : fieldIs(error, item) ? item : null;
    if (found !== null) return found;
  }
  return null;
}

/** Return the input that a person typed into `fields`; throw a `FieldError` if it is none. */
export function readFields(fields) {
  const input = {};
  for (const item of fields) {
    const value = item.kind === "group" ? readGroup(item) : readField(item);
    if (value !== undefined) input[item.name] = value;
    else if (item.required) {
      throw new FieldError(item.path.join("."), `${item.label} is required`);
    }
  }
  return input;
}

function readGroup(item) {
  const anything = item.required || hasInput(item.fields);
  return anything ? readFields(item.fields) : undefined;
}

function hasInput(fields) {
  return fields.some((item) =>
    item.kind === "group"
      ? hasInput(item.fields)
      : document.getElementById(item.id).value.trim() !== "",
  );
}

function readField(item) {
  const text = document.getElementById(item.id).value;
  if (text.trim() === "") return undefined;
  switch (item.kind) {
    case "choice":
    case "boolean":
      return JSON.parse(text);
    case "number":
    case "integer":
      return Number(text);
    case "list":
      return text
        .split("\n")
        .map((line) => line.trim())
        .filter((line) => line !== "");
    case "json":
      try {
        return JSON.parse(text);
      } catch {
        throw new FieldError(item.path.join("."), `${item.label} must be JSON`);
      }
    case "any":
      try {
        return JSON.parse(text);
      } catch {
        return text;
      }
    default:
      return text;
  }
}

/** Fill in `input`, or clear the fields that it does not have. */
export function fillFields(fields, input) {
  for (const item of fields) {
    const value = input?.[item.name];
    const element = document.getElementById(item.id);
    if (item.kind === "group") {
      if (!item.required) element.open = value !== undefined;
      fillFields(item.fields, value);
    } else if (item.kind === "choice" || item.kind === "boolean") {
      element.value = value === undefined ? "" : JSON.stringify(value);
    } else element.value = asText(item, value);
  }
}
