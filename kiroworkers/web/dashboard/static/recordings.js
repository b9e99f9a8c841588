/**
 * List the recordings, play them, download and delete them.
 */

import { json } from "./api.js";
import { h } from "./dom.js";
import { bytes, counted, date, duration } from "./format.js";
import { player } from "./player.js";
import {
  actionButton,
  actionErrors,
  empty,
  explain,
  invalidate,
  link,
  notice,
  panel,
  requestRoute,
} from "./ui.js";

let recordings = null;
let failure = null;
let asked = null;

/** Load the list of recordings. */
export async function loadRecordings() {
  try {
    recordings = (await json("GET", "recordings")).recordings;
    failure = null;
  } catch (error) {
    failure = explain(error);
  }
  invalidate();
}

/** Return the last recording of a request, or null. */
export function recordingOf(request) {
  const name = request.recordings?.at(-1);
  const matches = (recording) =>
    name ? recording.name === name : recording.requests?.includes(request.id);
  return recordings?.find(matches) ?? null;
}

export const recordingsView = {
  title: "Recordings",

  enter() {
    asked = null;
    loadRecordings();
  },

  draw({ operator }, name) {
    if (!operator) return panel("Recordings", {}, empty("Recordings are for operators."));
    if (failure !== null)
      return panel("Recordings", {}, h("p", { class: "action-error", role: "alert" }, failure));
    if (recordings === null) return panel("Recordings", {}, empty("Loading the recordings."));
    const chosen = recordings.find((recording) => recording.name === name);
    return [
      name !== undefined && chosen === undefined
        ? notice("warn", "gone", `There is no recording ${name}.`)
        : null,
      chosen
        ? panel(
            chosen.name,
            { key: `play ${name}`, kind: "terminal-panel", aside: link("recordings", {}, "Close") },
            player(chosen),
          )
        : null,
      panel(
        "Recordings",
        { aside: h("span", { class: "aside" }, counted(recordings.length, "file")) },
        recordings.length === 0
          ? empty(
              "There are none. Start the server with ",
              h("code", null, "--record"),
              " to record sessions.",
            )
          : table(),
        actionErrors("recording "),
      ),
    ];
  },
};

function table() {
  return h(
    "table",
    { class: "table recordings" },
    h("caption", { class: "unseen" }, "Recordings"),
    h(
      "thead",
      null,
      h(
        "tr",
        null,
        ["Recording", "Worker", "Started", "Length", "Size", "Requests", "Actions"].map((title) =>
          h(
            "th",
            {
              scope: "col",
              class: ["Length", "Size"].includes(title) ? "number" : title.toLowerCase(),
            },
            title,
          ),
        ),
      ),
    ),
    h("tbody", null, [...recordings].sort((a, b) => b.started - a.started).map(row)),
  );
}

function row(recording) {
  const { name, worker, started, ended, requests = [] } = recording;
  const path = encodeURIComponent(name);
  const remove = async () => {
    if (asked !== name) {
      asked = name;
      return;
    }
    asked = null;
    await json("DELETE", `recordings/${path}`);
    await loadRecordings();
  };
  return h(
    "tr",
    { key: name },
    h("th", { scope: "row", class: "recording" }, link(`recordings/${path}`, {}, name)),
    h("td", { class: "worker" }, worker),
    h("td", { class: "started" }, date(started)),
    h("td", { class: "number" }, ended === null ? "Now" : duration((ended - started) / 1000)),
    h("td", { class: "number" }, bytes(recording.bytes)),
    h(
      "td",
      { class: "requests" },
      requests
        .slice(-3)
        .map((id) => [link(requestRoute(id), {}, h("code", null, id.slice(0, 8))), " "]),
      requests.length > 3 ? `and ${requests.length - 3} more` : null,
    ),
    h(
      "td",
      { class: "actions" },
      h("a", { class: "button small", href: `recordings/${path}`, download: name }, "Download"),
      " ",
      actionButton(
        `recording ${name} delete`,
        asked === name ? "Really delete" : "Delete",
        remove,
        { kind: "small danger" },
      ),
    ),
  );
}
