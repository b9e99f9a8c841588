"""
Read the frames of an ACP session as the messages that a person wants to see.

Only texts, tools and notices become messages.  What the two sides agree on in between, such as
the environment in ``session/new``, the results of requests and ``_meta``, is not shown: it may
hold secrets.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal, TypeAlias

from attrs import evolve, frozen

from kiroworkers.conversations.acp import jsonrpc
from kiroworkers.conversations.acp.kiro import (
    AgentMissing,
    CompactionFailed,
    ConversationCleared,
    McpProblem,
    ServiceError,
    StreamDiscarded,
    StreamRetried,
    read_notification,
)
from kiroworkers.conversations.acp.texts import error_text, one_line, repair_surrogates
from kiroworkers.conversations.acp.tools import describe_call
from kiroworkers.conversations.events import Notice

Role: TypeAlias = Literal["user", "agent", "thought", "tool", "note"]

#: The longest text of a message in characters, and that of a note or a tool's description.
_MAX_TEXT = 64 * 1024
_MAX_LINE = 1000

#: The longest frame that is read, in bytes.
_MAX_FRAME = 1024 * 1024

#: The number of tools, and of requests without a response, that are remembered.
_MAX_KNOWN = 200

#: The largest message of which the details of a tool are remembered, in bytes.
_MAX_KEPT = 4096

#: The longest identifier of a tool.
_MAX_ID = 200

_CHUNKS: Mapping[str, Role] = {
    "user_message_chunk": "user",
    "agent_message_chunk": "agent",
    "agent_thought_chunk": "thought",
}

_TOOL_FIELDS = ("title", "kind", "locations", "rawInput")

#: What the outcome of a permission request means for the tool, by the kind of the option.
_OUTCOMES = {"allow_once": "allowed", "allow_always": "allowed"}


@frozen
class ShownMessage:
    """
    Represent a message, or a part of one.

    Attributes:
        role: Whose message it is, or ``note`` for something that the agent reports.
        text: Its text, which is not safe to interpret: a client or a model wrote it.
        id: What it belongs to.  The text of an ``agent`` or a ``thought`` with the same
            identifier goes on; a ``tool`` with the same identifier replaces what was known of it.
            None for a message on its own.
        status: The state of a ``tool``; None for other messages.
    """

    role: Role
    text: str
    id: str | None = None
    status: str | None = None


class MessageReader:
    """
    Read both directions of one session.

    Args:
        incomplete: Whether the first lines may have lost their beginning.
    """

    def __init__(self, incomplete: bool = False) -> None:
        self._from_agent = jsonrpc.Reader(_MAX_FRAME)
        self._from_server = jsonrpc.Reader(_MAX_FRAME)
        self._skips_garbage = incomplete
        self._tools: dict[str, ShownMessage] = {}
        self._tool_fields: dict[str, dict[str, Any]] = {}
        # What requests without a response are about: ours by their id, the agent's with the tool.
        self._prompts: set[int | str] = set()
        self._questions: dict[int | str, tuple[str, Mapping[str, str]]] = {}
        self._piece: tuple[object, ...] = ()
        self._pieces = 0

    def received(self, data: bytes) -> list[ShownMessage]:
        """
        Return the messages that end in `data`, which the agent has written.
        """
        return _joined(
            shown
            for message, size in self._from_agent.feed(data)
            for shown in self._from_agent_message(message, size)
        )

    def sent(self, data: bytes) -> list[ShownMessage]:
        """
        Return the messages that end in `data`, which the server has sent to the agent.
        """
        return _joined(
            shown
            for message, _ in self._from_server.feed(data)
            for shown in self._from_server_message(message)
        )

    def _from_agent_message(self, message: jsonrpc.Message, size: int) -> Iterator[ShownMessage]:
        garbage = isinstance(message, jsonrpc.Garbage)
        if garbage and self._skips_garbage:
            self._skips_garbage = False
            return
        self._skips_garbage = False
        match message:
            case jsonrpc.Notification("session/update", {"update": dict() as update} as params):
                yield from self._update(params.get("sessionId"), update, size)
        match message:
            case jsonrpc.Notification(method, params):
                yield from self._notes(method, params)
            case jsonrpc.Request(id, "session/request_permission", params):
                yield from self._question(id, params, size)
            case jsonrpc.Request(_, method):
                yield self._note(f"the agent asks for {method}")
            case jsonrpc.Response(id) if id in self._prompts:
                self._prompts.discard(id)
                yield from self._ended(message)
            case jsonrpc.Response(_, _, error) if error is not None:
                yield self._note(error_text(error))
            case jsonrpc.Garbage(start):
                yield self._note(start[:_MAX_LINE].decode("utf-8", "replace"))

    def _from_server_message(self, message: jsonrpc.Message) -> Iterator[ShownMessage]:
        match message:
            case jsonrpc.Request(id, "session/prompt", {"prompt": [*blocks]}):
                _keep_some(self._prompts)
                self._prompts.add(id)
                yield self._message("user", "\n".join(_block_texts(blocks)))
            case jsonrpc.Request(_, "session/new"):
                yield self._note("a new conversation")
            case jsonrpc.Request(_, method, {"command": command}) if "commands/execute" in method:
                name = command.get("command") if isinstance(command, dict) else command
                yield self._note(f"the server sends the command {name}")
            case jsonrpc.Notification("session/cancel"):
                yield self._note("the server cancels the turn")
            case jsonrpc.Response(id, result) if id in self._questions:
                yield from self._decided(id, result)

    def _update(
        self, session: object, update: Mapping[str, Any], size: int
    ) -> Iterator[ShownMessage]:
        match update:
            case {"sessionUpdate": str(kind), "content": {"type": "text", "text": str(text)}} if (
                kind in _CHUNKS
            ):
                role = _CHUNKS[kind]
                piece = (session, role)
                if piece != self._piece:
                    self._piece = piece
                    self._pieces += 1
                yield ShownMessage(role, _shortened(text), f"{role}-{self._pieces}")
            case {"sessionUpdate": "tool_call" | "tool_call_update", "toolCallId": str(id)}:
                status = update.get("status")
                known = status if isinstance(status, str) else None
                yield self._tool(id, update, known and one_line(known, _MAX_ID), size)
            case {"sessionUpdate": "plan", "entries": [*entries]}:
                steps = [
                    f"- {entry['content']}"
                    for entry in entries[:_MAX_KNOWN]
                    if isinstance(entry, dict) and isinstance(entry.get("content"), str)
                ]
                yield self._message("note", "\n".join(["the agent's plan:", *steps]))

    def _tool(
        self, id: str, fields: Mapping[str, Any], status: str | None, size: int
    ) -> ShownMessage:
        """
        Return what is known about a tool, with what a message of `size` bytes adds.
        """
        self._piece = ()
        id = one_line(id, _MAX_ID)
        before = self._tools.get(id)
        known = self._tool_fields.setdefault(id, {})
        new = {name: fields[name] for name in _TOOL_FIELDS if fields.get(name) is not None}
        if before is None or new:
            text = one_line(describe_call({**known, **new}), _MAX_LINE)
        else:
            text = before.text
        if size <= _MAX_KEPT:
            known.update(new)
        if status is None:
            status = "pending" if before is None else before.status
        tool = self._tools[id] = ShownMessage("tool", text, id, status)
        if len(self._tools) > _MAX_KNOWN:
            oldest = next(iter(self._tools))
            del self._tools[oldest], self._tool_fields[oldest]
        return tool

    def _question(
        self, id: int | str, params: Mapping[str, Any], size: int
    ) -> Iterator[ShownMessage]:
        match params:
            case {"toolCall": {"toolCallId": str(tool)} as call}:
                options = params.get("options")
                kinds = {
                    str(option.get("optionId", option.get("id"))): str(option.get("kind"))
                    for option in (options if isinstance(options, list) else ())[:_MAX_KNOWN]
                    if isinstance(option, dict)
                }
                _keep_some(self._questions)
                if size <= _MAX_KEPT:
                    self._questions[id] = (tool, kinds)
                yield self._tool(tool, call, "asked", size)
            case _:
                yield self._note("the agent asks for a permission")

    def _decided(self, id: int | str, result: Mapping[str, Any]) -> Iterator[ShownMessage]:
        tool, kinds = self._questions.pop(id)
        match result:
            case {"outcome": {"optionId": str(option)}}:
                status = _OUTCOMES.get(kinds.get(option, ""), "denied")
            case _:
                status = "cancelled"
        yield self._tool(tool, {}, status, 0)

    def _ended(self, response: jsonrpc.Response) -> Iterator[ShownMessage]:
        reason = response.result.get("stopReason")
        if response.error is not None:
            yield self._note(f"the turn failed: {error_text(response.error)}")
        elif reason != "end_turn":
            yield self._note(f"the turn ended: {reason}")
        self._piece = ()

    def _notes(self, method: str, params: Mapping[str, Any]) -> Iterator[ShownMessage]:
        for fact in read_notification(method, params):
            match fact:
                case Notice(_, detail) | StreamRetried(Notice(_, detail)):
                    yield self._note(detail)
                case ServiceError(detail) | AgentMissing(detail) | McpProblem(detail):
                    yield self._note(detail)
                case CompactionFailed(reason):
                    yield self._note(f"the agent could not summarize the conversation: {reason}")
                case StreamDiscarded():
                    yield self._note("the agent begins its answer again")
                case ConversationCleared():
                    yield self._note("the agent has forgotten the conversation")

    def _note(self, text: str) -> ShownMessage:
        return self._message("note", one_line(text, _MAX_LINE))

    def _message(self, role: Role, text: str) -> ShownMessage:
        self._piece = ()
        return ShownMessage(role, _shortened(text))


def _block_texts(blocks: Sequence[Any]) -> Iterator[str]:
    """
    Yield the text of each content block, or a description of it.
    """
    for block in blocks:
        match block:
            case {"text": str(text)}:
                yield text
            case {"type": "image", "data": str(data)}:
                # Observers of a session get a description instead of the data.
                known = data.startswith("(") and len(data) <= _MAX_LINE
                yield f"[image {data}]" if known else "[image]"


def _joined(messages: Iterator[ShownMessage]) -> list[ShownMessage]:
    """
    Return `messages`, of which those that continue each other are one.
    """
    return join_messages([], messages)


def join_messages(
    before: list[ShownMessage], messages: Iterator[ShownMessage]
) -> list[ShownMessage]:
    """
    Append `messages` to the list `before`, and return it.

    The parts of a text become one message, as far as it stays within the longest text.
    """
    for message in messages:
        last = before[-1] if before else None
        if (
            last is not None
            and message.id is not None
            and (last.role, last.id) == (message.role, message.id)
        ):
            if message.role == "tool":
                before[-1] = message
                continue
            if len(last.text) + len(message.text) <= _MAX_TEXT:
                before[-1] = evolve(last, text=last.text + message.text)
                continue
        before.append(message)
    return before


def _shortened(text: str) -> str:
    """
    Return `text`, or its beginning and how much is missing.
    """
    text = repair_surrogates(text)
    missing = len(text) - _MAX_TEXT
    return f"{text[:_MAX_TEXT]} … ({missing} more characters)" if missing > 0 else text


def _keep_some(known: Any) -> None:
    """
    Forget everything in `known` if it has grown too large: the other side never answers.
    """
    if len(known) >= _MAX_KNOWN:
        known.clear()
