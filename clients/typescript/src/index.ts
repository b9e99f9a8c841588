/**
 * Send requests to a kiroworkers server.
 *
 * The types come from `schema.ts`, which `npm run generate` makes from the OpenAPI document of a
 * server: they include that server's own tasks.
 */

import createFetchClient, { type Client } from "openapi-fetch";

import { readEvents } from "./events.js";
import type { components, paths } from "./schema.js";

export type Schemas = components["schemas"];

/** A failure: when its `code` has been compared, its other fields are known. */
export type Failure = Schemas[Extract<keyof Schemas, `${string}Failure`>];

/** The path of a task, such as `/kiro/generate-story`. */
export type TaskPath = {
  [P in keyof paths]: paths[P] extends { post: { requestBody: unknown } }
    ? Extract<P, `/kiro/${string}`>
    : never;
}[keyof paths];

/** The body of a request to the task at `P`. */
export type Input<P extends TaskPath> =
  paths[P]["post"]["requestBody"]["content"]["application/json"];

/** The answer of the task at `P`. */
export type Answer<P extends TaskPath> =
  paths[P]["post"]["responses"][200]["content"]["application/json"];

type EventData<P extends TaskPath> = Required<Omit<Schemas["TaskEvents"], "answer">> & {
  answer: Answer<P>;
};

/** A server-sent event of the task at `P`. */
export type TaskEvent<P extends TaskPath> = {
  [Name in keyof EventData<P>]: { event: Name; data: EventData<P>[Name] };
}[keyof EventData<P>];

export interface Options {
  /** The address of the server, such as `http://127.0.0.1:8080`. */
  baseUrl: string;
  /** The token, if the server has a token file. */
  token?: string;
  /** Seconds after which a request is given up, repetitions included. */
  timeout?: number;
  /** How often a request is repeated if the server says that this may help. */
  retries?: number;
}

/** Thrown when a request gets a failure instead of an answer. */
export class KiroError extends Error {
  override name = "KiroError";

  constructor(
    readonly status: number,
    readonly failure: Failure,
  ) {
    super(failure.error);
  }
}

export class Kiro {
  /** The client of all routes, which returns failures instead of throwing them. */
  readonly api: Client<paths, "application/json">;
  readonly #fetch: (request: Request) => Promise<Response>;
  readonly #baseUrl: string;

  constructor({ baseUrl, token, timeout = 300, retries = 3 }: Options) {
    this.#baseUrl = baseUrl.replace(/\/$/, "");
    this.#fetch = (request) => {
      if (token !== undefined) request.headers.set("authorization", `Bearer ${token}`);
      return fetchAgain(request, timeout, retries);
    };
    this.api = createFetchClient<paths, "application/json">({ baseUrl: this.#baseUrl, fetch: this.#fetch });
  }

  /**
   * Return the answer of the task at `path`.
   *
   * @throws KiroError if the request fails.
   */
  async ask<P extends TaskPath>(
    path: P,
    input: Input<P>,
    signal?: AbortSignal,
  ): Promise<Answer<P>> {
    const response = await this.#post(path, input, "application/json", signal);
    return (await response.json()) as Answer<P>;
  }

  /**
   * Yield the progress of the task at `path`, and at last its answer.
   *
   * @throws KiroError if the request fails, before its stream begins or within it.
   */
  async *stream<P extends TaskPath>(
    path: P,
    input: Input<P>,
    signal?: AbortSignal,
  ): AsyncGenerator<TaskEvent<P>> {
    const response = await this.#post(path, input, "text/event-stream", signal);
    if (response.body === null) throw new TypeError("The response has no body");
    for await (const { event, data } of readEvents(response.body)) {
      const value: unknown = JSON.parse(data);
      if (event === "error") {
        const { status, ...failure } = value as Failure & { status: number };
        throw new KiroError(status, failure as Failure);
      }
      yield { event, data: value } as TaskEvent<P>;
    }
  }

  async #post(path: string, input: unknown, accept: string, signal?: AbortSignal) {
    const request = new Request(this.#baseUrl + path, {
      method: "POST",
      headers: { accept, "content-type": "application/json" },
      body: JSON.stringify(input),
      signal: signal ?? null,
    });
    const response = await this.#fetch(request);
    if (!response.ok) throw new KiroError(response.status, (await response.json()) as Failure);
    return response;
  }
}

/**
 * Send `request`, and send it again after the time in `Retry-After`.
 *
 * A failure without this header is final: where repeating could help, the server has done it.
 */
async function fetchAgain(request: Request, timeout: number, retries: number): Promise<Response> {
  const deadline = Date.now() + timeout * 1000;
  const signal = AbortSignal.any([request.signal, AbortSignal.timeout(timeout * 1000)]);
  for (let repetition = 0; ; repetition++) {
    const response = await fetch(request.clone(), { signal });
    const seconds = Number(response.headers.get("retry-after") ?? NaN);
    const isFinal = response.ok || Number.isNaN(seconds) || repetition === retries;
    if (isFinal || Date.now() + seconds * 1000 > deadline) return response;
    await response.body?.cancel();
    await pause(seconds, signal);
  }
}

function pause(seconds: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const abort = () => {
      clearTimeout(timer);
      reject(signal.reason);
    };
    const timer = setTimeout(() => {
      signal.removeEventListener("abort", abort);
      resolve();
    }, seconds * 1000);
    signal.addEventListener("abort", abort, { once: true });
  });
}
