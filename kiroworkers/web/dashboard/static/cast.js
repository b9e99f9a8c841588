/**
 * Read recordings: asciicasts of terminals, and the messages of agents that speak a protocol.
 */

/** Return the lines of a recording as JSON; a last line that was cut off is left out. */
function parseLines(text) {
  const lines = text.split("\n").filter((line) => line.trim() !== "" && !line.startsWith("#"));
  const values = [];
  lines.forEach((line, index) => {
    try {
      values.push(JSON.parse(line));
    } catch {
      if (index < lines.length - 1)
        throw new Error(`Line ${index + 1} of the recording is not JSON`);
    }
  });
  return values;
}

/** Return the kind and the request of a marker's label, such as "asked request=r-1". */
export function parseMark(label) {
  const kind = label.split(" ", 1)[0];
  const found = label.match(/(?:^|\s)request=("(?:[^"\\]|\\.)*"|[^\s"]*)/);
  let request = found?.[1] ?? null;
  if (request?.startsWith('"')) request = JSON.parse(request);
  return { kind, request };
}

/**
 * Parse an asciicast of version 2 or 3.
 *
 * Return its size, its events with times in seconds since the beginning, and its markers.
 */
export function parseCast(text) {
  const [header, ...lines] = parseLines(text);
  if (![2, 3].includes(header?.version)) throw new Error("The recording is not an asciicast");
  const [columns, rows] =
    header.version === 3 ? [header.term.cols, header.term.rows] : [header.width, header.height];
  let clock = 0;
  const events = lines.map(([time, code, data]) => {
    clock = header.version === 3 ? clock + time : time;
    return { at: clock, code, data };
  });
  const markers = events
    .filter(({ code }) => code === "m")
    .map(({ at, data }) => ({ at, label: data, ...parseMark(data) }));
  return { columns, rows, events, markers, duration: events.at(-1)?.at ?? 0 };
}

/** Return the messages of a recording of a protocol, and the request that each belongs to. */
export function parseFrames(text) {
  const [header, ...lines] = parseLines(text);
  if (header?.format !== "kiroworkers-frames")
    throw new Error("The recording has an unknown format");
  let request = null;
  const messages = [];
  for (const { t: at, dir, frame, data } of lines) {
    if (dir === "mark") {
      request = data?.request ?? request;
      messages.push({
        at,
        request,
        message: { type: "message", role: "note", text: words(data), id: null },
      });
      if (["ended", "retry"].includes(data?.mark)) request = null;
    } else if (dir !== "err") {
      const message = messageOf(frame);
      if (message !== null)
        messages.push({ at, request, message: { type: "message", ...message } });
    }
  }
  return messages;
}

function words({ mark, request, ...data } = {}) {
  const facts = Object.entries(data).map(([name, value]) => `${name} ${value}`);
  return [mark, ...facts].join(" · ");
}

const UPDATES = {
  agent_message_chunk: "agent",
  agent_thought_chunk: "thought",
};

/** Return the message that a frame of the Agent Client Protocol is to a reader, or null. */
function messageOf(frame) {
  if (frame?.method === "session/prompt") {
    const text = (frame.params?.prompt ?? []).map((part) => part.text ?? "").join("\n");
    return { role: "user", text, id: null, status: null };
  }
  if (frame?.method === "session/request_permission") {
    const call = frame.params?.toolCall ?? {};
    return {
      role: "tool",
      text: call.title ?? "Permission",
      id: call.toolCallId ?? null,
      status: "pending",
    };
  }
  if (typeof frame?.result?.stopReason === "string") {
    return {
      role: "note",
      text: `The turn ended: ${frame.result.stopReason}`,
      id: null,
      status: null,
    };
  }
  const update = frame?.method === "session/update" ? frame.params?.update : undefined;
  switch (update?.sessionUpdate) {
    case "agent_message_chunk":
    case "agent_thought_chunk":
      return {
        role: UPDATES[update.sessionUpdate],
        text: update.content?.text ?? "",
        id: "text",
        status: null,
      };
    case "tool_call":
    case "tool_call_update":
      return {
        role: "tool",
        text: update.title ?? "",
        id: update.toolCallId,
        status: update.status ?? null,
      };
    default:
      return null;
  }
}
