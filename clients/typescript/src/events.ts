/**
 * Read server-sent events (WHATWG HTML, "Server-sent events") as this server sends them.
 */

export interface ServerSentEvent {
  event: string;
  data: string;
}

/** Yield the events of a response. */
export async function* readEvents(
  body: ReadableStream<Uint8Array>,
): AsyncGenerator<ServerSentEvent> {
  let text = "";
  for await (const piece of body.pipeThrough(new TextDecoderStream() as ReadableWritablePair<string, Uint8Array>)) {
    text += piece;
    const blocks = text.split("\n\n");
    text = blocks.pop() ?? "";
    for (const block of blocks) {
      const parsed = parse(block);
      if (parsed !== undefined) yield parsed;
    }
  }
}

/** Return the event of a block of lines, or undefined if it has only comments. */
function parse(block: string): ServerSentEvent | undefined {
  const fields = block
    .split("\n")
    .map((line) => /^(event|data): ?(.*)$/.exec(line))
    .filter((match) => match !== null);
  const data = fields.filter(([, name]) => name === "data").map(([, , value]) => value);
  if (data.length === 0) return undefined;
  const event = fields.find(([, name]) => name === "event")?.[2] ?? "message";
  return { event, data: data.join("\n") };
}
