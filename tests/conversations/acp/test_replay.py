"""
Tests for `kiroworkers.conversations.acp.recording` and `kiroworkers.conversations.acp.replay`.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import Answered, NeedsApproval, load_dialect
from kiroworkers.conversations.acp.recording import (
    JSONL_FORMAT,
    Frame,
    FrameDirection,
    read_frames,
)
from kiroworkers.conversations.acp.replay import events_in_frames
from kiroworkers.conversations.terminal.recording import BadRecording

HEADER = json.dumps({"format": JSONL_FORMAT, "version": 1}) + "\n"


def request(id: int, method: str, **params: Any) -> dict[str, Any]:
    """
    Return a request.
    """
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": params}


def response(id: int, **result: Any) -> dict[str, Any]:
    """
    Return a response.
    """
    return {"jsonrpc": "2.0", "id": id, "result": result}


def update(session: str, text: str) -> dict[str, Any]:
    """
    Return a part of an answer.
    """
    content = {"type": "text", "text": text}
    return {
        "jsonrpc": "2.0",
        "method": "session/update",
        "params": {
            "sessionId": session,
            "update": {"sessionUpdate": "agent_message_chunk", "content": content},
        },
    }


def prompt(id: int, session: str, text: str) -> dict[str, Any]:
    """
    Return a request that submits a prompt.
    """
    return request(id, "session/prompt", sessionId=session, prompt=[{"type": "text", "text": text}])


#: The start of an agent, with identifiers that a conversation of today would not choose.
START: list[tuple[FrameDirection, dict[str, Any]]] = [
    ("out", request(70, "initialize", protocolVersion=1)),
    ("in", response(70, protocolVersion=1, agentCapabilities={}, authMethods=[])),
    ("out", request(71, "session/new", cwd="/folder", mcpServers=[])),
    ("in", response(71, sessionId="s-1")),
]


def recorded(events: Iterable[tuple[FrameDirection, Any]]) -> list[Frame]:
    """
    Return a recording with a second between its messages.
    """
    return [Frame(float(number), *event) for number, event in enumerate(events)]


class ReplayTests(SynchronousTestCase):
    """
    Tests for `events_in_frames`.
    """

    def events(self, frames: list[Frame], dialect: str = "acp") -> list[Any]:
        """
        Return the events in a recording.
        """
        return [event for _, event in events_in_frames(load_dialect(dialect), frames)]

    def test_turns(self) -> None:
        """
        Each answer is found, also in a session that was prepared during the turn before.
        """
        events = self.events(
            recorded(
                [
                    *START,
                    ("out", prompt(72, "s-1", "first")),
                    ("in", update("s-1", "one")),
                    ("out", request(73, "session/new", cwd="/folder", mcpServers=[])),
                    ("in", response(72, stopReason="end_turn")),
                    ("in", response(73, sessionId="s-2")),
                    ("out", prompt(74, "s-2", "second")),
                    ("in", update("s-2", "two")),
                    ("in", response(74, stopReason="end_turn")),
                ]
            )
        )
        answers = [event.text for event in events if isinstance(event, Answered)]
        self.assertEqual(answers, ["one", "two"])

    def test_tools(self) -> None:
        """
        A tool is allowed or denied as it was, and the turn goes on.
        """
        options = [
            {"optionId": "yes", "kind": "allow_once", "name": "Yes"},
            {"optionId": "no", "kind": "reject_once", "name": "No"},
        ]
        tool = {"toolCallId": "t", "title": "Running: date"}
        for option in ("yes", "no"):
            events = self.events(
                recorded(
                    [
                        *START,
                        ("out", prompt(72, "s-1", "first")),
                        (
                            "in",
                            request(
                                5,
                                "session/request_permission",
                                sessionId="s-1",
                                toolCall=tool,
                                options=options,
                            ),
                        ),
                        ("out", response(5, outcome={"outcome": "selected", "optionId": option})),
                        ("in", update("s-1", "done")),
                        ("in", response(72, stopReason="end_turn")),
                    ]
                )
            )
            self.assertEqual(len([e for e in events if isinstance(e, NeedsApproval)]), 1)
            self.assertEqual([e.text for e in events if isinstance(e, Answered)], ["done"])

    def test_interrupted(self) -> None:
        """
        A turn that was cancelled gives no answer.
        """
        cancel = {"jsonrpc": "2.0", "method": "session/cancel", "params": {"sessionId": "s-1"}}
        events = self.events(
            recorded(
                [
                    *START,
                    ("out", prompt(72, "s-1", "first")),
                    ("in", update("s-1", "half")),
                    ("out", cancel),
                    ("in", response(72, stopReason="cancelled")),
                ]
            )
        )
        self.assertEqual([event for event in events if isinstance(event, Answered)], [])
        self.assertEqual(type(events[-1]).__name__, "Ready")

    def test_anything(self) -> None:
        """
        Messages of any form are no error, as the server has met them as well.
        """
        odd: list[Any] = [
            None,
            [],
            "text",
            {},
            {"id": [1]},
            {"method": 5},
            {"result": {}, "id": {}},
        ]
        frames = recorded([*START, *(("in", value) for value in odd)])
        frames += recorded([("out", value) for value in odd])
        frames.append(Frame(99.0, "err", None, "log"))
        self.assertEqual(type(self.events(frames)[0]).__name__, "Ready")

    def test_middle(self) -> None:
        """
        A recording that does not begin with the agent's start cannot be followed.
        """
        for frames in ([], recorded([("out", prompt(72, "s-1", "first"))])):
            with self.assertRaisesRegex(BadRecording, "does not begin with the start"):
                self.events(frames)


class ReadTests(SynchronousTestCase):
    """
    Tests for `read_frames`.
    """

    def test_read(self) -> None:
        """
        Messages, text and markers are read, except a last line that is cut off.
        """
        lines = [
            HEADER,
            '{"t": 0, "dir": "in", "frame": {"id": 1}}\n',
            '{"t": 1.5, "dir": "err", "data": "log"}\n',
            '{"t": 2, "dir": "mark", "data": {"mark": "asked"}}\n',
            '{"t": 3, "d',
        ]
        self.assertEqual(
            list(read_frames(lines)),
            [
                Frame(0.0, "in", {"id": 1}),
                Frame(1.5, "err", None, "log"),
                Frame(2.0, "mark", None, {"mark": "asked"}),
            ],
        )

    def test_wrong(self) -> None:
        """
        What is not a recording is refused, with the number of the line.
        """
        for lines, reason in [
            ([], "the recording is empty"),
            (["x\n"], "line 1: not JSON"),
            (['{"version": 1}\n'], "line 1: not a recording"),
            ([HEADER, "[]\n"], "line 2: not a recording"),
            ([HEADER, '{"t": 1, "dir": "up"}\n'], "line 2: not a recording"),
        ]:
            with self.assertRaisesRegex(BadRecording, reason):
                list(read_frames(lines))
