"""
A model server on loopback, for agents that are real: it speaks OpenAI's chat
completions and responses and Google's generateContent, and answers a prompt as
the stand-ins do.

Agents wrap a prompt in words of their own (reminders, the environment), and ask
for more than answers (titles, the next speaker): a prompt is the last message
of the user that looks like one of ours, and whatever asks for something else is
given a few words.  A prompt may say::

    [[silent]]    begin an answer and never end it
    [[tool]]      call a tool first: a command that leaves the file ``pwned``

``python -m tests.modelserver PORT`` runs it for trying an agent by hand, and prints
the port and each request.
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

#: What only prompts of ours hold.
_PROMPT = re.compile(r"\bTask: [\w-]+|\[\[\w+")
#: What only requests for a title hold, in the system's words or the user's.
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
    One message: who speaks (`system`, `user`, `assistant`, or `tool` for what a
    tool gave), and the text.
    """

    role: str
    text: str


@frozen
class Asked:
    """
    A request, whatever its protocol.

    Attributes:
        tools: the names of the tools that may be called.
        form: does it ask for JSON of a form of the agent's own?
    """

    messages: list[Message]
    tools: list[str] = field(factory=list)
    stream: bool = True
    form: bool = False

    @property
    def prompts(self) -> list[str]:
        """
        The prompts of ours in the conversation, the last of them to be answered;
        none where the agent asks for something else.
        """
        said = [each.text for each in self.messages if each.role in ("user", "system")]
        if self.form or any(map(_TITLE.search, said)):
            return []
        prompts = [each.text for each in self.messages if each.role == "user"]
        return [each for each in prompts if _PROMPT.search(each)]

    @property
    def results(self) -> list[str]:
        """
        What tools gave since the last message of the user's.
        """
        found: list[str] = []
        for each in reversed(self.messages):
            if each.role == "user":
                break
            if each.role == "tool":
                found.append(each.text)
        return found[::-1]

    @property
    def tool(self) -> tuple[str, dict[str, Any]]:
        """
        The tool that runs a command, and its arguments.
        """
        return next((name, _TOOLS[name]) for name in self.tools if name in _TOOLS)


def _text(content: Any) -> str:
    """
    The text of a message's content: a string, or a list of parts.
    """
    if isinstance(content, str):
        return content
    return "\n".join(each["text"] for each in content or () if isinstance(each.get("text"), str))


def _event(data: Json, name: str | None = None) -> bytes:
    """
    One server-sent event.
    """
    named = f"event: {name}\n" if name else ""
    return f"{named}data: {json.dumps(data)}\n\n".encode()


class Protocol:
    """
    How one protocol asks, and is answered.
    """

    def read(self, body: Json, path: str) -> Asked:
        """
        What the request asks.
        """
        raise NotImplementedError

    def begin(self, text: str) -> bytes:
        """
        The first events of a stream, which say `text`.
        """
        raise NotImplementedError

    def stream(self, text: str) -> Iterator[bytes]:
        """
        All events of a stream that says `text`.
        """
        raise NotImplementedError

    def call(self, name: str, arguments: Json) -> Iterator[bytes]:
        """
        All events of a stream that calls a tool.
        """
        raise NotImplementedError

    def whole(self, text: str) -> Json:
        """
        The answer `text` in one piece.
        """
        raise NotImplementedError


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), _PIECE):
        yield text[start : start + _PIECE]


class Completions(Protocol):
    """
    ``POST /v1/chat/completions``.
    """

    def read(self, body: Json, path: str) -> Asked:
        return Asked(
            [Message(each["role"], _text(each.get("content"))) for each in body["messages"]],
            [each["function"]["name"] for each in body.get("tools") or ()],
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
        called = {"index": 0, "id": "call_1", "type": "function", "function": function}
        yield self._chunk({"role": "assistant", "tool_calls": [called]})
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
    ``POST /v1/responses``.
    """

    _ROLES: ClassVar[Mapping[str, str]] = {"developer": "system"}

    def read(self, body: Json, path: str) -> Asked:
        items = body["input"]
        if isinstance(items, str):
            items = [{"role": "user", "content": items}]
        return Asked(
            [
                Message("system", str(body.get("instructions") or "")),
                *(found for each in items if (found := self._message(each)) is not None),
            ],
            [each.get("name", "") for each in body.get("tools") or ()],
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
            {"type": "response.output_item.added", "output_index": 0, "item": self._said("")},
            self._delta(text),
        ]
        return b"".join(map(self._named, events))

    def stream(self, text: str) -> Iterator[bytes]:
        yield self.begin("")
        for piece in _pieces(text):
            yield self._named(self._delta(piece))
        yield from self._end(self._said(text))

    def call(self, name: str, arguments: Json) -> Iterator[bytes]:
        yield self._named({"type": "response.created", "response": self._body([])})
        called = {"name": name, "arguments": json.dumps(arguments), "call_id": "call_1"}
        yield from self._end({"type": "function_call", "id": "fc_1", **called})

    def whole(self, text: str) -> Json:
        return self._body([self._said(text)])

    def _end(self, item: Json) -> Iterator[bytes]:
        yield self._named({"type": "response.output_item.done", "output_index": 0, "item": item})
        yield self._named({"type": "response.completed", "response": self._body([item])})

    def _named(self, event: Json) -> bytes:
        return _event(event, event["type"])

    def _delta(self, text: str) -> Json:
        at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        return {"type": "response.output_text.delta", **at, "delta": text}

    def _said(self, text: str) -> Json:
        content = [{"type": "output_text", "text": text, "annotations": []}] if text else []
        return {"type": "message", "id": "msg_1", "role": "assistant", "content": content}

    def _body(self, output: list[Json]) -> Json:
        usage = {"input_tokens": 1, "output_tokens": 1, "total_tokens": 2}
        status = "completed" if output else "in_progress"
        head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "fake-model"}
        return {**head, "status": status, "output": output, "usage": usage}


class Contents(Protocol):
    """
    ``POST /v1beta/models/MODEL:generateContent`` and ``:streamGenerateContent``.
    """

    _ROLES: ClassVar[Mapping[str, str]] = {"model": "assistant"}

    def read(self, body: Json, path: str) -> Asked:
        form = body.get("generationConfig", {})
        system = _text(body.get("systemInstruction", {}).get("parts"))
        return Asked(
            [
                Message("system", system),
                *map(self._message, body["contents"]),
            ],
            [
                each["name"]
                for tool in body.get("tools") or ()
                for each in tool.get("functionDeclarations") or ()
            ],
            path.endswith(":streamGenerateContent"),
            "responseMimeType" in form and form["responseMimeType"] != "text/plain",
        )

    def _message(self, content: Json) -> Message:
        parts = content["parts"]
        results = [each["functionResponse"] for each in parts if "functionResponse" in each]
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
    The model behind all protocols.

    Attributes:
        conversations: for each answer so far, the prompts of ours that its
            request held: one of them, where a conversation was fresh.
        hung_up: how many answers nobody waited for any more.
        begun, left: fire for each answer that never ends when it began, and when
            nobody waited for it any more.

    Args:
        seen: called with the path and the body of each request.
    """

    isLeaf = True

    def __init__(self, seen: Callable[[str, Json], object] = lambda path, body: None) -> None:
        super().__init__()
        self.conversations: list[list[str]] = []
        self.hung_up = 0
        self.begun: DeferredQueue[None] = DeferredQueue()
        self.left: DeferredQueue[None] = DeferredQueue()
        self._seen = seen

    def render_POST(self, request: Any) -> Any:
        """
        Answer, in one piece or as a stream of events.
        """
        path = request.path.decode()
        body = json.load(request.content)
        self._seen(path, body)
        if path.endswith(":countTokens"):
            return self._json(request, {"totalTokens": 1})
        protocol = _protocol(path)
        if protocol is None:
            request.setResponseCode(404)
            return self._json(request, {"error": {"message": f"there is no {path}"}})
        asked = protocol.read(body, path)
        prompts = asked.prompts
        if not prompts:
            return self._say(request, protocol, asked, "{}" if asked.form else "A few words")
        prompt, results = prompts[-1], asked.results
        if not results:
            self.conversations.append(prompts)
        if "[[silent]]" in prompt:
            request.notifyFinish().addErrback(self._count)
            self._stream(request)
            request.write(protocol.begin("Well"))
            self.begun.put(None)
            return NOT_DONE_YET
        if "[[tool]]" in prompt and not results:
            self._stream(request)
            return b"".join(protocol.call(*asked.tool))
        said = answer_line(prompt)
        return self._say(request, protocol, asked, "\n".join([*results, said]))

    def _say(self, request: Any, protocol: Protocol, asked: Asked, text: str) -> Any:
        if not asked.stream:
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

    def _count(self, _: object) -> None:
        self.hung_up += 1
        self.left.put(None)


def model_server(model: FakeModel) -> Site:
    """
    What to listen with.
    """
    return Site(model)


def main(port: int) -> None:
    """
    Serve until interrupted, and print each request.
    """
    from twisted.internet import reactor

    def show(path: str, body: Json) -> None:
        print(path, json.dumps(body), flush=True)

    listening: Any = reactor
    found = listening.listenTCP(port, model_server(FakeModel(show)), interface="127.0.0.1")
    print(found.getHost().port, flush=True)
    listening.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
