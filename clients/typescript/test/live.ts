/**
 * Use a server: `node dist/test/live.js URL TOKEN`.
 */

import assert from "node:assert/strict";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";

import { Kiro, KiroError } from "../src/index.js";

const [, , baseUrl = "http://127.0.0.1:8080", token] = process.argv;
const kiro = new Kiro({ baseUrl, timeout: 30, ...(token === undefined ? {} : { token }) });
const idea = "Export the filtered story list to CSV so that I can share status";

async function answers(): Promise<void> {
  const story = await kiro.ask("/kiro/generate-story", { idea });
  assert.ok(story.title.length > 0);
  const test = await kiro.ask("/kiro/generate-test", { story });
  assert.ok(test.then.length > 0);
}

async function failures(): Promise<void> {
  try {
    await kiro.ask("/kiro/generate-story", { idea: " " });
    assert.fail("a blank idea was accepted");
  } catch (error) {
    if (!(error instanceof KiroError)) throw error;
    assert.equal(error.status, 400);
    switch (error.failure.code) {
      case "invalid_input":
        assert.equal(error.failure.field, "idea");
        break;
      case "all_workers_busy":
        assert.fail(`ask again in ${error.failure.retryAfter} seconds`);
        break;
      default:
        assert.fail(error.failure.code);
    }
  }
}

async function events(): Promise<void> {
  const names = [];
  for await (const event of kiro.stream("/kiro/generate-story", { idea })) {
    names.push(event.event);
    if (event.event === "started") assert.equal(event.data.attempt, 1);
    if (event.event === "answer") assert.ok(event.data.title.length > 0);
  }
  assert.equal(names[0], "started");
  assert.deepEqual(names.slice(-2), ["headers", "answer"]);
}

async function jobs(): Promise<void> {
  const { data, response } = await kiro.api.POST("/kiro/generate-story", {
    body: { idea },
    params: { header: { Prefer: "respond-async" } },
  });
  assert.equal(response.status, 202);
  assert.ok(data !== undefined && "location" in data);
  const path = { id: data.id };
  for (;;) {
    const job = await kiro.api.GET("/jobs/{id}", { params: { path } });
    assert.ok(job.data !== undefined);
    if (job.data.state === "done") break;
    assert.ok(job.data.state === "queued" || job.data.state === "running");
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  const deleted = await kiro.api.DELETE("/jobs/{id}", { params: { path } });
  assert.equal(deleted.response.status, 204);
  const { error } = await kiro.api.GET("/jobs/{id}", { params: { path } });
  assert.ok(error?.code === "unknown_job");
}

async function completions(): Promise<void> {
  const { data, error } = await kiro.api.POST("/v1/chat/completions", {
    body: { model: "default", messages: [{ role: "user", content: "Hello" }] },
  });
  assert.equal(error, undefined);
  assert.equal(data?.choices[0]?.message.role, "assistant");
}

/** A request is repeated after `Retry-After`, and not after a failure without it. */
async function repetitions(): Promise<void> {
  let requests = 0;
  const busy = createServer((request, response) => {
    requests += 1;
    const again = request.url === "/kiro/generate-story" && requests < 3;
    // 502 if an agent was asked and could not answer.
    const refusal = requests === 1 ? 502 : 503;
    response.writeHead(again ? refusal : 502, again ? { "retry-after": "0" } : {});
    response.end(JSON.stringify({ error: "No", code: again ? "all_workers_busy" : "refusal" }));
  });
  await new Promise<void>((resolve) => busy.listen(0, "127.0.0.1", resolve));
  const { port } = busy.address() as AddressInfo;
  const client = new Kiro({ baseUrl: `http://127.0.0.1:${port}`, timeout: 5 });
  const refused = { name: "KiroError", status: 502 };
  await assert.rejects(client.ask("/kiro/generate-story", { idea }), refused);
  assert.equal(requests, 3);
  await assert.rejects(client.ask("/kiro/generate-test", { story: { title: "x" } }), refused);
  assert.equal(requests, 4);
  busy.close();
  busy.closeAllConnections();
}

for (const example of [answers, failures, events, jobs, completions, repetitions]) {
  await example();
  console.log(`${example.name}: ok`);
}
