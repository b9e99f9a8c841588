/**
 * Show everything that is known about one request.
 */

import { json } from "./api.js";
import { h } from "./dom.js";
import { count, counted, date, duration, NONE, sentence, words } from "./format.js";
import { conversation } from "./live.js";
import { bar, PHASES, phasesOf } from "./phases.js";
import { player } from "./player.js";
import { loadRecordings, recordingOf } from "./recordings.js";
import { totalOf } from "./request-table.js";
import {
  copyButton,
  empty,
  explain,
  facts,
  invalidate,
  link,
  notice,
  outcomeChip,
  panel,
  workerRoute,
} from "./ui.js";

let shown = null;

async function load(id) {
  const wanted = (shown = { id, request: shown?.id === id ? shown.request : null, failure: null });
  try {
    wanted.request = await json("GET", `requests/${encodeURIComponent(id)}`);
  } catch (error) {
    wanted.failure = explain(error);
  }
  invalidate();
}

export const requestView = {
  title: "Request",
  hasHeading: true,

  enter({ operator }, id) {
    load(id);
    if (operator) loadRecordings();
  },

  draw(context, id) {
    const { feed, operator } = context;
    const current = feed.requests.get(id);
    const stored = shown?.id === id ? shown.request : null;
    // The feed is newer while the request runs; the history has gaps and late events.
    const isNewer =
      current !== undefined &&
      (stored === null || (current.events?.length ?? 0) > (stored.events?.length ?? 0));
    const request = isNewer ? { ...stored, ...current } : stored;
    if (request === null) {
      return [
        h("h1", { class: "unseen" }, "Request"),
        panel(
          "Request",
          {},
          shown?.failure
            ? h("p", { class: "action-error", role: "alert" }, shown.failure)
            : empty("Loading the request."),
          h("p", { class: "more" }, link("requests", {}, "All requests")),
        ),
      ];
    }
    const running = request.state === "running";
    const recording = operator && !running ? recordingOf(request) : null;
    return h(
      "div",
      { key: `request ${id}`, class: "request-view" },
      h(
        "div",
        { class: "title-row" },
        h("h1", null, words(request.task ?? "Request").replace(/-/g, " ")),
        outcomeChip(request, feed.live),
        h("span", { class: "id" }, h("code", null, id), copyButton(id, "the identifier")),
      ),
      request.outcome === "failed" || request.code ? problem(request) : null,
      h(
        "div",
        { class: recording || (running && request.worker && operator) ? "columns even" : "" },
        h(
          "div",
          { class: "column" },
          panel("Timeline", {}, timeline(request, feed)),
          panel("Facts", {}, summary(request)),
          panel(
            "Events",
            { aside: h("span", { class: "aside" }, counted(request.events?.length ?? 0, "event")) },
            eventTable(request),
          ),
        ),
        recording
          ? h(
              "div",
              { class: "column" },
              panel(
                "Recording",
                {
                  kind: "terminal-panel",
                  aside: link(
                    `recordings/${encodeURIComponent(recording.name)}`,
                    {},
                    "Whole recording",
                  ),
                },
                player(recording, id),
              ),
            )
          : running && request.worker && operator
            ? h("div", { class: "column" }, conversation(request.worker, context))
            : null,
      ),
    );
  },
};

function problem(request) {
  const last = request.events?.findLast(({ name }) => name === "failed");
  const reason =
    last?.reason ??
    last?.detail ??
    (request.status ? `The response had the status ${request.status}` : "No reason is known");
  return notice(
    "bad",
    "problem",
    h("strong", null, reason),
    request.code ? [" ", h("code", { class: "code" }, request.code)] : null,
    request.status ? h("span", { class: "when" }, ` HTTP ${request.status}`) : null,
  );
}

function summary(request) {
  return facts([
    ["Received", date(request.received)],
    ["Wait", duration(request.wait)],
    ["First output", duration(request.firstOutput)],
    ["Turn", duration(request.turn)],
    ["Total", duration(request.total)],
    ["Agent", request.agent ?? NONE],
    ["Worker", request.worker ? link(workerRoute(request.worker), {}, request.worker) : NONE],
    ["Attempts", count(request.attempts)],
    ["Repairs", count(request.repairs)],
    ["HTTP status", request.status ?? NONE],
    ["Client", request.client],
    ["Job", request.job ? h("code", null, request.job) : null],
  ]);
}

/** Return the bar with an axis, and a mark at each event. */
function timeline(request, feed) {
  const total = totalOf(request, feed) ?? 0;
  const phases = phasesOf(request, total);
  const length = Math.max(phases.at(-1)?.end ?? 0, total, 0.001);
  const step =
    [
      0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600,
    ].find((size) => length / size <= 6) ?? length / 5;
  const ticks = [];
  for (let at = 0; at <= length * 1.0001; at += step) ticks.push(at);
  const place = (at) => ({ left: `${Math.min(100, (at / length) * 100).toFixed(2)}%` });
  return h(
    "div",
    { class: "timeline-detail" },
    bar(phases, { length, kind: "large" }),
    h(
      "div",
      { class: "marks", "aria-hidden": "true" },
      (request.events ?? []).map(({ name, at }, index) =>
        h("span", {
          key: index,
          class: `mark ${name}`,
          style: place(at),
          title: `${words(name)} at ${duration(at)}`,
        }),
      ),
    ),
    h(
      "div",
      { class: "axis", "aria-hidden": "true" },
      ticks.map((at, index) =>
        h(
          "span",
          { key: index, class: at / length > 0.93 ? "last" : null, style: place(at) },
          at === 0 ? "0" : duration(at).replace(/\.0+(?= )/, ""),
        ),
      ),
    ),
    h(
      "dl",
      { class: "phase-list" },
      phases.map(({ kind, begin, end }, index) =>
        h(
          "div",
          { key: index },
          h("dt", null, h("span", { class: `swatch ${kind}` }), PHASES[kind]),
          h("dd", null, duration(end - begin)),
        ),
      ),
    ),
  );
}

function eventTable(request) {
  const events = request.events ?? [];
  const gaps = request.gaps ?? [];
  if (events.length === 0) return empty("The events of this request are not kept any more.");
  return [
    gaps.length > 0 ? notice("warn", "gaps", gaps.map(describe).join(" ")) : null,
    h(
      "table",
      { class: "table events" },
      h("caption", { class: "unseen" }, "Events"),
      h(
        "thead",
        null,
        h(
          "tr",
          null,
          h("th", { scope: "col", class: "number" }, "At"),
          h("th", { scope: "col", class: "number step" }, "After"),
          h("th", { scope: "col" }, "Event"),
          h("th", { scope: "col" }, "Details"),
        ),
      ),
      h(
        "tbody",
        null,
        events.map(({ name, at, ...data }, index) =>
          h(
            "tr",
            { key: index, class: `event ${name}` },
            h("td", { class: "number" }, duration(at)),
            h(
              "td",
              { class: "number step" },
              index === 0 ? "" : `+${duration(at - events[index - 1].at)}`,
            ),
            h("th", { scope: "row" }, words(name)),
            h("td", { class: "details" }, details(data)),
          ),
        ),
      ),
    ),
  ];
}

function details(data) {
  return Object.entries(data)
    .filter(([, value]) => value !== null && value !== "")
    .map(([name, value]) =>
      h(
        "span",
        { key: name, class: "detail-pair" },
        h("span", { class: "detail-name" }, words(name)),
        " ",
        h("span", { class: "detail-value" }, write(name, value)),
      ),
    );
}

/** The facts of events that are durations in seconds. */
const DURATIONS = new Set(["total", "seconds", "estimate", "wait", "turn"]);

function write(name, value) {
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (typeof value === "number") return DURATIONS.has(name) ? duration(value) : count(value);
  return value;
}

function describe({ reason, events, at }) {
  const what = events === null || events === undefined ? "some events" : counted(events, "event");
  return `${sentence(reason)} Missing: ${what}${at === null || at === undefined ? "" : ` after ${duration(at)}`}.`;
}
