/**
 * Parts that several views share: panels, states, buttons with their failures.
 */

import { h } from "./dom.js";
import { sentence, words } from "./format.js";

let changed = () => {};

/** Set the function that draws the page again. */
export function onInvalidate(callback) {
  changed = callback;
}

export function invalidate() {
  changed();
}

/** Say `text` to people who use a screen reader. */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}

/** The failures and the progress of actions, by the name of the action. */
const actions = new Map();

/** Run an action; its button shows that it runs, and its failure until it is tried again. */
export async function act(name, run) {
  if (actions.get(name)?.pending) return;
  actions.set(name, { pending: true, error: null });
  invalidate();
  try {
    await run();
    actions.delete(name);
  } catch (error) {
    actions.set(name, { pending: false, error: explain(error) });
  }
  invalidate();
}

/** Return the sentence about a failure, with the time to wait. */
export function explain(error) {
  const wait = error.retryAfter ? ` Try again in ${Math.ceil(error.retryAfter)} s.` : "";
  return sentence(error.message) + wait;
}

/** Return a button that runs an action of the server. */
export function actionButton(name, label, run, { kind = "", disabled = false, described } = {}) {
  const pending = actions.get(name)?.pending === true;
  return h(
    "button",
    {
      type: "button",
      key: name,
      class: `button ${kind}`,
      disabled,
      "data-action": name,
      "aria-busy": pending ? "true" : null,
      "aria-label": described,
      onclick: () => act(name, run),
    },
    label,
  );
}

/** Return the failures of the actions whose names begin with one of `prefixes`. */
export function actionErrors(...prefixes) {
  return [...actions]
    .filter(
      ([name, { error }]) => error !== null && prefixes.some((prefix) => name.startsWith(prefix)),
    )
    .map(([name, { error }]) =>
      h(
        "p",
        { key: `error ${name}`, class: "action-error", role: "alert" },
        error,
        " ",
        h(
          "button",
          {
            type: "button",
            class: "link",
            onclick: () => {
              actions.delete(name);
              invalidate();
            },
          },
          "Dismiss",
        ),
      ),
    );
}

/** Return a section with a heading. */
export function panel(title, { key = title, aside = null, kind = "", level = 2 } = {}, ...content) {
  const id = `heading-${key.toLowerCase().replace(/[^a-z0-9]+/g, "-")}`;
  return h(
    "section",
    { key, class: `panel ${kind}`, "aria-labelledby": id },
    h("header", { class: "panel-head" }, h(`h${level}`, { id }, title), aside),
    h("div", { class: "panel-body" }, ...content),
  );
}

export function empty(...text) {
  return h("p", { class: "empty" }, ...text);
}

/** The tones of the states of workers and pools; others are neutral. */
const TONES = {
  idle: "ok",
  serving: "ok",
  busy: "busy",
  answered: "busy",
  starting: "warn",
  clearing: "warn",
  settling: "warn",
  interrupting: "warn",
  renewing: "warn",
  replacing: "warn",
  finishing: "warn",
  aborting: "warn",
  trying: "warn",
  paused: "warn",
  draining: "warn",
  waiting: "warn",
  stopping: "warn",
  failed: "bad",
  held: "bad",
  lost: "bad",
  throttled: "bad",
  suspended: "bad",
  network: "bad",
  login_required: "bad",
  login_expired: "bad",
  out_of_credits: "bad",
};

export function toneOf(state) {
  return TONES[state] ?? "off";
}

/** Return a state as a word with a colour; a state that is not known any more says so. */
export function stateChip(state, known = true) {
  const label = words(state);
  return known
    ? h("span", { class: `chip ${toneOf(state)}` }, h("span", { class: "dot" }), label)
    : h(
        "span",
        { class: "chip unknown" },
        h("span", { class: "dot" }),
        `Was ${label.toLowerCase()}`,
      );
}

const OUTCOMES = {
  answered: ["ok", "Answered"],
  accepted: ["ok", "Accepted"],
  replayed: ["ok", "Replayed"],
  failed: ["bad", "Failed"],
  cancelled: ["off", "Cancelled"],
  rejected: ["warn", "Rejected"],
};

/** Return the outcome of a request, or that it runs. */
export function outcomeChip(request, known = true) {
  if (request.state === "running" && !known) {
    return h("span", { class: "chip unknown" }, h("span", { class: "dot" }), "Was running");
  }
  const unknown = request.state === "ended" ? ["off", "Unknown"] : ["busy", "Running"];
  const [tone, label] = OUTCOMES[request.outcome] ?? unknown;
  return h("span", { class: `chip ${tone}` }, h("span", { class: "dot" }), label);
}

/** Return the head of a table whose `columns` are pairs of a name and a class, if any. */
export function tableHead(columns) {
  return h(
    "thead",
    null,
    h(
      "tr",
      null,
      columns.map(([name, kind]) => h("th", { key: name, scope: "col", class: kind }, name)),
    ),
  );
}

/** Return a list of facts: pairs of a name and a value; those without a value are left out. */
export function facts(pairs, kind = "facts") {
  return h(
    "dl",
    { class: kind },
    pairs
      .filter(([, value]) => value !== null && value !== undefined)
      .map(([name, value]) => h("div", { key: name }, h("dt", null, name), h("dd", null, value))),
  );
}

/** Return a button that copies `text`. */
export function copyButton(text, what) {
  return h(
    "button",
    {
      type: "button",
      class: "button small",
      "aria-label": `Copy ${what}`,
      onclick: async ({ currentTarget: button }) => {
        let done = "Copied";
        try {
          await navigator.clipboard.writeText(text);
        } catch {
          done = "Not allowed by the browser";
        }
        announce(done);
        button.textContent = done;
        setTimeout(() => (button.textContent = "Copy"), 1500);
      },
    },
    "Copy",
  );
}

export function notice(tone, key, ...content) {
  return h("div", { key: `notice ${key}`, class: `notice ${tone}` }, ...content);
}

/** Return a link to a view. */
export function link(route, props, ...content) {
  return h("a", { href: `#/${route}`, ...props }, ...content);
}

/** Return the fragment of a request's view. */
export function requestRoute(id) {
  return `requests/${encodeURIComponent(id)}`;
}

export function workerRoute(name) {
  return `workers/${encodeURIComponent(name)}`;
}
