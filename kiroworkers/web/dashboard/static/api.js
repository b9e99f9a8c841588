/**
 * Send requests to the server, at addresses relative to the page: a proxy may serve it below a
 * prefix.
 */

export class ApiError extends Error {
  constructor(
    message,
    { status = 0, code = null, field = null, retryAfter = null, id = null } = {},
  ) {
    super(message);
    Object.assign(this, { status, code, field, retryAfter, id });
  }
}

/** Return the failure that a response reports, with the server's sentence. */
export async function failureOf(response) {
  let body = {};
  try {
    body = await response.json();
  } catch {
    // A proxy's page; the status says what is known.
  }
  return describeFailure(body, response.status, response.headers);
}

/** Return the failure that the JSON `body` describes. */
export function describeFailure(body, status, headers = new Headers()) {
  const wait = Number(headers.get("retry-after"));
  const retryAfter = body.retryAfter ?? (headers.has("retry-after") && wait >= 0 ? wait : null);
  const message = body.error ?? `The server responded with ${status}`;
  const id = body.requestId ?? headers.get("x-request-id");
  const { code = null, field = null } = body;
  return new ApiError(message, { status, code, field, retryAfter, id });
}

/** Send a request; return the response, or throw an `ApiError`. */
export async function send(method, path, { body, headers = {}, signal } = {}) {
  const options = { method, headers: { accept: "application/json", ...headers }, signal };
  if (body !== undefined) {
    options.body = JSON.stringify(body);
    options.headers["content-type"] = "application/json";
  }
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("The server cannot be reached");
  }
  if (!response.ok) throw await failureOf(response);
  return response;
}

/** Send a request; return the decoded JSON of the response. */
export async function json(method, path, options) {
  const response = await send(method, path, options);
  return response.status === 204 ? null : response.json();
}

/** Yield the server-sent events of a response as `[name, data]`. */
export async function* events(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const blocks = (rest + value).split("\n\n");
    rest = blocks.pop();
    for (const block of blocks) {
      let [name, data] = ["message", ""];
      for (const line of block.split("\n")) {
        if (line.startsWith("event: ")) name = line.slice(7);
        else if (line.startsWith("data: ")) data += line.slice(6);
      }
      if (data !== "") yield [name, JSON.parse(data)];
    }
  }
}

/** Return the address of a WebSocket route. */
export function webSocketAddress(path) {
  const address = new URL(path, document.baseURI);
  address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
  address.hash = "";
  return address.href;
}
