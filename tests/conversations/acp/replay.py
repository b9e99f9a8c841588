"""
Replay captures of agents that speak ACP.

A capture is a file of JSON lines.  The first line has what is expected of its turns, in
order; each other one is a message, with the side that sent it.  `Replay` lets a
conversation take the place of the client in the capture: what the client asked, the
conversation is made to ask, and each of its requests gets the response that the capture
has.  A request that the client did not make gets the response of a plain agent.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from math import isclose
from pathlib import Path
from typing import Any

from kiroworkers.conversations import (
    AgentFailure,
    Answered,
    Cleared,
    Conversation,
    Event,
    LateOutput,
    NeedsApproval,
    NotCleared,
    Overflowed,
    PromptLost,
    Ready,
    TextChunk,
    TextDiscarded,
    load_dialect,
    new_conversation,
)

#: The kind of failure that each word of an expectation stands for.
_FAILURES = {
    "throttled": "throttled",
    "suspended": "suspended",
    "login": "login_required",
    "expired": "login_expired",
    "credits": "out_of_credits",
    "context": "context_full",
    "model_gone": "model_gone",
    "network": "network",
    "stream_timeout": "stream_timeout",
    "refused": "refusal",
    "interrupted": "tool_interrupted",
    "agent_fault": "agent_error",
}

_MAX_OUTPUT = 8 * 1024 * 1024


class Adapter:
    """
    Drive a conversation, and note all that comes of it.

    Args:
        dialect: The name of the agent's dialect.
        cut: Splits the bytes of a message into those of several reads.
    """

    def __init__(self, dialect: str, cut: Callable[[bytes], list[bytes]]) -> None:
        self._cut = cut
        self.conversation: Conversation = new_conversation(
            load_dialect(dialect), _MAX_OUTPUT, "/repo"
        )
        self._written = bytearray(self.conversation.data_to_send())
        self._events: list[Event] = []

    def feed(self, message: Any) -> None:
        """
        Let the agent send `message`.
        """
        for piece in self._cut(json.dumps(message).encode() + b"\n"):
            self._take(self.conversation.feed(piece))
        self.settle(0)

    def settle(self, timeout: float) -> None:
        """
        Let `timeout` seconds pass without output.
        """
        due = self.conversation.quiet_timeout
        if due is not None and due <= timeout:
            self._take(self.conversation.on_quiet())

    def prompt(self, text: str) -> None:
        """
        Submit a prompt.
        """
        self.write(self.conversation.ask(text))

    def clear(self) -> None:
        """
        Begin to clear the conversation.
        """
        self.write(self.conversation.clear())
        self.settle(0)

    def write(self, data: bytes) -> None:
        """
        Take in what the conversation writes.
        """
        self._written += data

    def events(self) -> list[Event]:
        """
        Return the events since the last call.
        """
        events, self._events = self._events, []
        return events

    def messages(self) -> list[Any]:
        """
        Return the messages that were written since the last call.
        """
        messages = [json.loads(line) for line in self._written.splitlines()]
        self._written.clear()
        return messages

    def _take(self, events: list[Event]) -> None:
        self._events += events
        self.write(self.conversation.data_to_send())


def whole(data: bytes) -> list[bytes]:
    """
    Return `data` in one piece.
    """
    return [data]


def cut_anywhere(seed: int) -> Callable[[bytes], list[bytes]]:
    """
    Return a function that cuts data at random bytes.
    """
    chance = random.Random(seed)

    def cut(data: bytes) -> list[bytes]:
        places = sorted(chance.randrange(len(data)) for _ in range(chance.randrange(4)))
        return [data[i:j] for i, j in zip([0, *places], [*places, len(data)], strict=True)]

    return cut


class Replay:
    """
    Replay one capture.

    Args:
        path: The file.
        dialect: The name of the dialect.
        cut: How the messages are cut.

    Attributes:
        problems: What was not as expected, in sentences.
    """

    def __init__(self, path: Path, dialect: str, cut: Callable[[bytes], list[bytes]]) -> None:
        first, *lines = path.read_text(encoding="utf-8").splitlines()
        self._expected: list[dict[str, Any]] = json.loads(first)["expect"]
        self._lines = [json.loads(line) for line in lines]
        self._agent = Adapter(dialect, cut)
        self.problems: list[str] = []
        self._position = 0
        # Requests of the conversation without a response, and whose id in the capture
        # stands for which of them; requests of the agent without one.
        self._asked: list[dict[str, Any]] = []
        self._stands_for: dict[Any, Any] = {}
        self._unanswered: set[Any] = set()
        self._chosen = dict(self._choices())
        self._created: dict[str, Any] = {}
        self._sessions = 0
        self._in_turn = self._cancelled = self._clearing = False
        self._pieces = ""

    def run(self) -> list[str]:
        """
        Replay the capture, and return what was not as expected.
        """
        self._look()
        for position, line in enumerate(self._lines):
            self._position = position
            if line["dir"] == "out":
                self._follow_client(line["frame"])
            else:
                self._play_agent(line["frame"])
        self._end_open_turn()
        if self._clearing:
            self._complain("the clear was not confirmed")
        for expected in self._expected:
            self._complain(f"never happened: {expected}")
        for id in self._unanswered:
            self._complain(f"request {id!r} of the agent has no response")
        return self.problems

    # What the client did.

    def _follow_client(self, frame: dict[str, Any]) -> None:
        match frame:
            case {"method": "session/cancel"} if self._in_turn:
                self._cancelled = True
                self._agent.write(self._agent.conversation.interrupt())
            case {"method": "session/prompt", "params": {"prompt": [{"text": text}]}}:
                self._end_open_turn()
                if not self._agent.conversation.at_prompt:
                    self._complain("takes no prompt")
                    return
                self._in_turn, self._cancelled, self._pieces = True, False, ""
                self._agent.prompt(text)
            case {"method": "session/new"} if self._sessions > 0:
                self._clear()
            case {"params": {"command": {"command": "clear"}}}:
                self._clear()
        self._look()
        for request in self._asked:
            if _same_request(request, frame):
                self._asked.remove(request)
                self._stands_for[frame["id"]] = request["id"]
                break

    def _clear(self) -> None:
        self._clearing = True
        self._agent.clear()
        self._look()
        self._respond_as_plain_agent()

    # What the agent did.

    def _play_agent(self, frame: dict[str, Any]) -> None:
        match frame:
            case {"method": _, "id": id}:
                self._unanswered.add(id)
            case {"id": id}:
                if id not in self._stands_for:
                    return
                frame = {**frame, "id": self._stands_for.pop(id)}
                if "sessionId" in frame.get("result", {}):
                    self._sessions += 1
                    self._created = frame["result"]
        self._agent.feed(frame)
        self._look(frame)
        # The last line that belongs to a turn is where the next request of the client is.
        following = self._lines[self._position + 1 : self._position + 2]
        if not following or following[0]["dir"] == "out":
            self._respond_as_plain_agent()

    def _respond_as_plain_agent(self) -> None:
        """
        Answer the requests that the client of the capture did not make.
        """
        ahead = [line["frame"] for line in self._lines[self._position :] if line["dir"] == "out"]
        while own := [
            request
            for request in self._asked
            if request["method"] not in ("initialize", "session/prompt")
            and not any(_same_request(request, frame) for frame in ahead)
            and self._created
        ]:
            for request in own:
                self._asked.remove(request)
                self._agent.feed({"id": request["id"], **self._plain_response(request)})
                self._look()

    def _plain_response(self, request: dict[str, Any]) -> dict[str, Any]:
        match request:
            case {"method": "session/new"}:
                id = f"{self._created['sessionId']}-{request['id']}"
                return {"result": {**self._created, "sessionId": id}}
            case {"method": "session/set_config_option", "params": params}:
                options = [
                    {**option, "currentValue": params["value"]}
                    if option["id"] == params["configId"]
                    else option
                    for option in self._created["configOptions"]
                ]
                return {"result": {"configOptions": options}}
            case {"method": "_kiro.dev/session/terminate" | "session/close"}:
                return {"result": {}}
        return {"error": {"code": -32601, "message": "Method not found"}}

    def _choices(self) -> Iterator[tuple[Any, str]]:
        """
        Yield the id of each permission request, with the kind of option that was chosen.
        """
        kinds: dict[Any, dict[str, str]] = {}
        for line in self._lines:
            match line["frame"]:
                case {"method": "session/request_permission", "id": id, "params": params}:
                    kinds[id] = {o["optionId"]: o["kind"] for o in params["options"]}
                case {"id": id, "result": {"outcome": outcome}} if line["dir"] == "out":
                    yield id, kinds[id].get(outcome.get("optionId"), "cancelled")

    # What the conversation did.

    def _look(self, frame: Any = None) -> None:
        """
        Take in what the conversation has written, and the events.
        """
        for event in self._agent.events():
            self._check(event, frame)
        for message in self._agent.messages():
            match message:
                case {"method": _, "id": _}:
                    self._asked.append(message)
                case {"id": id}:
                    if id not in self._unanswered:
                        self._complain(f"a response to {id!r}, which nobody asked")
                    self._unanswered.discard(id)

    def _check(self, event: Event, frame: Any) -> None:
        conversation = self._agent.conversation
        match event:
            case TextChunk(text):
                self._pieces += text
                if not self._in_turn:
                    self._complain(f"text without a turn: {text[:60]!r}")
            case TextDiscarded():
                self._pieces = ""
            case NeedsApproval(question, _, grantable):
                self._expect("approval", lambda wanted: wanted in ("*", question), question)
                allowed = self._chosen.get(frame["id"], "").startswith("allow")
                self._agent.write(
                    conversation.allow() if allowed and grantable else conversation.deny()
                )
            case Answered(text):
                if text != self._pieces:
                    self._complain("the chunks are not the answer")
                self._expect_answer(event)
                self._in_turn = False
            case AgentFailure(kind):
                self._expect("failure", lambda wanted: _FAILURES[wanted] == kind, str(event))
                if conversation.at_prompt:
                    self._in_turn = False
            case Ready() if self._in_turn and self._cancelled:
                self._expect("cancelled", lambda wanted: wanted is True, "ready again")
                self._in_turn = False
            case Cleared():
                self._clearing = False
            case LateOutput() if self._in_turn:
                self._complain("late output in a turn")
            case Overflowed() | PromptLost() | NotCleared():
                self._complain(str(event))

    def _expect_answer(self, event: Answered) -> None:
        expected = self._expected[0] if self._expected else {}
        texts = (expected.get("answered"), expected.get("or", expected.get("answered")))
        self._expect("answered", lambda _: event.text in texts, event.text)
        for name, value in (
            ("credits", event.usage.credits),
            ("context", event.usage.context_percent),
        ):
            if name in expected and not isclose(expected[name], value or 0):
                self._complain(f"{name} is {value}, not {expected[name]}")

    def _expect(self, what: str, fits: Callable[[Any], bool], happened: str) -> None:
        if not self._expected:
            self._complain(f"{what} {happened[:90]!r}, but nothing more was expected")
            return
        expected = self._expected.pop(0)
        if what not in expected or not fits(expected[what]):
            self._complain(f"{what} {happened[:90]!r}, not {str(expected)[:90]}")

    def _end_open_turn(self) -> None:
        """
        Wait in silence for a turn that has no end in the capture.
        """
        if not self._in_turn:
            return
        self._agent.settle(60)
        self._look()
        if self._in_turn and self._expected and "open" in self._expected[0]:
            self._expected.pop(0)
        elif self._in_turn and self._agent.conversation.failure is None:
            self._complain("the turn never ends")
        self._in_turn = False

    def _complain(self, problem: str) -> None:
        self.problems.append(f"line {self._position + 2}: {problem}")


def _same_request(request: dict[str, Any], frame: dict[str, Any]) -> bool:
    """
    Return whether a request of the conversation is the one in the capture.
    """
    names = ("configId", "value", "command")
    return request["method"] == frame.get("method") and all(
        request["params"].get(name) == frame["params"].get(name) for name in names
    )
