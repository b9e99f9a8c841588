/**
 * Show one worker: its state, its terminal or messages, and its recent requests.
 */

import { h } from "./dom.js";
import { conversation } from "./live.js";
import { card } from "./overview.js";
import { requestTable } from "./request-table.js";
import { empty, link, notice, panel } from "./ui.js";

export const workerView = {
  title: "Worker",

  draw(context, name) {
    const { feed, operator } = context;
    const names = Object.keys(feed.state.workers);
    const worker = feed.state.workers[name];
    const others = h(
      "nav",
      { key: "workers", class: "subnav", "aria-label": "Workers" },
      names.map((other) =>
        link(
          `workers/${encodeURIComponent(other)}`,
          { key: other, "aria-current": other === name ? "page" : null },
          other,
        ),
      ),
    );
    if (worker === undefined) {
      return [
        others,
        panel("Worker not found", {}, empty(`The server has no worker ${name} at the moment.`)),
      ];
    }
    const requests = feed
      .recent()
      .filter((request) => request.worker === name)
      .slice(0, 20);
    return [
      others,
      h(
        "div",
        { key: `worker ${name}`, class: "worker-view" },
        h("ul", { class: "workers single" }, card(name, worker, { feed, operator, linked: false })),
        operator
          ? conversation(name, context, { linked: false })
          : notice(
              "",
              "operators",
              "Terminals and messages are for operators: they show what clients asked.",
            ),
        panel(
          "Recent requests",
          {},
          requests.length === 0
            ? empty("This worker has answered no request lately.")
            : requestTable(requests, feed),
        ),
      ),
    ];
  },
};
