/**
 * Run a task: a form made from its schema, the progress of the request, and its answer.
 */

import { ApiError, describeFailure, events, json, send } from "./api.js";
import { readable } from "./answer.js";
import { h } from "./dom.js";
import { drawFields, FieldError, fieldFor, fieldsOf, fillFields, readFields } from "./fields.js";
import { clock, duration, words } from "./format.js";
import { conversation } from "./live.js";
import {
  announce,
  copyButton,
  empty,
  explain,
  facts,
  invalidate,
  link,
  notice,
  panel,
  requestRoute,
  stateChip,
  workerRoute,
} from "./ui.js";

let catalogue = null;
let failure = null;

/** The last request for each task; it goes on while other views are shown. */
const runs = new Map();

async function load() {
  try {
    catalogue = await json("GET", "kiro");
    failure = null;
    for (const task of catalogue.tasks) task.fields = fieldsOf(task.input, task.example?.input);
  } catch (error) {
    failure = explain(error);
  }
  invalidate();
}

/** Return whether a request of this page runs. */
export function isAsking() {
  return [...runs.values()].some(({ ended }) => !ended);
}

export const tasks = {
  title: "Tasks",

  enter() {
    load();
  },

  draw(context, name) {
    if (failure !== null)
      return panel("Tasks", {}, h("p", { class: "action-error", role: "alert" }, failure));
    if (catalogue === null) return panel("Tasks", {}, empty("Loading the tasks."));
    const known = catalogue.tasks;
    const task =
      known.find((item) => item.name === name) ??
      (name === undefined
        ? (known.find((item) => item.name === "generate-story") ?? known[0])
        : undefined);
    return [
      h(
        "nav",
        { class: "subnav", "aria-label": "Tasks" },
        known.map((item) =>
          link(
            `tasks/${encodeURIComponent(item.name)}`,
            { key: item.name, "aria-current": item === task ? "page" : null },
            item.title ?? item.name,
          ),
        ),
      ),
      task === undefined
        ? panel("Task not found", {}, empty(`The server has no task ${name ?? ""}.`))
        : h("div", { key: task.name, class: "ask" }, form(task, context), result(task, context)),
    ];
  },
};

function form(task, { session }) {
  const run = runs.get(task.name);
  const error = run?.error ?? null;
  const asking = run !== undefined && !run.ended;
  const allowed = !session.needsToken || session.scopes.includes("ask");
  const submit = (event) => {
    event?.preventDefault();
    if (!asking) ask(task);
  };
  return panel(
    task.title ?? words(task.name),
    { key: `form ${task.name}`, kind: "form-panel" },
    h("p", { class: "lead" }, task.description),
    h(
      "form",
      {
        class: "form",
        novalidate: true,
        onsubmit: submit,
        onkeydown: (event) => {
          if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit(event);
        },
      },
      drawFields(task.fields, error),
      catalogue.agents.length > 1
        ? h(
            "div",
            { class: "field" },
            h(
              "div",
              { class: "field-label" },
              h("label", { for: "choose-agent" }, "Agent"),
              h("span", { class: "optional" }, "optional"),
            ),
            h(
              "select",
              { id: "choose-agent" },
              h("option", { value: "" }, task.agent ? `The task's: ${task.agent}` : "The default"),
              catalogue.agents.map((agent) => h("option", { value: agent }, agent)),
            ),
          )
        : null,
      allowed
        ? null
        : notice(
            "warn",
            "scope",
            "Your token does not have the scope “ask”, so it cannot run tasks.",
          ),
      h(
        "div",
        { class: "buttons form-buttons" },
        h(
          "button",
          {
            type: "submit",
            class: "button primary",
            disabled: asking || !allowed,
            "data-action": "ask",
          },
          "Send",
        ),
        asking
          ? h(
              "button",
              {
                type: "button",
                class: "button danger",
                "data-action": "cancel",
                onclick: () => run.abort.abort(),
              },
              "Cancel",
            )
          : null,
        task.example?.input
          ? h(
              "button",
              {
                type: "button",
                class: "button",
                "data-action": "example",
                disabled: asking,
                onclick: () => fillFields(task.fields, task.example.input),
              },
              "Fill in an example",
            )
          : null,
        h(
          "span",
          { class: "shortcut" },
          h("kbd", null, "Ctrl"),
          " ",
          h("kbd", null, "Enter"),
          " sends",
        ),
      ),
      error !== null && fieldFor(task.fields, error) === null
        ? h(
            "p",
            { class: "action-error", role: "alert" },
            explain(error),
            error.code ? [" ", h("code", { class: "code" }, error.code)] : null,
          )
        : null,
    ),
  );
}

/** Send the request that the form describes, and follow its events. */
async function ask(task) {
  const run = {
    abort: new AbortController(),
    began: performance.now(),
    stage: "Sending",
    text: "",
    notes: [],
    error: null,
    answer: undefined,
    headers: {},
    id: null,
    worker: null,
    ended: false,
  };
  const earlier = runs.get(task.name);
  runs.set(task.name, run);
  try {
    const input = readFields(task.fields);
    const agent = document.getElementById("choose-agent")?.value;
    const response = await send("POST", `kiro/${encodeURIComponent(task.name)}`, {
      body: input,
      headers: { accept: "text/event-stream", ...(agent ? { "x-agent": agent } : {}) },
      signal: run.abort.signal,
    });
    run.id = response.headers.get("x-request-id");
    run.stage = "Sent";
    invalidate();
    for await (const [name, data] of events(response)) {
      follow(run, name, data);
      invalidate();
    }
    if (run.answer === undefined)
      throw new ApiError("The connection was closed before the answer came");
    announce("The answer has arrived");
  } catch (error) {
    if (error.name === "AbortError") {
      run.stage = "Cancelled";
      announce("Cancelled");
    } else if (error instanceof ApiError || error instanceof FieldError) {
      run.error = error;
      run.stage = "Failed";
      // A mistake in the form leaves the earlier answer where it was.
      if (error.field !== null && earlier?.answer !== undefined) {
        runs.set(task.name, { ...earlier, error });
      }
    } else {
      run.error = new ApiError("The connection was lost");
      run.stage = "Failed";
    }
  }
  run.ended = true;
  run.total = (performance.now() - run.began) / 1000;
  invalidate();
  if (run.error !== null) {
    const wrong = fieldFor(task.fields, run.error);
    // The page is drawn again first, which shows the message at the field.
    if (wrong !== null) setTimeout(() => document.getElementById(wrong.id)?.focus());
  }
}

/** Apply an event of the stream to the run. */
function follow(run, name, data) {
  switch (name) {
    case "queued":
      run.stage = "Queued";
      run.position = data.position;
      run.estimate = data.estimate;
      break;
    case "started":
      run.stage = "Working";
      run.worker = data.worker;
      run.attempt = data.attempt;
      break;
    case "text":
      run.stage = "Answering";
      run.first ??= (performance.now() - run.began) / 1000;
      run.text += data.text;
      break;
    case "notice":
      run.notes.push(data.detail);
      break;
    case "retry":
      run.stage = "Trying again";
      run.notes.push(data.reason);
      run.text = "";
      break;
    case "headers":
      run.headers = data;
      break;
    case "answer":
      run.stage = "Answered";
      run.answer = data;
      break;
    case "error":
      throw describeFailure(data, data.status ?? 0);
    default:
  }
}

function result(task, context) {
  const run = runs.get(task.name);
  if (run === undefined || (run.error instanceof FieldError && run.answer === undefined)) {
    return panel(
      "Answer",
      { kind: "result idle" },
      empty(
        "The answer appears here, and while it is written, the agent’s words and its terminal.",
      ),
      task.example?.answer === undefined
        ? null
        : h(
            "div",
            { class: "preview" },
            h("h3", null, "What an answer looks like"),
            readable(task.example.answer),
          ),
    );
  }
  const total = run.ended ? run.total : (performance.now() - run.began) / 1000;
  const shown = run.headers;
  return h(
    "div",
    { key: "result", class: "result-column" },
    panel(
      "Answer",
      {
        kind: "result",
        aside: h(
          "span",
          { class: "aside" },
          run.ended ? duration(total) : h("span", { class: "clock" }, clock(total)),
        ),
      },
      progress(run, context),
      shown["X-Kiroworkers-Sample"]
        ? notice(
            "warn",
            "sample",
            "This answer is only a sample: the offline agent has no rules for this task.",
          )
        : null,
      run.answer === undefined
        ? null
        : h("div", { class: "answer-box", "data-part": "answer" }, readable(run.answer)),
      run.text === ""
        ? null
        : h(
            "details",
            { key: "words", class: "disclosure", open: run.answer === undefined },
            h("summary", null, "The agent’s own words"),
            h(
              "pre",
              {
                class: "stream",
                tabindex: 0,
                role: "group",
                "aria-label": "The agent’s own words",
                "data-part": "stream",
              },
              run.text,
            ),
          ),
      run.answer === undefined
        ? null
        : h(
            "details",
            { key: "json", class: "disclosure" },
            h("summary", null, "JSON"),
            h(
              "div",
              { class: "with-copy" },
              copyButton(JSON.stringify(run.answer, null, 2), "the answer as JSON"),
            ),
            h(
              "pre",
              { class: "stream", tabindex: 0, role: "group", "aria-label": "The answer as JSON" },
              JSON.stringify(run.answer, null, 2),
            ),
          ),
      Object.keys(shown).length === 0
        ? null
        : h(
            "details",
            { key: "headers", class: "disclosure" },
            h("summary", null, "Response headers"),
            facts(
              Object.entries(shown).map(([name, value]) => [name, h("code", null, value)]),
              "headers",
            ),
          ),
      run.id && run.ended
        ? h("p", { class: "more" }, link(requestRoute(run.id), {}, "What happened to this request"))
        : null,
    ),
    run.worker !== null && context.operator ? conversation(run.worker, context) : null,
  );
}

const STAGES = ["Sent", "Queued", "Working", "Answering", "Answered"];

function progress(run, { feed }) {
  const failed = ["Failed", "Cancelled"].includes(run.stage);
  const worker = run.worker === null ? null : feed.state.workers[run.worker];
  const sentence = {
    Sending: "Sending the request.",
    Sent: "Waiting for a worker.",
    Queued: `Number ${run.position} in the queue${run.estimate === undefined || run.estimate === null ? "" : `, about ${duration(run.estimate)} until a worker is free`}.`,
    Working: "has the request.",
    Answering: "is answering.",
    Answered: "answered.",
    "Trying again": "is trying again.",
    Cancelled: "You cancelled the request.",
    Failed: "The request failed.",
  }[run.stage];
  const named = run.worker !== null && !failed;
  const reached = STAGES.indexOf(run.stage === "Trying again" ? "Working" : run.stage);
  return h(
    "div",
    { class: `progress ${failed ? "failed" : ""}`, "data-stage": run.stage },
    h(
      "ol",
      { class: "steps", "aria-hidden": "true" },
      STAGES.map((stage, index) =>
        h("li", { key: stage, class: index <= reached ? "reached" : null }),
      ),
    ),
    h(
      "p",
      { class: "progress-text" },
      named ? [link(workerRoute(run.worker), {}, run.worker), " "] : null,
      sentence,
      worker && !run.ended ? [" ", stateChip(worker.state, feed.live)] : null,
    ),
    run.ended && run.answer !== undefined
      ? facts([
          ["Worker", run.headers["X-Kiroworkers-Worker"]],
          ["Attempts", run.headers["X-Kiroworkers-Attempts"]],
          ["Repairs", run.headers["X-Kiroworkers-Repairs"]],
          ["First output", run.first === undefined ? null : duration(run.first)],
          ["Total", duration(run.total)],
        ])
      : null,
    run.notes.map((note, index) => h("p", { key: index, class: "detail" }, note)),
  );
}
