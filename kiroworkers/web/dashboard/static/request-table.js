/**
 * List requests with their timelines.
 */

import { h } from "./dom.js";
import { duration, NONE, time } from "./format.js";
import { bar, describePhases, phasesOf } from "./phases.js";
import { link, outcomeChip, requestRoute, tableHead, workerRoute } from "./ui.js";

const COLUMNS = [
  ["Request", "what"],
  ["Outcome", "outcome"],
  ["Where the time went", "timeline"],
  ["Total", "number total"],
  ["Wait", "number wait"],
  ["Worker", "where"],
  ["Received", "number received"],
];

/** Return the table of `requests`, newest first. */
export function requestTable(requests, feed) {
  return h(
    "table",
    { class: "table requests" },
    h("caption", { class: "unseen" }, "Requests, newest first"),
    tableHead(COLUMNS),
    h(
      "tbody",
      null,
      requests.map((request) => row(request, feed)),
    ),
  );
}

/** Return the seconds that a request took, so far if it runs. */
export function totalOf(request, feed) {
  if (request.state !== "running") return request.total;
  return feed.since(request.received);
}

function row(request, feed) {
  const total = totalOf(request, feed);
  const phases = phasesOf(request, total);
  const name = request.task ?? NONE;
  return h(
    "tr",
    { key: request.key ?? request.id, "data-outcome": request.outcome ?? "running" },
    h(
      "th",
      { scope: "row", class: "what" },
      request.id ? link(requestRoute(request.id), { class: "request-link" }, name) : name,
      request.job ? h("span", { class: "tag" }, "job") : null,
      request.client ? h("span", { class: "client" }, request.client) : null,
    ),
    h(
      "td",
      { class: "outcome" },
      outcomeChip(request, feed.live),
      request.code ? h("code", { class: "code" }, request.code) : null,
    ),
    h("td", { class: "timeline" }, bar(phases, { label: describePhases(phases) })),
    h("td", { class: "number total" }, duration(total)),
    h("td", { class: "number wait" }, duration(request.wait)),
    h(
      "td",
      { class: "where" },
      request.worker ? link(workerRoute(request.worker), { class: "plain" }, request.worker) : NONE,
    ),
    h("td", { class: "number received" }, time(request.received)),
  );
}
