"""
Tests for messages in the format of Anthropic's API, on a whole server in memory.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from jsonschema import Draft202012Validator
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.chat import ChatReply, Usage
from kiroworkers.errors import InvalidInput
from kiroworkers.web.chat.message_errors import anthropic_error, anthropic_headers
from kiroworkers.web.chat.messages import Message
from kiroworkers.web.chat.model_pages import model_page
from kiroworkers.web.openapi.document import build_document
from kiroworkers.web.openapi.schemas import ref
from kiroworkers.web.routing import routes_of
from tests.web.test_errors import TOKEN, MemoryServer, Response, ScriptedAcp, silent

MESSAGES = "/v1/messages"
COUNT = f"{MESSAGES}/count_tokens"
VERSION = "2023-06-01"


def body_of(content: Any = "Hello", **others: Any) -> dict[str, Any]:
    """
    Return a request body with one message of the user.
    """
    messages = [{"role": "user", "content": content}]
    return {"model": "default", "max_tokens": 100, "messages": messages, **others}


def events_of(response: Response) -> list[tuple[str, Any]]:
    """
    Return the events of a stream, each with its name and its data.
    """
    # Each is a chunk of its own.
    found = re.findall(rb"event: (\w+)\ndata: (.*)\n\n", response.content)
    return [(name.decode(), json.loads(data)) for name, data in found]


class AnthropicTestCase(SynchronousTestCase):
    """
    Base of tests that send requests in Anthropic's format.
    """

    server: MemoryServer

    def start(self, *arguments: Any, **options: Any) -> MemoryServer:
        """
        Start a server with these arguments of `MemoryServer`.
        """
        self.server = MemoryServer(*arguments, **options)
        return self.server

    def start_acp(self, react: Callable[[ScriptedAcp], None], **options: Any) -> None:
        """
        Start a server with an agent that speaks ACP and reacts to each prompt in this way.
        """
        self.start(lambda: ScriptedAcp(react), "acp", **options)

    def start_saying(self, reply: str) -> None:
        """
        Start a server with an agent that gives this reply in two pieces.
        """
        text = json.dumps({"reply": reply})

        def react(agent: ScriptedAcp) -> None:
            agent.chunk(text[:15])
            agent.chunk(text[15:])
            agent.end_turn()

        self.start_acp(react)

    def post(self, path: str, body: Any, **headers: str) -> Response:
        """
        Send a body, with the usual version unless another is given.
        """
        version = {"Anthropic_Version": VERSION}
        return self.server.request("POST", path, body, **{**version, **headers})

    def create(self, *content: Any, **others: Any) -> Response:
        """
        Send one message of the user.
        """
        return self.post(MESSAGES, body_of(*content, **others))

    def error_of(self, response: Response) -> tuple[int, str, str]:
        """
        Return the status, type and code of an error, after checking the format of its body.
        """
        body = json.loads(response.content)
        self.assertEqual(set(body), {"type", "error", "request_id"})
        self.assertEqual(body["type"], "error")
        self.assertEqual(response.headers["request-id"], body["request_id"])
        self.assertEqual(response.headers["x-request-id"], body["request_id"])
        error = body["error"]
        self.assertEqual(set(error), {"type", "message", "details"})
        return response.status, error["type"], error["details"]["error_code"]


class MessageTests(AnthropicTestCase):
    """
    Tests for whole messages.
    """

    def test_whole(self) -> None:
        """
        A reply is one block of text, with an estimated usage and the request's identifier.
        """
        self.start_saying("Good day")
        for version in (VERSION, "2026-10-21"):
            response = self.post(MESSAGES, body_of(system="Be kind"), Anthropic_Version=version)
            message = json.loads(response.content)
            self.assertRegex(message.pop("id"), r"^msg_\w+-\d+$")
            self.assertEqual(
                message,
                {
                    "type": "message",
                    "role": "assistant",
                    "model": "default",
                    "content": [{"type": "text", "text": "Good day"}],
                    "stop_reason": "end_turn",
                    "stop_sequence": None,
                    "stop_details": None,
                    "usage": {
                        "input_tokens": 4,
                        "output_tokens": 2,
                        "cache_creation_input_tokens": 0,
                        "cache_read_input_tokens": 0,
                        "estimated": True,
                    },
                },
            )
            self.assertEqual(response.headers["x-kiroworkers-usage"], "estimated")
            self.assertEqual(response.headers["x-kiroworkers-worker"], "worker1")
            self.assertEqual(response.headers["request-id"], response.headers["x-request-id"])

    def test_stop_sequence(self) -> None:
        """
        A reply that was cut names the stop sequence that cut it.
        """
        self.start_saying("One\n\nTwo")
        message = json.loads(self.create(stop_sequences=["x", "\n\n"]).content)
        self.assertEqual(message["content"], [{"type": "text", "text": "One"}])
        self.assertEqual(
            (message["stop_reason"], message["stop_sequence"]), ("stop_sequence", "\n\n")
        )

    def test_object(self) -> None:
        """
        An object that fits the client's schema is the text of the message.
        """

        def react(agent: ScriptedAcp) -> None:
            agent.chunk('{"size": 3}')
            agent.end_turn()

        self.start_acp(react)
        schema = {
            "type": "object",
            "properties": {"size": {"type": "integer", "maximum": 8}},
            "required": ["size"],
        }
        wanted = {"format": {"type": "json_schema", "schema": schema}}
        message = json.loads(self.create(output_config=wanted).content)
        self.assertEqual(json.loads(message["content"][0]["text"]), {"size": 3})
        schema["properties"] = {"size": {"type": "integer", "minimum": 5}}
        error = self.error_of(self.create(output_config=wanted))
        self.assertEqual(error, (502, "api_error", "answer_unfit"))

    def test_prompt(self) -> None:
        """
        The agent is asked what the client sends, as data.
        """
        prompts: list[str] = []

        def react(agent: ScriptedAcp) -> None:
            prompts.append(agent.typed[-1])
            agent.chunk('{"reply": "Yes"}')
            agent.end_turn()

        self.start_acp(react)
        self.create([{"type": "text", "text": "One"}], system="Be kind")
        self.assertIn(
            '{"messages":[{"role":"system","content":"Be kind"},{"role":"user","content":"One"}]}',
            prompts[0],
        )

    def test_images(self) -> None:
        """
        Images reach an agent that accepts them; another one is not asked.
        """
        prompts: list[tuple[str, list[str]]] = []

        def react(agent: ScriptedAcp) -> None:
            prompts.append((agent.typed[-1], agent.images[-1]))
            agent.chunk('{"reply": "Yes"}')
            agent.end_turn()

        gif = "R0lGODlhAQABAAAAACw="
        source = {"type": "base64", "media_type": "image/gif", "data": gif}
        content = [{"type": "image", "source": source}, {"type": "text", "text": "What is it?"}]
        for accepts in (True, False):

            def start(accepts: bool = accepts) -> ScriptedAcp:
                agent = ScriptedAcp(react)
                agent.accepts_images = accepts
                return agent

            self.start(start, "acp")
            response = self.create(content)
            if accepts:
                self.assertEqual(response.status, 200)
                [(prompt, images)] = prompts
                self.assertIn('"content":"[image 1]\\n\\nWhat is it?"', prompt)
                self.assertEqual(images, [gif])
            else:
                self.assertEqual(
                    self.error_of(response), (400, "invalid_request_error", "invalid_input")
                )
                details = json.loads(response.content)["error"]["details"]
                self.assertEqual(details["field"], "messages[0].content[0].source")
        self.assertEqual(len(prompts), 1)


class StreamTests(AnthropicTestCase):
    """
    Tests for streams.
    """

    def test_events(self) -> None:
        """
        A stream has the events of Anthropic's API, in their order, with the text in pieces.
        """
        self.start_saying("Good day to you")
        response = self.create(stream=True)
        self.assertEqual(response.headers["content-type"], "text/event-stream")
        self.assertEqual(response.headers["request-id"], response.headers["x-request-id"])
        events = events_of(response)
        for name, data in events:
            self.assertEqual(data["type"], name)
        deltas = [data["delta"] for name, data in events if name == "content_block_delta"]
        self.assertGreater(len(deltas), 1)
        self.assertEqual({delta["type"] for delta in deltas}, {"text_delta"})
        self.assertEqual("".join(delta["text"] for delta in deltas), "Good day to you")
        others = [(name, data) for name, data in events if name != "content_block_delta"]
        message = others[0][1]["message"]
        self.assertEqual((message["content"], message["stop_reason"]), ([], None))
        self.assertEqual(
            (message["usage"]["input_tokens"], message["usage"]["output_tokens"]), (2, 0)
        )
        self.assertEqual(
            others[1:],
            [
                (
                    "content_block_start",
                    {
                        "type": "content_block_start",
                        "index": 0,
                        "content_block": {"type": "text", "text": ""},
                    },
                ),
                ("ping", {"type": "ping"}),
                ("content_block_stop", {"type": "content_block_stop", "index": 0}),
                (
                    "message_delta",
                    {
                        "type": "message_delta",
                        "delta": {
                            "stop_reason": "end_turn",
                            "stop_sequence": None,
                            "stop_details": None,
                        },
                        "usage": {**message["usage"], "output_tokens": 4},
                    },
                ),
                ("message_stop", {"type": "message_stop"}),
            ],
        )

    def test_empty(self) -> None:
        """
        An empty reply is a block without text, also if a stop sequence is all there was.
        """
        self.start_saying("END")
        events = events_of(self.create(stream=True, stop_sequences=["END"]))
        self.assertEqual(
            [name for name, _ in events],
            [
                *("message_start", "content_block_start", "ping", "content_block_stop"),
                *("message_delta", "message_stop"),
            ],
        )
        self.assertEqual(events[4][1]["delta"]["stop_sequence"], "END")

    def test_early_failure(self) -> None:
        """
        A failure before any text was sent has its own status.
        """
        self.start_acp(lambda agent: agent.fail_turn("No"))
        response = self.create(stream=True)
        self.assertEqual(self.error_of(response), (502, "api_error", "agent_error"))
        self.assertEqual(response.headers["x-should-retry"], "false")

    def test_late_failure(self) -> None:
        """
        A later failure ends the stream with an event, whose identifier is that of the response.
        """

        def react(agent: ScriptedAcp) -> None:
            agents.append(agent)
            agent.chunk('{"reply": "One' if len(agents) == 1 else '{"reply": "Two"}')
            agent.end_turn()

        agents: list[ScriptedAcp] = []
        self.start_acp(react, workers=2)
        response = self.create(stream=True)
        name, data = events_of(response)[-1]
        self.assertEqual((response.status, name, data["type"]), (200, "error", "error"))
        self.assertEqual(data["error"]["type"], "api_error")
        self.assertEqual(data["error"]["details"]["error_code"], "taken_back")
        self.assertEqual(data["request_id"], response.headers["request-id"])


class RequestTests(AnthropicTestCase):
    """
    Tests for headers, and for requests that are refused.
    """

    def test_version(self) -> None:
        """
        A request without a version or with an unknown one is refused, whatever its body.
        """
        self.start()
        for path in (MESSAGES, COUNT):
            for version in ("", "2024-10-22", "2023-06-01, 2023-06-01"):
                response = self.post(path, b"{", Anthropic_Version=version)
                self.assertEqual(
                    self.error_of(response), (400, "invalid_request_error", "invalid_input")
                )
                error = json.loads(response.content)["error"]
                self.assertEqual(error["details"]["field"], "anthropic-version")
        self.assertEqual(self.post(MESSAGES, body_of(), Anthropic_Beta="a,b").status, 200)

    def test_refused(self) -> None:
        """
        Every error has Anthropic's format, whichever part of the server refuses.
        """
        self.start(silent, backlog=0)
        for method, path, status, code in [
            ("GET", f"{MESSAGES}/batches", 404, "not_found"),
            ("GET", MESSAGES, 405, "wrong_method"),
            ("DELETE", COUNT, 405, "wrong_method"),
            ("GET", "/v1/files", 404, "not_found"),
        ]:
            response = self.server.request(method, path, Anthropic_Version=VERSION)
            kind = "not_found_error" if status == 404 else "invalid_request_error"
            self.assertEqual(self.error_of(response), (status, kind, code))
        response = self.post(MESSAGES, b"{")
        self.assertEqual(self.error_of(response), (400, "invalid_request_error", "invalid_json"))
        response = self.create([{"type": "document"}])
        details = json.loads(response.content)["error"]["details"]
        self.assertEqual(details["field"], "messages[0].content[0].type")
        response = self.create(model="claude-opus-9")
        self.assertEqual(self.error_of(response), (404, "not_found_error", "model_not_found"))
        response = self.create(model="default/x")
        self.assertEqual(self.error_of(response), (400, "invalid_request_error", "unknown_model"))
        response = self.create("x" * 20_000)
        self.assertEqual((response.status, response.error["code"]), (413, "too_large"))
        self.server.begin("POST", MESSAGES, body_of(), Anthropic_Version=VERSION)
        for streams in (False, True):
            response = self.create(stream=streams)
            self.assertEqual(self.error_of(response), (503, "overloaded_error", "all_workers_busy"))
            self.assertNotIn("x-should-retry", response.headers)
            details = json.loads(response.content)["error"]["details"]
            self.assertEqual(response.headers["retry-after"], str(details["retryAfter"]))

    def test_deadline(self) -> None:
        """
        A request may have a deadline of its own.
        """
        self.start(silent)
        response = self.post(MESSAGES, body_of(), X_Request_Timeout="1")
        self.assertEqual(self.error_of(response), (504, "timeout_error", "timed_out"))
        self.assertEqual(response.headers["x-should-retry"], "false")

    def test_tokens(self) -> None:
        """
        A token is accepted in either header, with the same scopes and limits.
        """
        for scopes, rate, path, headers, expected in [
            ("ask", False, MESSAGES, {}, (401, "authentication_error", "no_token")),
            ("ask", False, COUNT, {}, (401, "authentication_error", "no_token")),
            (
                *("ask", False, MESSAGES, {"X_Api_Key": "another"}),
                (401, "authentication_error", "wrong_token"),
            ),
            (
                *("watch", False, MESSAGES, {"X_Api_Key": TOKEN}),
                (403, "permission_error", "wrong_scope"),
            ),
            ("ask", True, COUNT, {"X_Api_Key": TOKEN}, (429, "rate_limit_error", "rate_limited")),
        ]:
            self.start(scopes=scopes, rate=rate)
            if rate:
                self.assertEqual(self.post(path, body_of(), **headers).status, 200)
            response = self.post(path, body_of(), **headers)
            self.assertEqual(self.error_of(response), expected)
        for headers in ({"X_Api_Key": TOKEN}, {"Authorization": f"Bearer {TOKEN}"}):
            self.start(scopes="ask")
            self.assertEqual(self.post(MESSAGES, body_of(), **headers).status, 200)

    def test_count(self) -> None:
        """
        Tokens are counted without an agent, and the count says that it is an estimate.
        """
        self.start(silent, backlog=0)
        body = body_of("x" * 40, system="y" * 8)
        del body["max_tokens"]
        response = self.post(COUNT, body)
        self.assertEqual(response.status, 200)
        self.assertEqual(json.loads(response.content), {"input_tokens": 12, "estimated": True})
        self.assertEqual(response.headers["x-kiroworkers-usage"], "estimated")
        response = self.post(COUNT, {**body, "model": "claude-opus-9"})
        self.assertEqual(self.error_of(response), (404, "not_found_error", "model_not_found"))
        response = self.post(COUNT, {**body, "tools": [{"name": "add"}]})
        self.assertEqual(json.loads(response.content)["error"]["details"]["field"], "tools")


class ModelTests(AnthropicTestCase):
    """
    Tests for the models in Anthropic's format.
    """

    def get(self, path: str, version: str = VERSION) -> Response:
        return self.server.request("GET", path, Anthropic_Version=version)

    def test_models(self) -> None:
        """
        A client that sends a version gets the models in Anthropic's format, others in OpenAI's.
        """
        self.start()
        response = self.get("/v1/models")
        page = json.loads(response.content)
        names = [model["id"] for model in page["data"]]
        self.assertEqual(names, ["kiro", "default", "kiroworkers"])
        self.assertEqual(
            (page["first_id"], page["last_id"], page["has_more"]), ("kiro", "kiroworkers", False)
        )
        self.assertEqual(response.headers["request-id"], response.headers["x-request-id"])
        model = json.loads(self.get("/v1/models/default").content)
        self.assertEqual(model, page["data"][1])
        created = model.pop("created_at")
        self.assertRegex(created, r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
        self.assertEqual(
            model,
            {
                "type": "model",
                "id": "default",
                "display_name": "default",
                "lifecycle": "active",
            },
        )
        page = json.loads(self.get("/v1/models?limit=1&after_id=kiro&beta=true").content)
        self.assertEqual((page["data"][0]["id"], page["has_more"]), ("default", True))
        self.assertEqual(json.loads(self.get("/v1/models", "").content)["object"], "list")
        self.assertEqual(json.loads(self.get("/v1/models/default", "").content)["object"], "model")

    def test_refused(self) -> None:
        """
        A version, a model or a page that does not exist is refused in Anthropic's format.
        """
        self.start()
        invalid = (400, "invalid_request_error", "invalid_input")
        for path in ("/v1/models?limit=0", "/v1/models?limit=x", "/v1/models?before_id=%ff"):
            self.assertEqual(self.error_of(self.get(path)), invalid)
        self.assertEqual(self.error_of(self.get("/v1/models", "x")), invalid)
        self.assertEqual(self.error_of(self.get("/v1/models/default", "x")), invalid)
        self.assertEqual(
            self.error_of(self.get("/v1/models/another")),
            (404, "not_found_error", "model_not_found"),
        )

    def test_pages(self) -> None:
        """
        A client that follows the pages in either direction gets every model once.
        """
        names = [f"model{number}" for number in range(45)]

        def page(**query: str) -> Any:
            arguments = {name.encode(): [value.encode()] for name, value in query.items()}
            return model_page(names, 0, arguments)

        for limit in ({}, {"limit": "7"}, {"limit": "45"}, {"limit": "1000"}):
            for direction, end in (("after_id", "last_id"), ("before_id", "first_id")):
                found = page(**limit) if direction == "after_id" else page(limit="1000")
                pages = [found]
                if direction == "before_id":
                    pages = [found := page(before_id=names[-1], **limit)]
                while found["has_more"]:
                    found = page(**{direction: found[end]}, **limit)
                    pages.append(found)
                if direction == "before_id":
                    pages.reverse()
                listed = [model["id"] for found in pages for model in found["data"]]
                self.assertEqual(listed, names if direction == "after_id" else names[:-1])
        self.assertEqual(
            [model["id"] for model in page(after_id="model3", before_id="model6")["data"]],
            ["model4", "model5"],
        )
        last = page(after_id=names[-1])
        self.assertEqual((last["data"], last["has_more"], last["first_id"]), ([], False, None))
        self.assertRaises(InvalidInput, page, after_id="another")


class FormatTests(SynchronousTestCase):
    """
    Tests for what the formats are made of.
    """

    def test_errors(self) -> None:
        """
        An error keeps all of its fields, with a type for its status.
        """
        for status, kind in [
            *((400, "invalid_request_error"), (401, "authentication_error")),
            *((403, "permission_error"), (404, "not_found_error"), (408, "invalid_request_error")),
            *((409, "conflict_error"), (413, "request_too_large"), (415, "invalid_request_error")),
            *((429, "rate_limit_error"), (500, "api_error")),
            *((502, "overloaded_error"), (503, "overloaded_error"), (504, "timeout_error")),
        ]:
            body = {"error": "No", "code": "no", "field": "n", "retryAfter": 2, "requestId": "r"}
            error = {
                "type": kind,
                "message": "No",
                "details": {"error_code": "no", "field": "n", "retryAfter": 2},
            }
            self.assertEqual(
                anthropic_error(status, body),
                {"type": "error", "error": error, "request_id": "r"},
            )
        # Without retryAfter, it is not what would be 503 before the agent was asked.
        final = anthropic_error(502, {"error": "No", "code": "no"})
        self.assertEqual(final["error"]["type"], "api_error")

    def test_retries(self) -> None:
        """
        Clients are told not to retry if it cannot help, or only after a long time.
        """
        for status, wait, forbidden in [
            *((400, None, False), (404, None, False), (429, 5, False), (429, 61, True)),
            *((500, None, True), (502, None, True), (502, 5, False)),
            *((503, 5, False), (503, 60, False)),
            *((503, 600, True), (504, None, True)),
        ]:
            body = {"error": "No", "code": "no", "requestId": "r"}
            if wait is not None:
                body["retryAfter"] = wait  # type: ignore[assignment]
            headers = {"request-id": "r", **({"x-should-retry": "false"} if forbidden else {})}
            self.assertEqual(anthropic_headers(status, body), headers, (status, wait))
        self.assertEqual(anthropic_headers(400, {"error": "No", "code": "no"}), {})

    def test_document(self) -> None:
        """
        Messages and errors fit the schemas that the document has for them.
        """
        server = MemoryServer()
        document = build_document(routes_of(server.application.app), server.tasks, ["kiro"])
        message = Message("msg_1", "kiro", 3).whole(ChatReply("One", "\n", Usage(3, 1)))
        error = anthropic_error(400, {"error": "No", "code": "no", "field": "n", "requestId": "r"})
        page = model_page(["kiro"], 0, {})
        for name, value in [
            *(("Message", message), ("AnthropicError", error), ("AnthropicModels", page)),
        ]:
            validator = Draft202012Validator({**document, **ref(name)})
            validator.validate(value)
            self.assertEqual(
                set(value), set(document["components"]["schemas"][name]["properties"]), name
            )
