/**
 * Divide the time of a request into phases, and draw them as a bar.
 */

import { h } from "./dom.js";
import { duration } from "./format.js";

/** The phases, with the words for them. */
export const PHASES = {
  queue: "Queued",
  first: "First output",
  turn: "Answering",
  tool: "Tool decision",
  finish: "Sending",
  clear: "Clearing",
};

/** The phase that begins with an event; other events change nothing. */
const BEGINS = {
  received: "queue",
  queued: "queue",
  started: "first",
  submitted: "first",
  first_output: "turn",
  tool_asked: "tool",
  tool_decided: "turn",
  retry: "queue",
  answered: "finish",
};

/** Events after which only the clearing of the conversation is left. */
const ENDS = new Set(["ended", "cancelled", "interrupted"]);

/**
 * Return the phases of a request as `{kind, begin, end}` in seconds since it was received.
 *
 * `now` is the time so far of a request that runs.
 */
export function phasesOf(request, now) {
  // It was rejected before anything was done with it.
  if (request.outcome === "rejected") return [];
  const events = request.events ?? [];
  if (events.length < 2) return phasesOfSummary(request, now);
  const phases = [];
  let [kind, begin] = ["queue", events[0].at];
  const close = (end) => {
    if (kind !== null && end > begin) phases.push({ kind, begin, end });
  };
  for (const { name, at } of events) {
    const next = ENDS.has(name) ? null : BEGINS[name];
    const decided = kind !== "tool" || name !== "first_output";
    if (next === undefined || next === kind || !decided) continue;
    // The response may be complete before the event says so.
    close(next === null && request.total > begin ? Math.min(at, request.total) : at);
    [kind, begin] = [next, at];
  }
  if (kind !== null) close(request.state === "running" ? now : events.at(-1).at);
  // The agent clears its conversation while the response is sent, and afterwards.
  const cleared = events.findLast(({ name }) => name === "cleared");
  if (cleared !== undefined) {
    const start = Math.max(phases.at(-1)?.end ?? 0, cleared.at - (cleared.seconds ?? 0));
    if (cleared.at > start) phases.push({ kind: "clear", begin: start, end: cleared.at });
  }
  return phases;
}

/** Return the phases as far as a summary without events tells them. */
function phasesOfSummary({ wait, firstOutput, total, state }, now) {
  const end = state === "running" ? now : (total ?? 0);
  const started = Math.min(wait ?? (state === "running" ? end : 0), end);
  const first = Math.min(Math.max(firstOutput ?? started, started), end);
  return [
    { kind: "queue", begin: 0, end: started },
    { kind: "first", begin: started, end: first },
    { kind: "turn", begin: first, end },
  ].filter((phase) => phase.end > phase.begin);
}

/** Return the phases in a sentence. */
export function describePhases(phases) {
  const parts = phases.map(
    ({ kind, begin, end }) => `${PHASES[kind].toLowerCase()} ${duration(end - begin)}`,
  );
  return parts.length === 0 ? "no time" : parts.join(", ");
}

/** Return a bar of the phases, as wide as its container; `length` is its whole time. */
export function bar(phases, { length = phases.at(-1)?.end ?? 0, kind = "", label } = {}) {
  return h(
    "span",
    { class: `bar ${kind}`, role: "img", "aria-label": label ?? describePhases(phases) },
    phases.map((phase, index) =>
      h("span", {
        key: `${index} ${phase.kind}`,
        class: `segment ${phase.kind}`,
        style: {
          left: `${((phase.begin / (length || 1)) * 100).toFixed(2)}%`,
          width: `${(((phase.end - phase.begin) / (length || 1)) * 100).toFixed(2)}%`,
        },
      }),
    ),
  );
}

/** Return the meaning of the colours. */
export function legend(kinds = ["queue", "first", "turn", "tool", "clear"]) {
  return h(
    "ul",
    { class: "legend", "aria-label": "Colours of the phases" },
    kinds.map((kind) =>
      h("li", { key: kind }, h("span", { class: `swatch ${kind}` }), PHASES[kind]),
    ),
  );
}
