"""
A model server on loopback, for tests with real agents.

It speaks OpenAI's chat completions and responses and Google's generateContent, and
answers a prompt as the stand-ins for agents do.

Agents add text of their own to a prompt (reminders, the environment), and also ask for
other things than answers (titles, the next speaker).  The prompt is the last message of
the user that looks like one of kiroworkers; a request without one is answered with a
few words.  A prompt may contain::

    [[silent]]    begin an answer and never end it
    [[tool]]      first call a tool: a command that creates the file ``pwned``

To try an agent by hand, run ``python -m tests.modelserver PORT``: it prints the port and
each request.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar

from attrs import field, frozen
from twisted.internet.defer import DeferredQueue
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from tests.fakeline import answer_line

#: Matches only in prompts of kiroworkers.
_PROMPT = re.compile(r"\bTask: [\w-]+|\[\[\w+")
#: Matches only in requests for a title, in a system message or a user's.
_TITLE = re.compile(r"\btitle generator\b|\bGenerate a title\b|\bconcise title\b", re.IGNORECASE)

#: How many characters a piece of a streamed answer has.
_PIECE = 40

#: The command of `[[tool]]`, and the tools that run one, each with its arguments.
_COMMAND = "touch pwned"
_TOOLS: dict[str, dict[str, Any]] = {
    "run_shell_command": {"command": _COMMAND, "description": "Create a file"},
    "bash": {"command": _COMMAND, "description": "Create a file"},
    "exec_command": {"cmd": _COMMAND},
    "shell_command": {"command": _COMMAND},
    "shell": {"command": ["touch", "pwned"]},
}

Json = Mapping[str, Any]


@frozen
class Message:
    """
    Hold one message of a conversation.

    Attributes:
        role: `system`, `user`, `assistant`, or `tool` for the result of a tool.
        text: The message's text.
    """

    role: str
    text: str


@frozen
class ModelRequest:
    """
    Hold a request, whatever its protocol.

    Attributes:
        messages: The conversation, oldest message first.
        tools: The names of the tools that may be called.
        stream: Whether the response is to be a stream of events.
        structured: Whether the agent asks for JSON with a schema of its own.
    """

    messages: list[Message]
    tools: list[str] = field(factory=list)
    stream: bool = True
    structured: bool = False

    @property
    def prompts(self) -> list[str]:
        """
        Return the prompts of kiroworkers in the conversation; the last is to be answered.

        There is none if the agent asks for something else.
        """
        texts = [message.text for message in self.messages if message.role in ("user", "system")]
        if self.structured or any(map(_TITLE.search, texts)):
            return []
        prompts = [message.text for message in self.messages if message.role == "user"]
        return [prompt for prompt in prompts if _PROMPT.search(prompt)]

    @property
    def results(self) -> list[str]:
        """
        Return the results of tools since the last message of the user.
        """
        results: list[str] = []
        for message in reversed(self.messages):
            if message.role == "user":
                break
            if message.role == "tool":
                results.append(message.text)
        return results[::-1]

    @property
    def tool(self) -> tuple[str, dict[str, Any]]:
        """
        Return the name of the tool that runs a command, and its arguments.
        """
        return next((name, _TOOLS[name]) for name in self.tools if name in _TOOLS)


def _text(content: Any) -> str:
    """
    Return the text of a message's content: a string, or a list of parts.
    """
    if isinstance(content, str):
        return content
    return "\n".join(part["text"] for part in content or () if isinstance(part.get("text"), str))


def _event(data: Json, name: str | None = None) -> bytes:
    """
    Return one server-sent event.
    """
    name_line = f"event: {name}\n" if name else ""
    return f"{name_line}data: {json.dumps(data)}\n\n".encode()


class Protocol:
    """
    Read the requests of one protocol and write its responses.
    """

    def read(self, body: Json, path: str) -> ModelRequest:
        """
        Read a request.
        """
        raise NotImplementedError

    def begin(self, text: str) -> bytes:
        """
        Return the first events of a stream, which contain `text`.
        """
        raise NotImplementedError

    def stream(self, text: str) -> Iterator[bytes]:
        """
        Yield all events of a stream that contains `text`.
        """
        raise NotImplementedError

    def call(self, name: str, arguments: Json) -> Iterator[bytes]:
        """
        Yield all events of a stream that calls a tool.
        """
        raise NotImplementedError

    def whole(self, text: str) -> Json:
        """
        Return the answer `text` as the body of a response that is not a stream.
        """
        raise NotImplementedError


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), _PIECE):
        yield text[start : start + _PIECE]


class Completions(Protocol):
    """
    Speak the protocol of ``POST /v1/chat/completions``.
    """

    def read(self, body: Json, path: str) -> ModelRequest:
        return ModelRequest(
            [Message(item["role"], _text(item.get("content"))) for item in body["messages"]],
            [tool["function"]["name"] for tool in body.get("tools") or ()],
            body.get("stream", False),
            body.get("response_format", {}).get("type", "text") != "text",
        )

    def begin(self, text: str) -> bytes:
        return self._chunk({"role": "assistant", "content": text})

    def stream(self, text: str) -> Iterator[bytes]:
        yield self.begin("")
        for piece in _pieces(text):
            yield self._chunk({"content": piece})
        yield from self._end("stop")

    def call(self, name: str, arguments: Json) -> Iterator[bytes]:
        function = {"name": name, "arguments": json.dumps(arguments)}
        call = {"index": 0, "id": "call_1", "type": "function", "function": function}
        yield self._chunk({"role": "assistant", "tool_calls": [call]})
        yield from self._end("tool_calls")

    def whole(self, text: str) -> Json:
        choice = {"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}
        return self._body("chat.completion", choice)

    def _end(self, finish: str) -> Iterator[bytes]:
        yield self._chunk({}, finish)
        yield b"data: [DONE]\n\n"

    def _chunk(self, delta: Json, finish: str | None = None) -> bytes:
        choice = {"delta": delta, "finish_reason": finish}
        return _event(self._body("chat.completion.chunk", choice))

    def _body(self, kind: str, choice: Json) -> Json:
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        head = {"id": "1", "object": kind, "created": 1, "model": "fake-model"}
        return {**head, "choices": [{"index": 0, **choice}], "usage": usage}


class Responses(Protocol):
    """
    Speak the protocol of ``POST /v1/responses``.
    """

    _ROLES: ClassVar[Mapping[str, str]] = {"developer": "system"}

    def read(self, body: Json, path: str) -> ModelRequest:
        items = body["input"]
        if isinstance(items, str):
            items = [{"role": "user", "content": items}]
        return ModelRequest(
            [
                Message("system", str(body.get("instructions") or "")),
                *(message for item in items if (message := self._message(item)) is not None),
            ],
            [tool.get("name", "") for tool in body.get("tools") or ()],
            body.get("stream", False),
            body.get("text", {}).get("format", {}).get("type", "text") != "text",
        )

    def _message(self, item: Json) -> Message | None:
        if item.get("type", "message") == "message":
            role = item["role"]
            return Message(self._ROLES.get(role, role), _text(item["content"]))
        if item["type"].endswith("_output"):
            return Message("tool", _text(item["output"]))
        return None

    def begin(self, text: str) -> bytes:
        events: list[Json] = [
            {"type": "response.created", "response": self._body([])},
            {"type": "response.output_item.added", "output_index": 0, "item": self._item("")},
            self._delta(text),
        ]
        return b"".join(map(self._named_event, events))

    def stream(self, text: str) -> Iterator[bytes]:
        yield self.begin("")
        for piece in _pieces(text):
            yield self._named_event(self._delta(piece))
        yield from self._end(self._item(text))

    def call(self, name: str, arguments: Json) -> Iterator[bytes]:
        yield self._named_event({"type": "response.created", "response": self._body([])})
        call = {"name": name, "arguments": json.dumps(arguments), "call_id": "call_1"}
        yield from self._end({"type": "function_call", "id": "fc_1", **call})

    def whole(self, text: str) -> Json:
        return self._body([self._item(text)])

    def _end(self, item: Json) -> Iterator[bytes]:
        yield self._named_event(
            {"type": "response.output_item.done", "output_index": 0, "item": item}
        )
        yield self._named_event({"type": "response.completed", "response": self._body([item])})

    def _named_event(self, event: Json) -> bytes:
        return _event(event, event["type"])

    def _delta(self, text: str) -> Json:
        at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        return {"type": "response.output_text.delta", **at, "delta": text}

    def _item(self, text: str) -> Json:
        content = [{"type": "output_text", "text": text, "annotations": []}] if text else []
        return {"type": "message", "id": "msg_1", "role": "assistant", "content": content}

    def _body(self, output: list[Json]) -> Json:
        usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
        status = "completed" if output else "in_progress"
        head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "fake-model"}
        return {**head, "status": status, "output": output, "usage": usage}


class Contents(Protocol):
    """
    Speak the protocol of ``POST /v1beta/models/MODEL:generateContent`` and of its stream.
    """

    _ROLES: ClassVar[Mapping[str, str]] = {"model": "assistant"}

    def read(self, body: Json, path: str) -> ModelRequest:
        config = body.get("generationConfig", {})
        system = _text(body.get("systemInstruction", {}).get("parts"))
        return ModelRequest(
            [
                Message("system", system),
                *map(self._message, body["contents"]),
            ],
            [
                declaration["name"]
                for tool in body.get("tools") or ()
                for declaration in tool.get("functionDeclarations") or ()
            ],
            path.endswith(":streamGenerateContent"),
            "responseMimeType" in config and config["responseMimeType"] != "text/plain",
        )

    def _message(self, content: Json) -> Message:
        parts = content["parts"]
        results = [part["functionResponse"] for part in parts if "functionResponse" in part]
        if results:
            return Message("tool", json.dumps(results))
        role = content.get("role", "user")
        return Message(self._ROLES.get(role, role), _text(parts))

    def begin(self, text: str) -> bytes:
        return _event(self._body({"text": text}))

    def stream(self, text: str) -> Iterator[bytes]:
        for piece in _pieces(text):
            yield self.begin(piece)
        yield _event(self._body({"text": ""}, "STOP"))

    def call(self, name: str, arguments: Json) -> Iterator[bytes]:
        yield _event(self._body({"functionCall": {"name": name, "args": arguments}}, "STOP"))

    def whole(self, text: str) -> Json:
        return self._body({"text": text}, "STOP")

    def _body(self, part: Json, finish: str | None = None) -> Json:
        candidate: dict[str, Any] = {"content": {"role": "model", "parts": [part]}, "index": 0}
        if finish is not None:
            candidate["finishReason"] = finish
        usage = {"promptTokenCount": 1, "candidatesTokenCount": 1, "totalTokenCount": 2}
        return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "fake-model"}


def _protocol(path: str) -> Protocol | None:
    if path.endswith("/chat/completions"):
        return Completions()
    if path.endswith("/responses"):
        return Responses()
    if path.endswith((":generateContent", ":streamGenerateContent")):
        return Contents()
    return None


class FakeModel(Resource):
    """
    Answer the requests of all protocols.

    Args:
        on_request: Called with the path and the body of each request.

    Attributes:
        conversations: For each answer so far, the prompts of kiroworkers in its request:
            a single one if the conversation was new.
        begun: Gets an item when an answer that never ends has begun.
        abandoned: Gets an item when the agent hangs up on such an answer.
    """

    isLeaf = True

    def __init__(self, on_request: Callable[[str, Json], object] = lambda path, body: None) -> None:
        super().__init__()
        self.conversations: list[list[str]] = []
        self.begun: DeferredQueue[None] = DeferredQueue()
        self.abandoned: DeferredQueue[None] = DeferredQueue()
        self._on_request = on_request

    def render_POST(self, request: Any) -> Any:
        """
        Answer a request, in one piece or as a stream of events.
        """
        path = request.path.decode()
        body = json.load(request.content)
        self._on_request(path, body)
        if path.endswith(":countTokens"):
            return self._json(request, {"totalTokens": 1})
        protocol = _protocol(path)
        if protocol is None:
            request.setResponseCode(404)
            return self._json(request, {"error": {"message": f"there is no {path}"}})
        model_request = protocol.read(body, path)
        prompts = model_request.prompts
        if not prompts:
            text = "{}" if model_request.structured else "A few words"
            return self._answer(request, protocol, model_request, text)
        prompt, results = prompts[-1], model_request.results
        if not results:
            self.conversations.append(prompts)
        if "[[silent]]" in prompt:
            request.notifyFinish().addErrback(self._abandon)
            self._stream(request)
            request.write(protocol.begin("Well"))
            self.begun.put(None)
            return NOT_DONE_YET
        if "[[tool]]" in prompt and not results:
            self._stream(request)
            return b"".join(protocol.call(*model_request.tool))
        text = "\n".join([*results, answer_line(prompt)])
        return self._answer(request, protocol, model_request, text)

    def _answer(
        self, request: Any, protocol: Protocol, model_request: ModelRequest, text: str
    ) -> Any:
        if not model_request.stream:
            return self._json(request, protocol.whole(text))
        self._stream(request)
        for events in protocol.stream(text):
            request.write(events)
        request.finish()
        return NOT_DONE_YET

    def _stream(self, request: Any) -> None:
        request.setHeader(b"content-type", b"text/event-stream")

    def _json(self, request: Any, body: Json) -> bytes:
        request.setHeader(b"content-type", b"application/json")
        return json.dumps(body).encode()

    def _abandon(self, _: object) -> None:
        self.abandoned.put(None)


def model_server(model: FakeModel) -> Site:
    """
    Return a site that serves `model`.
    """
    return Site(model)


def main(port: int) -> None:
    """
    Serve until interrupted, and print each request.
    """
    from twisted.internet import reactor

    def print_request(path: str, body: Json) -> None:
        print(path, json.dumps(body), flush=True)

    real: Any = reactor
    site = model_server(FakeModel(print_request))
    listener = real.listenTCP(port, site, interface="127.0.0.1")
    print(listener.getHost().port, flush=True)
    real.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
