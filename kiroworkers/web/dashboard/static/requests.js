/**
 * Search the history of requests.
 */

import { json } from "./api.js";
import { h } from "./dom.js";
import { counted, date, sentence } from "./format.js";
import { legend } from "./phases.js";
import { requestTable } from "./request-table.js";
import { actionButton, actionErrors, empty, explain, invalidate, notice, panel } from "./ui.js";

const OUTCOMES = ["answered", "accepted", "replayed", "failed", "cancelled", "rejected"];

let page = null;
let failure = null;
let filter = { outcome: "", worker: "", task: "" };

function query() {
  const parameters = new URLSearchParams({ limit: "50" });
  for (const [name, value] of Object.entries(filter)) if (value !== "") parameters.set(name, value);
  return `requests?${parameters}`;
}

async function load() {
  const wanted = query();
  try {
    const found = await json("GET", wanted);
    if (wanted !== query()) return;
    [page, failure] = [found, null];
  } catch (error) {
    failure = explain(error);
  }
  invalidate();
}

async function more() {
  // The path begins with a slash, but the page may be below a prefix.
  const next = await json("GET", page.next.replace(/^\//, ""));
  page = { ...next, requests: [...page.requests, ...next.requests] };
}

export const requestsView = {
  title: "Requests",

  enter() {
    load();
  },

  draw({ feed }) {
    const workers = Object.keys(feed.state.workers);
    const known = new Set(
      [...feed.recent(), ...(page?.requests ?? [])].map(({ task }) => task).filter(Boolean),
    );
    return [
      panel(
        "Requests",
        { aside: legend() },
        h(
          "form",
          {
            class: "filters",
            role: "search",
            "aria-label": "Filter requests",
            onsubmit: (event) => event.preventDefault(),
          },
          select("Outcome", "outcome", OUTCOMES),
          select("Worker", "worker", workers),
          select("Task", "task", [...known].sort()),
          actionButton("requests reload", "Reload", load, {}),
        ),
        failure === null ? null : h("p", { class: "action-error", role: "alert" }, failure),
        page?.dropped
          ? notice(
              "warn",
              "dropped",
              `${counted(page.dropped, "older request")} had to be forgotten.`,
            )
          : null,
        (page?.gaps ?? []).map((gap, index) =>
          notice(
            "warn",
            `gap ${index}`,
            `Requests are missing from ${gap.begins === null ? "the beginning" : date(gap.begins)} to ${date(gap.ends)}: ${sentence(gap.reason)}`,
          ),
        ),
        content(feed),
        actionErrors("requests "),
      ),
    ];
  },
};

function content(feed) {
  if (page === null) return failure === null ? empty("Loading the requests.") : null;
  if (page.requests.length === 0) {
    return empty(
      Object.values(filter).some(Boolean) ? "No request fits the filter." : "No request yet.",
    );
  }
  // What still runs is in the feed with its events.
  const newest = (request) => feed.requests.get(request.id) ?? request;
  return [
    requestTable(page.requests.map(newest), feed),
    page.next
      ? h("p", { class: "more" }, actionButton("requests more", "Older requests", more))
      : null,
  ];
}

function select(label, name, values) {
  return h(
    "label",
    { key: name, class: "filter" },
    h("span", null, label),
    h(
      "select",
      {
        name,
        value: filter[name],
        onchange: (event) => {
          filter = { ...filter, [name]: event.currentTarget.value };
          load();
        },
      },
      h("option", { value: "" }, "All"),
      values.map((value) => h("option", { key: value, value }, value)),
    ),
  );
}
