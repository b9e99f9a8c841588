"""
End-to-end tests for the routes of OpenAI's API, also with real clients if installed.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import treq
from twisted.internet.defer import Deferred
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

from tests.servers import ServerTestCase

#: A schema that a strict client would send.
SIZE = {
    "type": "object",
    "properties": {"size": {"type": "integer", "maximum": 8}},
    "required": ["size"],
    "additionalProperties": False,
}
SIZED = {"type": "json_schema", "json_schema": {"name": "size", "strict": True, "schema": SIZE}}


class OpenAITestCase(ServerTestCase):
    """
    Send requests in OpenAI's format.
    """

    async def complete(self, content: Any, model: str = "kiro", **others: Any) -> tuple[Any, Any]:
        """
        Send one message of a user; return the response and its decoded body.
        """
        headers = others.pop("headers", {})
        body = {"model": model, "messages": [{"role": "user", "content": content}], **others}
        return await self.fetch("POST", "/v1/chat/completions", json=body, headers=headers)

    async def stream(self, content: str, **others: Any) -> tuple[Any, list[Any]]:
        """
        Send one message of a user; return the response and the data of its events.

        The last event is ``[DONE]`` or an error.
        """
        headers = others.pop("headers", {})
        messages = [{"role": "user", "content": content}]
        response = await treq.post(
            f"{self.base}/v1/chat/completions",
            json={"model": "default", "messages": messages, "stream": True, **others},
            headers=headers,
            persistent=False,
        )
        events = (await response.content()).decode().split("\n\n")
        data = [event.removeprefix("data: ") for event in events if event.startswith("data: ")]
        return response, [text if text == "[DONE]" else json.loads(text) for text in data]

    def pieces(self, chunks: list[Any]) -> list[str]:
        """
        Check that a stream ended normally, and return the pieces of its reply.
        """
        *others, last, done = chunks
        self.assertEqual(done, "[DONE]")
        self.assertEqual(last["choices"][0]["finish_reason"], "stop")
        self.assertEqual(others[0]["choices"][0]["delta"], {"role": "assistant", "content": ""})
        return [chunk["choices"][0]["delta"]["content"] for chunk in others[1:]]


class CompletionTests(OpenAITestCase):
    """
    Tests for ``/v1/chat/completions``.
    """

    async def test_reply(self) -> None:
        """
        A reply is exact to the character, and comes from a conversation of its own; its
        usage is marked as estimated.
        """
        hostile = 'Hi & "you"\n!ls\n/quit\n@file ``` \x1b[201~ \\ é😀'
        for agent in ("kiro-classic", "kiro-acp"):
            await self.start("--agent", agent, workers=1)
            for content in (hostile, "the next"):
                response, body = await self.complete(content, "default")
                self.assertEqual(response.code, 200, body)
                [choice] = body["choices"]
                self.assertEqual(choice["message"]["content"], f"You said: {content}")
                self.assertEqual((choice["index"], choice["finish_reason"]), (0, "stop"))
                self.assertEqual((body["object"], body["model"]), ("chat.completion", "default"))
            self.assertEqual(
                body["usage"], {"prompt_tokens": 2, "completion_tokens": 5, "total_tokens": 7}
            )
            self.assertIn("usage estimated", body["system_fingerprint"])
            self.assertEqual(self.header(response, "x-kiroworkers-usage"), "estimated")
            self.assertEqual(self.header(response, "x-kiroworkers-worker"), "worker1")
            await self.stop()

    async def test_object(self) -> None:
        """
        An object matches the client's schema.  If it does not, it is repaired, and then
        another worker is tried; if both fail, the error says why and that the client
        should not retry.
        """
        await self.start()
        response, body = await self.complete('{"size": 3}', response_format=SIZED)
        self.assertEqual(json.loads(body["choices"][0]["message"]["content"]), {"size": 3})
        response, body = await self.complete('{"size": 3} [[mend lame]]', response_format=SIZED)
        self.assertEqual(json.loads(body["choices"][0]["message"]["content"]), {"size": 3})
        self.assertEqual(self.header(response, "x-kiroworkers-repairs"), "1")
        response, body = await self.complete('{"size": 9}', response_format=SIZED)
        self.assertEqual(response.code, 502, body)
        error = body["error"]
        self.assertEqual((error["type"], error["code"]), ("server_error", "answer_unfit"))
        self.assertEqual(error["reasons"], ["size must be at most 8"] * 4)
        self.assertEqual(self.header(response, "x-should-retry"), "false")
        response, body = await self.complete("Hi", response_format={"type": "json_object"})
        self.assertEqual(json.loads(body["choices"][0]["message"]["content"]), {"said": "Hi"})

    async def test_models(self) -> None:
        """
        The models are the agents by name, and two names for the first agent.
        """
        await self.start("--agent", "kiro,offline", workers=1)
        _, body = await self.fetch("GET", "/v1/models")
        names = [model["id"] for model in body["data"]]
        self.assertEqual(names, ["kiro", "offline", "default", "kiroworkers"])
        _, model = await self.fetch("GET", "/v1/models/offline")
        self.assertEqual(model, body["data"][1])
        response, body = await self.complete("Hi", "offline")
        self.assertEqual(self.header(response, "x-kiroworkers-agent"), "offline")
        self.assertIn("offline agent:", body["choices"][0]["message"]["content"])
        for response, body in (
            await self.fetch("GET", "/v1/models/gpt-9"),
            await self.complete("Hi", "gpt-9"),
        ):
            self.assertEqual((response.code, body["error"]["code"]), (404, "model_not_found"))
            self.assertIn("kiro, offline, default", body["error"]["message"])

    async def test_errors(self) -> None:
        """
        Every error has OpenAI's format, whichever part of the server refuses.
        """
        await self.start("--backlog", "0", workers=1)
        for method, path, status, code in [
            ("GET", "/v1/nothing", 404, "not_found"),
            ("GET", "/v1", 404, "not_found"),
            ("GET", "/v1/chat/completions", 405, "wrong_method"),
            ("POST", "/v1/chat/completions", 415, "not_json"),
            ("BREW", "/v1/models", 405, "wrong_method"),
        ]:
            response, body = await self.fetch(method, path)
            self.assertEqual((response.code, body["error"]["code"]), (status, code))
            self.assertEqual(body["error"]["type"], "invalid_request_error")
            self.assertEqual(set(body["error"]), {"message", "type", "param", "code", "requestId"})
        response, body = await self.complete("Hi", n=2)
        self.assertEqual((response.code, body["error"]["param"]), (400, "n"))
        running = Deferred.fromCoroutine(self.complete("[[silent]]"))
        await self.typed.wait_for("[[silent]]")
        for streams in (False, True):
            response, body = await self.complete("Hi", stream=streams)
            self.assertEqual((response.code, body["error"]["code"]), (503, "all_workers_busy"))
            self.assertGreater(int(self.header(response, "retry-after")), 0)
        running.addErrback(lambda _: None)
        running.cancel()

    async def test_tokens(self) -> None:
        """
        The tokens are those of the other routes, and need the scope ask.
        """
        tokens = self.folder / "tokens"
        tokens.write_text("app ask 0123456789abcdef\neye watch fedcba9876543210\n")
        tokens.chmod(0o600)
        await self.start("--token-file", str(tokens), workers=1)
        for token, status in [("0123456789abcdef", 200), ("fedcba9876543210", 403), ("x", 401)]:
            headers = {"Authorization": f"Bearer {token}"}
            for response, body in (
                await self.complete("Hi", headers=headers),
                await self.fetch("GET", "/v1/models", headers=headers),
            ):
                self.assertEqual(response.code, status, body)
                self.assertEqual("error" in body, status != 200)


class StreamTests(OpenAITestCase):
    """
    Tests for ``"stream": true``.
    """

    async def test_pieces(self) -> None:
        """
        Over ACP, a reply is streamed as it is written; from a terminal it comes in one
        piece, and so does an object, which must be checked first.
        """
        content = "word & \n" * 30
        for agent, many in [("kiro-acp", True), ("kiro-classic", False)]:
            await self.start("--agent", agent, workers=1)
            response, chunks = await self.stream(content)
            self.assertEqual(self.header(response, "content-type"), "text/event-stream")
            pieces = self.pieces(chunks)
            self.assertEqual("".join(pieces), f"You said: {content}")
            self.assertEqual(len(pieces) > 3, many)
            _, chunks = await self.stream('{"size": 3}', response_format=SIZED)
            self.assertEqual(self.pieces(chunks), ['{"size": 3}'])
            _, chunks = await self.stream("Stop it", stop="p")
            self.assertEqual(self.pieces(chunks), ["You said: Sto"])
            await self.stop()

    async def test_usage(self) -> None:
        """
        A stream reports its usage before its end if the client asks for that.
        """
        await self.start(workers=1)
        _, chunks = await self.stream("Hello", stream_options={"include_usage": True})
        usage = chunks.pop(-2)
        self.assertEqual((usage["choices"], usage["usage"]["total_tokens"]), ([], 6))
        self.assertEqual(self.pieces(chunks), ["You said: Hello"])

    async def test_retry(self) -> None:
        """
        Another attempt is not visible if no text was sent yet.  After that, its text must
        begin in the same way, or the stream ends with an error.
        """
        await self.start("--agent", "kiro-acp", workers=2)
        _, chunks = await self.stream("Hi [[mend prose]]")
        self.assertEqual("".join(self.pieces(chunks)), "You said: Hi [[mend ]]")
        # The object has a member that the schema does not allow, so that there is a second
        # attempt, whose text differs.  The text is sent long before its turn ends.
        _, chunks = await self.stream("Hi [[mend lame stay=1]]")
        self.assertEqual(chunks[-1]["error"]["code"], "taken_back")
        response, chunks = await self.stream("Hi [[lame stay=1]]")
        self.assertEqual(response.code, 200)
        *others, last = chunks
        text = "".join(chunk["choices"][0]["delta"]["content"] for chunk in others)
        self.assertTrue(text.startswith("You said: Hi"), text)
        self.assertEqual(last["error"]["code"], "answer_unfit")

    async def test_no_answer(self) -> None:
        """
        A failure before any text was sent has its own status.
        """
        await self.start(workers=1)
        headers = {"X-Request-Timeout": "0.5"}
        response, body = await self.complete("[[silent]]", stream=True, headers=headers)
        self.assertEqual((response.code, body["error"]["code"]), (504, "timed_out"))

    async def test_client_leaves(self) -> None:
        """
        A client that hangs up cancels its request, which is not logged as an error.
        """
        await self.start(workers=1)
        message = {"role": "user", "content": "[[silent]]"}
        body = json.dumps({"model": "kiro", "stream": True, "messages": [message]})
        port = int(self.base.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as leaving:
            leaving.sendall(
                "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
                f"{body}".encode()
            )
            await self.typed.wait_for("[[silent]]")
        _, chunks = await self.stream("the next")
        self.assertEqual(self.pieces(chunks), ["You said: the next"])
        self.assertNotIn("internal error", self.server.output)


class ClientTests(OpenAITestCase):
    """
    Tests with real clients, which run in threads.
    """

    async def start_for(self, module: str) -> Any:
        """
        Start a server and return the client's module.
        """
        try:
            client = await deferToThread(__import__, module)
        except ImportError:
            raise SkipTest(f"{module} is not installed: pip install '.[clients]'") from None
        await self.start("--agent", "kiro-acp", workers=1)
        return client

    async def in_thread(self, work: Callable[[], Any]) -> Any:
        return await deferToThread(work)

    async def test_openai(self) -> None:
        """
        OpenAI's client for Python gets replies, streams, objects and errors.
        """
        openai = await self.start_for("openai")

        def work() -> dict[str, Any]:
            results: dict[str, Any] = {}
            with openai.OpenAI(base_url=f"{self.base}/v1", api_key="none") as client:
                create = client.chat.completions.create
                body: Any = {"model": "kiro-acp", "messages": [{"role": "user", "content": "Hi"}]}
                reply = create(**body)
                results["reply"] = reply.choices[0].message.content
                results["tokens"] = reply.usage.total_tokens
                options = {"include_usage": True}
                chunks = list(create(**body, stream=True, stream_options=options))
                results["stream"] = "".join(
                    chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices
                )
                results["stream tokens"] = chunks[-1].usage.total_tokens
                body["messages"][0]["content"] = '{"size": 3}'
                reply = create(**body, response_format=SIZED)
                results["object"] = reply.choices[0].message.content
                results["models"] = [model.id for model in client.models.list()]
                try:
                    create(**{**body, "model": "gpt-9"})
                except openai.NotFoundError as error:
                    results["missing"] = error.code
                body["messages"][0]["content"] = "[[lame]]"
                try:
                    list(create(**body, stream=True))
                except openai.APIError as error:
                    results["failed"] = error.code
            return results

        results = await self.in_thread(work)
        self.assertEqual(
            results,
            {
                "reply": "You said: Hi",
                "tokens": 4,
                "stream": "You said: Hi",
                "stream tokens": 4,
                "object": '{"size": 3}',
                "models": ["kiro-acp", "default", "kiroworkers"],
                "missing": "model_not_found",
                "failed": "answer_unfit",
            },
        )

    async def test_langchain(self) -> None:
        """
        LangChain's client gets replies, streams, and objects that match a schema.
        """
        langchain = await self.start_for("langchain_openai")

        def work() -> list[Any]:
            model = langchain.ChatOpenAI(
                base_url=f"{self.base}/v1", api_key="none", model="kiro-acp"
            )
            sized = model.with_structured_output({"title": "size", **SIZE}, method="json_schema")
            newer = langchain.ChatOpenAI(
                base_url=f"{self.base}/v1",
                api_key="none",
                model="kiro-acp",
                use_responses_api=True,
            )
            first = newer.invoke("Hi")
            return [
                model.invoke([("system", "Be brief"), ("user", "Hi")]).content,
                "".join(chunk.content for chunk in model.stream("Hi")),
                sized.invoke('{"size": 3}'),
                newer.invoke([("user", "Hi"), first, ("user", "Again")]).content[0]["text"],
            ]

        results = await self.in_thread(work)
        self.assertEqual(results, ["You said: Hi", "You said: Hi", {"size": 3}, "You said: Again"])
