/**
 * Follow the terminal or the messages of a worker over a WebSocket; read-only.
 */

import { webSocketAddress } from "./api.js";
import { h } from "./dom.js";
import { addMessage, drawMessages } from "./messages.js";
import { screenBox } from "./screen.js";
import { invalidate, panel, workerRoute, link } from "./ui.js";
import { words } from "./format.js";

/** Milliseconds before the first new attempt to connect; it doubles up to the second. */
const [RETRY, LONGEST] = [500, 8000];

/** What is known about the connections, by worker. */
const connections = new Map();

/** Connect to a worker; `receive` gets its messages.  Return a function that disconnects. */
function follow(worker, receive) {
  const known = { status: "Connecting", session: null };
  connections.set(worker, known);
  let [socket, timer, delay, closed] = [null, null, RETRY, false];
  const tell = (status) => {
    known.status = status;
    invalidate();
  };
  const connect = () => {
    socket = new WebSocket(webSocketAddress(`terminal?worker=${encodeURIComponent(worker)}`));
    socket.onopen = () => {
      delay = RETRY;
      tell("Live");
    };
    socket.onmessage = ({ data }) => {
      const message = JSON.parse(data);
      if (message.type === "session") {
        known.session = message.state;
        invalidate();
      }
      receive(message);
    };
    socket.onclose = () => {
      if (closed) return;
      tell("Reconnecting");
      timer = setTimeout(connect, delay);
      delay = Math.min(2 * delay, LONGEST);
    };
  };
  connect();
  return () => {
    closed = true;
    clearTimeout(timer);
    socket.close();
    connections.delete(worker);
  };
}

/** Apply a message about a terminal to its screen. */
function show(screen, message) {
  switch (message.type) {
    case "screen":
      screen.reset(message.columns, message.rows);
      screen.write(message.data);
      break;
    case "output":
      screen.write(message.data);
      break;
    default:
  }
}

/** Return the panel with what a worker's agent shows or says. */
export function conversation(worker, { feed }, { level = 2, linked = true } = {}) {
  const messages = feed.state.workers[worker]?.view === "messages";
  const known = connections.get(worker) ?? { status: "Connecting", session: null };
  const title = `${messages ? "Messages" : "Terminal"} of ${worker}`;
  const live = known.status === "Live";
  return panel(
    title,
    {
      key: `conversation ${worker}`,
      kind: "terminal-panel",
      level,
      aside: h(
        "span",
        { class: "aside" },
        h(
          "span",
          { class: `chip ${live ? "ok" : "warn"}` },
          h("span", { class: "dot" }),
          known.status,
        ),
        known.session === null
          ? null
          : h("span", { class: "session-state" }, words(`session ${known.session}`)),
        linked ? link(workerRoute(worker), {}, "Open") : null,
      ),
    },
    messages
      ? liveMessages(worker, title)
      : screenBox(
          title,
          (screen) => follow(worker, (message) => show(screen, message)),
          `screen ${worker}`,
        ),
  );
}

function liveMessages(worker, title) {
  return h("div", {
    key: `messages ${worker}`,
    class: "messages",
    tabindex: 0,
    role: "group",
    "aria-label": title,
    mount(host) {
      let messages = [];
      let timer = null;
      const draw = () => {
        timer = null;
        const atEnd = host.scrollHeight - host.scrollTop - host.clientHeight < 60;
        drawMessages(host, messages);
        if (atEnd) host.scrollTop = host.scrollHeight;
      };
      const stop = follow(worker, (message) => {
        if (message.type === "screen") messages = [];
        messages = addMessage(messages, message);
        timer ??= setTimeout(draw, 50);
      });
      draw();
      return () => {
        clearTimeout(timer);
        stop();
      };
    },
  });
}
