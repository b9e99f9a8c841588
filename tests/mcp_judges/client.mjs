/*
 * Check a server with the TypeScript client, over HTTP and over `kiroworkers mcp`.
 *
 * As the programs in Python do, it prints `NAME: ok` for each check.  The test passes the
 * parameters as JSON.
 */

import assert from "node:assert/strict";

import { Client, StreamableHTTPClientTransport } from "@modelcontextprotocol/client";
import { StdioClientTransport } from "@modelcontextprotocol/client/stdio";
import { createTaskSessionFromClient } from "@modelcontextprotocol/ext-tasks/client";

const { url, token, command, env } = JSON.parse(process.argv[2]);
const REVISION = "2026-07-28";
const INFO = { name: "judge", version: "1" };
const TASKS = "io.modelcontextprotocol/tasks";
const IDEA = 'Öffner & "Zitat" \\ <b> 😀 \u2028 `x`';

const done = (name) => console.log(`${name}: ok`);
const story = (idea, options) =>
  ({ params: { name: "generate-story", arguments: { idea } }, options });

function overHttp(mode, bearer = token) {
  const headers = bearer ? { Authorization: `Bearer ${bearer}` } : {};
  const transport = new StreamableHTTPClientTransport(new URL(url), { requestInit: { headers } });
  return [new Client(INFO, { versionNegotiation: { mode } }), transport];
}

function overStdio(mode) {
  const [program, ...args] = command;
  const variables = { ...env, KIROWORKERS_TOKEN: token };
  const transport = new StdioClientTransport({ command: program, args, env: variables });
  return [new Client(INFO, { versionNegotiation: { mode } }), transport];
}

async function check(name, client) {
  const call = ({ params, options }) => client.callTool(params, options);
  const { tools } = await client.listTools();
  assert.deepEqual(tools.map((tool) => tool.name),
    ["analyze-invest", "generate-story", "generate-test"]);
  assert.ok(tools.every((tool) => tool.inputSchema && tool.outputSchema && tool.annotations));
  done(`${name} list`);

  const result = await call(story(IDEA));
  assert.equal(result.structuredContent.title, IDEA);
  assert.deepEqual(JSON.parse(result.content[0].text), result.structuredContent);
  done(`${name} call`);

  const seen = [];
  await call(story("With progress", { onprogress: (progress) => seen.push(progress) }));
  assert.ok(seen.length > 0 && seen.every(({ message }) => message), JSON.stringify(seen));
  assert.ok(seen.every(({ progress }, i) => i === 0 || progress > seen[i - 1].progress));
  done(`${name} progress`);

  const controller = new AbortController();
  const cancel = { signal: controller.signal, onprogress: () => controller.abort("enough") };
  await assert.rejects(call(story("Given up [[silent]]", cancel)));
  assert.equal((await call(story("After it"))).structuredContent.title, "After it");
  done(`${name} cancel`);

  await assert.rejects(client.callTool({ name: "no-such-tool", arguments: {} }), { code: -32602 });
  for (const [idea, part] of [[" ", "Idea is required"], ["x [[lame]]", "at most 8"]]) {
    const failed = await call(story(idea));
    assert.equal(failed.isError, true);
    assert.ok(failed.content[0].text.includes(part), failed.content[0].text);
  }
  done(`${name} error`);
}

async function checkTasks() {
  const capabilities = { extensions: { [TASKS]: {} } };
  const [, transport] = overHttp("auto");
  const client = new Client(INFO, { capabilities, versionNegotiation: { mode: "auto" } });
  await client.connect(transport);
  let number = 1000;
  // The codecs of the client's own requests know no tasks yet.
  const rawDispatch = async (request, options) => {
    const message = { jsonrpc: "2.0", id: number++, ...request };
    const name = request.params.name ?? request.params.taskId;
    const response = await fetch(url, {
      method: "POST",
      signal: options?.signal,
      headers: {
        Authorization: `Bearer ${token}`,
        Accept: "application/json, text/event-stream",
        "Content-Type": "application/json",
        "MCP-Protocol-Version": REVISION,
        "Mcp-Method": request.method,
        ...(name === undefined ? {} : { "Mcp-Name": name }),
      },
      body: JSON.stringify(message),
    });
    return response.json();
  };
  const session = createTaskSessionFromClient(client, {
    endpointId: "kiroworkers",
    rawDispatch,
    v2RequestFraming: {
      protocolVersion: REVISION, clientInfo: INFO, clientCapabilities: capabilities,
    },
  });
  const execution = await session.callTool("generate-story", { idea: IDEA });
  assert.equal(execution.kind, "task");
  const { outcome } = await execution.settle();
  assert.equal(outcome.result.structuredContent.title, IDEA, JSON.stringify(outcome));
  done("task result");

  const endless = await session.callTool("generate-story", { idea: "Given up [[silent]]" });
  await endless.cancel();
  const ended = await endless.result();
  assert.equal(ended.status ?? ended.kind, "cancelled", JSON.stringify(ended));
  const [after] = [await session.callTool("generate-story", { idea: "After it" })];
  assert.equal((await after.settle()).outcome.result.structuredContent.title, "After it");
  done("task cancel");
  await session.close();
  await client.close();
}

for (const [name, make, mode] of [
  ["http auto", overHttp, "auto"],
  ["http legacy", overHttp, "legacy"],
  ["stdio auto", overStdio, { pin: REVISION }],
]) {
  const [client, transport] = make(mode);
  await client.connect(transport);
  await check(name, client);
  await client.close();
}
for (const wrong of [null, "not-the-token-of-it"]) {
  const [client, transport] = overHttp("legacy", wrong);
  await assert.rejects(client.connect(transport), /401|token|Unauthorized/i);
}
done("http auth");
await checkTasks();
