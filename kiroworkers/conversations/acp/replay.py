"""
Find the events of a recorded session of an agent that speaks ACP, as a server saw them.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kiroworkers.conversations.acp.conversation import AcpConversation
from kiroworkers.conversations.acp.recording import Frame
from kiroworkers.conversations.dialects.dialect import Dialect
from kiroworkers.conversations.events import Event
from kiroworkers.conversations.terminal.recording import BadRecording

#: The maximum output of a turn, in bytes: the server's default of --max-output.
_MAX_OUTPUT = 8 * 1024**2

#: The requests that open a session.
_OPENS = ("session/new", "session/load", "session/fork", "session/resume")


def events_in_frames(dialect: Dialect, frames: Sequence[Frame]) -> Iterator[tuple[float, Event]]:
    """
    Yield the events that `dialect` finds in a recording, each with its time in seconds.

    Args:
        dialect: The dialect of the agent that was recorded.
        frames: The recording.

    Raises:
        BadRecording: If it does not begin with the start of the agent, such as the second file
            of a long session.
    """
    first = next((frame for frame in frames if frame.direction == "out"), None)
    if first is None or _method(first.message) != "initialize":
        raise BadRecording("it does not begin with the start of the agent")
    return _Replay(dialect, frames).events()


class _Replay:
    """
    Make a conversation send what was sent, and feed it what was received.
    """

    def __init__(self, dialect: Dialect, frames: Sequence[Frame]) -> None:
        folder = next(
            (
                str(frame.message["params"].get("cwd", "/"))
                for frame in frames
                if frame.direction == "out"
                and _method(frame.message) in _OPENS
                and isinstance(frame.message.get("params"), Mapping)
            ),
            "/",
        )
        self._conversation = AcpConversation(dialect, folder, _MAX_OUTPUT)
        self._frames = frames
        # What the conversation has sent and the recording has not confirmed.
        self._sent: deque[Mapping[str, Any]] = deque()
        # Our identifiers of the requests, by the recorded ones.
        self._ids: dict[Any, Any] = {}
        # The kinds of the options of permission requests, by request and option.
        self._options: dict[tuple[Any, Any], Any] = {}
        # The session of the last prompt.
        self._session: Any = None

    def events(self) -> Iterator[tuple[float, Event]]:
        """
        Yield the events.
        """
        conversation = self._conversation
        silent_from = 0.0
        for number, frame in enumerate(self._frames):
            while (timeout := conversation.quiet_timeout) is not None:
                if frame.seconds < silent_from + timeout or frame.direction == "mark":
                    break
                silent_from += timeout
                for event in conversation.on_quiet():
                    yield silent_from, event
            if frame.direction == "out":
                self._collect(conversation.data_to_send())
                for event in self._send(frame.message, number):
                    yield frame.seconds, event
            elif frame.direction in ("in", "err"):
                silent_from = frame.seconds
                for event in self._receive(frame):
                    yield frame.seconds, event

    def _receive(self, frame: Frame) -> list[Event]:
        message = frame.message
        if message is None or frame.direction == "err":
            data = str(frame.data).encode("utf-8", "surrogateescape")
            if frame.direction == "err":
                self._conversation.feed_stderr(data)
                return []
            return self._conversation.feed(data + b"\n")
        match message:
            case {"method": "session/request_permission", "id": id, "params": Mapping() as params}:
                options = params.get("options")
                for option in options if isinstance(options, list) else ():
                    if isinstance(option, Mapping):
                        name = option.get("optionId", option.get("id"))
                        self._options[_key(id), name] = option.get("kind")
            case {"id": id} if "method" not in message and _key(id) in self._ids:
                message = {**message, "id": self._ids[_key(id)]}
        return self._conversation.feed(json.dumps(message).encode() + b"\n")

    def _send(self, message: Any, number: int) -> list[Event]:
        """
        Make the conversation send `message`, if it has not done that, and return the events.
        """
        conversation = self._conversation
        if not isinstance(message, Mapping) or self._confirm(message):
            return []
        events: list[Event] = []
        method = _method(message)
        params = message.get("params")
        params = params if isinstance(params, Mapping) else {}
        match method:
            case "session/prompt":
                session = params.get("sessionId")
                if self._session not in (None, session) and conversation.at_prompt:
                    # A session that was prepared takes no message to change to.
                    self._collect(conversation.clear())
                    events += conversation.on_quiet()
                if conversation.at_prompt:
                    self._collect(conversation.ask(_text(params)))
            case "session/set_model" | "session/set_config_option" if conversation.at_prompt:
                # The prompt that waits for the model.
                prompt = self._next_prompt(number)
                model = params.get("modelId", params.get("value"))
                if prompt is not None and isinstance(model, str):
                    self._collect(conversation.ask(prompt, model))
            case "session/cancel":
                self._collect(conversation.interrupt())
            case None if "result" in message:
                self._collect(self._decide(message))
            case str() if conversation.at_prompt and (method in _OPENS or _clears(params)):
                self._collect(conversation.clear())
        self._confirm(message)
        return events

    def _decide(self, message: Mapping[str, Any]) -> bytes:
        """
        Allow or deny the use of a tool, as the server did.
        """
        match message:
            case {"id": id, "result": {"outcome": {"optionId": option}}}:
                if self._options.get((_key(id), option)) == "allow_once":
                    return self._conversation.allow()
        return self._conversation.deny()

    def _confirm(self, message: Mapping[str, Any]) -> bool:
        """
        Return whether the conversation has sent such a message; if so, it is confirmed.
        """
        method = _method(message)
        for index, sent in enumerate(self._sent):
            same = _method(sent) == method
            if method is None:
                same = same and sent.get("id") == message.get("id")
            if same:
                del self._sent[index]
                if method is not None and "id" in message:
                    self._ids[_key(message["id"])] = sent.get("id")
                if method == "session/prompt":
                    self._session = message.get("params", {}).get("sessionId")
                return True
        return False

    def _collect(self, data: bytes) -> None:
        self._sent += (json.loads(line) for line in data.splitlines() if line.strip())

    def _next_prompt(self, number: int) -> str | None:
        for frame in self._frames[number:]:
            if frame.direction == "out" and _method(frame.message) == "session/prompt":
                return _text(frame.message.get("params"))
        return None


def _method(message: Any) -> Any:
    return message.get("method") if isinstance(message, Mapping) else None


def _clears(params: Mapping[str, Any]) -> bool:
    """
    Return whether a request with `params` is the command of Kiro that clears the conversation.
    """
    match params:
        case {"command": {"command": "clear"}}:
            return True
        case _:
            return False


def _text(params: Any) -> str:
    match params:
        case {"prompt": [*parts]}:
            texts = (part.get("text") for part in parts if isinstance(part, Mapping))
            return "".join(text for text in texts if isinstance(text, str))
        case _:
            return ""


def _key(id: Any) -> Any:
    # JSON allows any value, also one that cannot be a key.
    return json.dumps(id)
