/**
 * Show the conversation with an agent that speaks a protocol.
 */

import { h, render } from "./dom.js";
import { words } from "./format.js";

/** The most messages that are kept; the oldest go first. */
const MAX_MESSAGES = 300;

const ROLES = {
  user: "Request",
  agent: "Agent",
  thought: "Thought",
  tool: "Tool",
  note: "Note",
};

/** Return `messages` with one more: pieces of one text are joined, a tool's state is replaced. */
export function addMessage(messages, message) {
  if (message.type === "session") {
    return [...messages, { role: "note", text: `Session ${message.state}` }].slice(-MAX_MESSAGES);
  }
  if (message.type !== "message") return messages;
  const { role, text = "", id = null, status = null } = message;
  if (text === "" && role !== "tool") return messages;
  if (role === "tool" && id !== null) {
    const place = messages.findLastIndex((item) => item.role === role && item.id === id);
    if (place !== -1) {
      const old = messages[place];
      const merged = { ...old, text: text || old.text, status: status ?? old.status };
      return messages.with(place, merged);
    }
  }
  const last = messages.at(-1);
  const joins = role === "agent" || role === "thought";
  if (joins && id !== null && last?.role === role && last.id === id) {
    return messages.with(-1, { ...last, text: last.text + text });
  }
  return [...messages, { role, text, id, status }].slice(-MAX_MESSAGES);
}

/** Draw the messages into `host`. */
export function drawMessages(host, messages) {
  render(
    host,
    messages.length === 0
      ? h("p", { class: "empty" }, "Nothing was said yet.")
      : h(
          "ol",
          { class: "message-list" },
          messages.map((message, index) => card(message, index)),
        ),
  );
}

const TONES = {
  completed: "ok",
  allowed: "ok",
  asked: "warn",
  pending: "warn",
  in_progress: "busy",
  failed: "bad",
  denied: "bad",
};

/** The length of a text, in characters, above which its box may have to scroll. */
const LONG = 500;

function capitalize(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function card({ role, text, status }, index) {
  return h(
    "li",
    { key: index, class: `message ${ROLES[role] ? role : "note"}` },
    h(
      "p",
      { class: "message-role" },
      ROLES[role] ?? words(role),
      status
        ? h(
            "span",
            { class: `chip ${TONES[status] ?? "off"}` },
            h("span", { class: "dot" }),
            words(status),
          )
        : null,
    ),
    h(
      "div",
      text.length > LONG
        ? {
            class: "message-text long",
            tabindex: 0,
            role: "group",
            "aria-label": ROLES[role] ?? "Text",
          }
        : { class: "message-text" },
      role === "note" ? capitalize(text) : text,
    ),
  );
}
