/**
 * List the servers that share a database.
 */

import { h } from "./dom.js";
import { count, counted, NONE, sentence, span, words } from "./format.js";
import { notice, panel, stateChip, tableHead } from "./ui.js";

const COLUMNS = [
  ["Server", null],
  ["State", null],
  ["Version", "version"],
  ["Agents", null],
  ["Jobs", "number"],
  ["Up", "number up"],
  ["Heard of", "number"],
];

/** Return the panel with the servers, or null if this server is on its own. */
export function servers(feed) {
  const { cluster } = feed.state;
  if (!cluster) return null;
  const failing = cluster.database.state !== "ok";
  return panel(
    "Servers",
    {
      kind: "servers",
      aside: h(
        "span",
        { class: "aside" },
        feed.live ? counted(cluster.servers.length, "server") : "Not known at the moment",
      ),
    },
    failing
      ? notice(
          "bad",
          "database",
          h("strong", null, "The shared database fails. "),
          words(sentence(cluster.database.reason)),
          " The other servers are as they were known last.",
        )
      : null,
    h(
      "table",
      { class: "table" },
      h("caption", { class: "unseen" }, "Servers with the same database"),
      tableHead(COLUMNS),
      h(
        "tbody",
        null,
        cluster.servers.map((server) => row(server, cluster.server, feed)),
      ),
    ),
  );
}

function row(server, me, feed) {
  const gone = server.state === "lost" || server.state === "stopped";
  return h(
    "tr",
    { key: `${server.name} ${server.started}`, "data-server": server.name },
    h(
      "th",
      { scope: "row" },
      server.name,
      server.name === me ? h("span", { class: "tag" }, "this one") : null,
      h("span", { class: "address" }, server.address),
    ),
    h("td", null, stateChip(server.state, feed.live)),
    h("td", { class: "version" }, server.version),
    h(
      "td",
      null,
      gone
        ? NONE
        : Object.entries(server.agents).map(([name, agent]) =>
            h("span", { key: name, class: "agent-facts" }, describe(name, agent)),
          ),
    ),
    h("td", { class: "number" }, count(server.jobs)),
    h("td", { class: "number up" }, gone ? NONE : span(feed.since(server.started))),
    h("td", { class: "number" }, server.name === me ? "now" : `${span(server.silence / 1000)} ago`),
  );
}

/** Return what a server says of one of its agents. */
function describe(name, agent) {
  const parts = [`${name}: ${count(agent.idle)} of ${count(agent.workers)} idle`];
  if (agent.queue > 0) parts.push(`${count(agent.queue)} waiting`);
  if (agent.state !== "serving") parts.push(agent.state.replace(/_/g, " "));
  return parts.join(", ");
}
