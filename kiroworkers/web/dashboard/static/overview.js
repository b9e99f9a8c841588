/**
 * Show the pool now: load, workers, pools, queue, approvals, outages and recent requests.
 */

import { json } from "./api.js";
import { tiles } from "./charts.js";
import { h } from "./dom.js";
import {
  bytes,
  clock,
  count,
  counted,
  date,
  duration,
  percent,
  sentence,
  span,
  time,
  words,
} from "./format.js";
import { legend } from "./phases.js";
import { requestTable } from "./request-table.js";
import { servers } from "./servers.js";
import {
  actionButton,
  actionErrors,
  announce,
  empty,
  facts,
  link,
  panel,
  requestRoute,
  stateChip,
  workerRoute,
} from "./ui.js";

/** The words for the phase of a worker's request. */
const WORKING = {
  received: "received",
  queued: "queued",
  started: "sending the prompt",
  submitted: "thinking",
  first_output: "answering",
  tool_asked: "asks to use a tool",
  tool_decided: "answering",
  tool_used: "using a tool",
  notice: "answering",
  retry: "trying again",
  answered: "checking the answer",
  repaired: "checking the answer",
};

export function phaseName(phase) {
  return WORKING[phase] ?? words(phase ?? "running").toLowerCase();
}

export const overview = {
  title: "Overview",

  draw({ feed, operator }) {
    const { state } = feed;
    const workers = Object.entries(state.workers);
    const busy = workers.filter(
      ([, worker]) => worker.request !== null || worker.state === "busy",
    ).length;
    const requests = feed.recent().slice(0, 15);
    return [
      state.approvals.length > 0 ? approvals(feed, operator) : null,
      h(
        "section",
        { class: "strip", "aria-label": "Load" },
        h("h2", { class: "unseen" }, "Load"),
        tiles(feed, workers.length, busy),
      ),
      h(
        "div",
        { class: "columns" },
        h(
          "div",
          { class: "column main-column" },
          panel(
            "Workers",
            { aside: h("span", { class: "aside" }, summarize(workers, feed.live)) },
            workers.length === 0
              ? empty("There are no workers.")
              : h(
                  "ul",
                  { class: "workers" },
                  workers.map(([name, worker]) => card(name, worker, { feed, operator })),
                ),
          ),
          servers(feed),
          panel(
            "Recent requests",
            { aside: legend() },
            requests.length === 0
              ? empty(
                  "No request yet. ",
                  link("tasks", { class: "button primary" }, "Send the first one"),
                )
              : [
                  requestTable(requests, feed),
                  h("p", { class: "more" }, link("requests", {}, "All requests")),
                ],
          ),
        ),
        h(
          "div",
          { class: "column side-column" },
          Object.entries(state.agents).map(([name, agent]) =>
            pool(name, agent, { feed, operator }),
          ),
          queue(feed),
          outages(feed),
        ),
      ),
    ];
  },
};

function summarize(workers, live) {
  if (!live) return "Not known at the moment";
  const counts = new Map();
  for (const [, worker] of workers) counts.set(worker.state, (counts.get(worker.state) ?? 0) + 1);
  return [...counts]
    .map(([state, number]) => `${number} ${words(state).toLowerCase()}`)
    .join(" · ");
}

/** Return the card of a worker. */
export function card(name, worker, { feed, operator, linked = true }) {
  return h(
    "li",
    {
      key: name,
      class: "card worker",
      "data-worker": name,
      "data-state": worker.state,
      "data-starts": worker.starts,
    },
    h(
      "div",
      { class: "card-head" },
      linked ? h("h3", null, link(workerRoute(name), {}, name)) : h("h2", null, name),
      h("span", { class: "agent" }, worker.agent),
      stateChip(worker.state, feed.live),
    ),
    activity(name, worker, feed),
    facts([
      ["Age", span(worker.age / 1000 + (feed.live ? (feed.now() - feed.state.time) / 1000 : 0))],
      ["Answers", count(worker.answered)],
      ["Memory", bytes(worker.memory)],
      ["CPU", percent(worker.cpu)],
    ]),
    worker.lastError === null || worker.lastError === undefined
      ? null
      : h(
          "p",
          { class: "last-error" },
          h("span", { class: "label" }, "Last error"),
          " ",
          sentence(worker.lastError),
          worker.nextStart ? ` Next start: ${time(worker.nextStart)}.` : null,
        ),
    linked || !worker.lastScreen
      ? null
      : h(
          "details",
          { class: "disclosure" },
          h("summary", null, "What the failed session showed"),
          h(
            "pre",
            { class: "stream", tabindex: 0, role: "group", "aria-label": "Last screen" },
            worker.lastScreen,
          ),
        ),
    operator ? controls(name, worker, linked) : null,
    actionErrors(`worker ${name} `),
  );
}

function activity(name, worker, feed) {
  const { request } = worker;
  if (request) {
    const asks = feed.state.approvals.some((approval) => approval.worker === name);
    const task = words(request.task ?? "a request").replace(/-/g, " ");
    return h(
      "p",
      { class: "activity" },
      request.id ? link(requestRoute(request.id), {}, task) : h("span", null, task),
      h("span", { class: "clock" }, clock(feed.since(request.since))),
      h("span", { class: "phase" }, asks ? WORKING.tool_asked : phaseName(request.phase)),
    );
  }
  const waiting = {
    idle: "Waiting for a request",
    starting: "Starting a session",
    clearing: "Clearing the conversation",
    drained: "Out of service",
  };
  return h(
    "p",
    { class: "activity quiet" },
    feed.live ? (waiting[worker.state] ?? words(worker.state)) : "Not known",
  );
}

/** Return the buttons of a worker; none of them interrupts its turn. */
export function controls(name, worker, linked = true) {
  const path = `operator/workers/${encodeURIComponent(name)}`;
  const run = (verb, said) => async () => {
    await json("POST", `${path}/${verb}`);
    announce(`${name}: ${said}`);
  };
  const drained = worker.state === "drained";
  return h(
    "div",
    { class: "buttons" },
    linked
      ? link(
          workerRoute(name),
          {
            class: "button small",
            "aria-label": `${worker.view === "messages" ? "Messages" : "Terminal"} of ${name}`,
          },
          worker.view === "messages" ? "Messages" : "Terminal",
        )
      : null,
    drained
      ? actionButton(`worker ${name} start`, "Start", run("restart", "is starting"), {
          kind: "small",
          described: `Start ${name}`,
        })
      : [
          actionButton(
            `worker ${name} restart`,
            "Restart",
            run("restart", "restarts after its turn"),
            {
              kind: "small",
              described: `Restart ${name} after its turn`,
            },
          ),
          actionButton(`worker ${name} drain`, "Drain", run("drain", "drains after its turn"), {
            kind: "small",
            described: `Drain ${name} after its turn`,
          }),
        ],
  );
}

/** Return the panel of an agent's pool. */
function pool(name, agent, { feed, operator }) {
  const { pool: state, queue: waiting } = agent;
  const query = `?agent=${encodeURIComponent(name)}`;
  const paused = state.state === "paused";
  const scale = (number) => async () => {
    await json("PUT", "operator/workers", { body: { agent: name, workers: number } });
    announce(`${name}: ${counted(number, "worker")}`);
  };
  return panel(
    name,
    { key: `pool ${name}`, kind: "pool", aside: stateChip(state.state, feed.live) },
    h("p", { class: "detail" }, capitalize(agent.agentDetail)),
    state.detail && !agent.outage ? h("p", { class: "detail strong" }, state.detail) : null,
    agent.outage
      ? h(
          "p",
          { class: "outage-now" },
          h("strong", null, `${words(agent.outage.kind)}: `),
          sentence(agent.outage.detail),
          ` Since ${time(agent.outage.since)}.`,
          agent.outage.retryAfter ? ` Next attempt in ${span(agent.outage.retryAfter)}.` : null,
        )
      : null,
    facts([
      [
        "Workers",
        state.maxWorkers > state.workers
          ? `${state.workers} to ${state.maxWorkers}`
          : count(state.workers),
      ],
      ["Queue", `${count(waiting.length)} of ${count(waiting.limit)}`],
      ["Proven", agent.proof ? words(agent.proof.level) : null],
      [
        "Canary",
        agent.canary ? `${words(agent.canary.state)} ${agent.canary.version ?? ""}` : null,
      ],
    ]),
    operator
      ? h(
          "div",
          { class: "buttons" },
          paused
            ? actionButton(
                `pool ${name} resume`,
                "Resume",
                () => json("POST", `operator/resume${query}`),
                {
                  kind: "primary",
                  described: `Resume ${name}`,
                },
              )
            : actionButton(
                `pool ${name} pause`,
                "Pause",
                () => json("POST", `operator/pause${query}`),
                {
                  described: `Pause ${name}`,
                },
              ),
          actionButton(
            `pool ${name} renew`,
            "Restart all",
            () => json("POST", `operator/renew${query}`),
            {
              described: `Restart all workers of ${name}, one at a time`,
            },
          ),
          h(
            "div",
            { class: "stepper", role: "group", "aria-label": `Number of workers of ${name}` },
            actionButton(`pool ${name} fewer`, "−", scale(state.workers - 1), {
              disabled: state.workers <= 1,
              described: `One worker fewer for ${name}`,
            }),
            h("output", { "aria-label": "Workers" }, count(state.workers)),
            actionButton(`pool ${name} more`, "+", scale(state.workers + 1), {
              described: `One worker more for ${name}`,
            }),
          ),
        )
      : null,
    actionErrors(`pool ${name} `),
  );
}

function capitalize(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function queue(feed) {
  const waiting = feed.state.queue;
  return panel(
    "Queue",
    {
      aside: h(
        "span",
        { class: "aside" },
        feed.live ? `${count(waiting.length)} waiting` : "Not known",
      ),
    },
    waiting.length === 0
      ? empty(feed.live ? "No request is waiting." : "No request was waiting.")
      : h(
          "table",
          { class: "table compact" },
          h(
            "thead",
            null,
            h(
              "tr",
              null,
              ...["Task", "Agent", "Priority", "Waiting"].map((name, index) =>
                h("th", { scope: "col", class: index > 1 ? "number" : null }, name),
              ),
            ),
          ),
          h(
            "tbody",
            null,
            waiting.map((request, index) =>
              h(
                "tr",
                { key: request.id ?? index },
                h(
                  "td",
                  null,
                  request.id
                    ? link(requestRoute(request.id), {}, request.task ?? "chat")
                    : (request.task ?? "chat"),
                ),
                h("td", null, request.agent),
                h("td", { class: "number" }, request.priority),
                h(
                  "td",
                  { class: "number" },
                  span(
                    request.age / 1000 + (feed.live ? (feed.now() - feed.state.time) / 1000 : 0),
                  ),
                ),
              ),
            ),
          ),
        ),
  );
}

function approvals(feed, operator) {
  return panel(
    "Approvals",
    {
      kind: "urgent",
      aside: h("span", { class: "aside" }, `${counted(feed.state.approvals.length, "question")}`),
    },
    h(
      "ul",
      { class: "approvals" },
      feed.state.approvals.map((approval) => {
        const decide = (decision) => () =>
          json("POST", `operator/approvals/${encodeURIComponent(approval.id)}`, {
            body: { decision },
          });
        const elapsed = feed.since(feed.state.time);
        return h(
          "li",
          { key: approval.id, class: "card" },
          h(
            "p",
            { class: "approval-head" },
            link(workerRoute(approval.worker), {}, approval.worker),
            " asks to use a tool",
            approval.timeLeft === null || approval.timeLeft === undefined
              ? null
              : h("span", { class: "clock" }, `${clock(approval.timeLeft / 1000 - elapsed)} left`),
          ),
          h(
            "pre",
            { class: "question", tabindex: 0, role: "group", "aria-label": "Question" },
            approval.question,
          ),
          operator
            ? h(
                "div",
                { class: "buttons" },
                actionButton(`approval ${approval.id} allow`, "Allow once", decide("allow"), {
                  kind: "primary",
                }),
                actionButton(`approval ${approval.id} deny`, "Deny", decide("deny"), {
                  kind: "danger",
                }),
              )
            : null,
          actionErrors(`approval ${approval.id} `),
        );
      }),
    ),
  );
}

function outages(feed) {
  const known = [...feed.outages].sort((a, b) => b.since - a.since).slice(0, 10);
  return panel(
    "Outages",
    {},
    known.length === 0
      ? empty("None since the server started.")
      : h(
          "ol",
          { class: "outages" },
          known.map((outage) =>
            h(
              "li",
              { key: `${outage.agent} ${outage.since}` },
              h(
                "p",
                null,
                h("strong", null, words(outage.kind)),
                h("span", { class: "agent" }, outage.agent),
                outage.until === null
                  ? h("span", { class: "chip bad" }, h("span", { class: "dot" }), "Now")
                  : h("span", { class: "when" }, duration((outage.until - outage.since) / 1000)),
              ),
              outage.detail ? h("p", { class: "detail" }, outage.detail) : null,
              h(
                "p",
                { class: "when" },
                date(outage.since),
                outage.until === null ? null : ` to ${time(outage.until)}`,
              ),
            ),
          ),
        ),
  );
}
