"""
Tests for `kiroworkers.conversations.acp.messages`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kiroworkers.conversations.acp.messages import MessageReader, ShownMessage, join_messages
from tests.conversations.terminal.test_redrawing import FOLDER

#: Values as an agent may send them, of the right kinds and of others.
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    *("update", "sessionUpdate", "content", "text", "type", "toolCall", "options"),
                    *("toolCallId", "optionId", "kind", "entries", "title", "status", "outcome"),
                    "prompt",
                ]
            ),
            inner | st.sampled_from(["text", "tool_call", "plan", "agent_message_chunk"]),
            max_size=5,
        )
    ),
    max_leaves=20,
)
methods = st.sampled_from(
    [
        *("session/update", "session/prompt", "session/request_permission", "session/new"),
        *("session/cancel", "_kiro.dev/session/update", "_kiro.dev/commands/execute"),
    ]
)


def line(**message: Any) -> bytes:
    """
    Return a frame.
    """
    return json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"


def update(**update: Any) -> bytes:
    """
    Return the frame of an update of the session.
    """
    params = {"sessionId": "s", "update": update}
    return line(method="session/update", params=params)


def chunk(text: str, kind: str = "agent_message_chunk") -> bytes:
    """
    Return the frame of a part of a text.
    """
    return update(sessionUpdate=kind, content={"type": "text", "text": text})


def prompt(text: str, id: int = 7) -> bytes:
    """
    Return the frame that asks the agent.
    """
    params = {"sessionId": "s", "prompt": [{"type": "text", "text": text}]}
    return line(id=id, method="session/prompt", params=params)


class MessageTests(SynchronousTestCase):
    """
    Tests for the messages of frames.
    """

    def setUp(self) -> None:
        self.reader = MessageReader()

    def test_turn(self) -> None:
        """
        A prompt, a thought and an answer become a message each, and the end of a turn none.
        """
        self.assertEqual(self.reader.sent(prompt("Why?")), [ShownMessage("user", "Why?")])
        shown = self.reader.received(
            chunk("Hm", "agent_thought_chunk") + chunk("Be") + chunk("cause.")
        )
        shown += self.reader.received(line(id=7, result={"stopReason": "end_turn"}))
        self.assertEqual(
            [(message.role, message.text) for message in shown],
            [("thought", "Hm"), ("agent", "Because.")],
        )

    def test_text_goes_on(self) -> None:
        """
        A text that goes on keeps its identifier, and after a tool another one begins.
        """
        [first] = self.reader.received(chunk("one"))
        [second] = self.reader.received(chunk(" two"))
        self.reader.received(update(sessionUpdate="tool_call", toolCallId="t", title="ls"))
        [third] = self.reader.received(chunk("three"))
        self.assertEqual(first.id, second.id)
        self.assertNotEqual(first.id, third.id)

    def test_cut_anywhere(self) -> None:
        """
        Frames that are cut at each byte give the same messages.
        """
        data = chunk("größer 大") + update(sessionUpdate="tool_call", toolCallId="t", title="ls")
        whole = self.reader.received(data)
        reader, pieces = MessageReader(), list[ShownMessage]()
        for at in range(len(data)):
            pieces += reader.received(data[at : at + 1])
        self.assertEqual(pieces, whole)

    def test_tool(self) -> None:
        """
        A tool keeps its identifier from its call over the question and the decision to its end,
        with its command.
        """
        shown = self.reader.received(
            update(sessionUpdate="tool_call", toolCallId="t1", title="Run", kind="execute")
        )
        call = {"toolCallId": "t1", "rawInput": {"command": "rm x"}}
        kinds = {"n": "reject_once", "y": "allow_once"}
        options = [{"optionId": id, "kind": kind} for id, kind in kinds.items()]
        params = {"sessionId": "s", "toolCall": call, "options": options}
        question = line(id=1, method="session/request_permission", params=params)
        shown += self.reader.received(question)
        shown += self.reader.sent(line(id=1, result={"outcome": {"optionId": "n"}}))
        shown += self.reader.received(question)
        shown += self.reader.sent(line(id=1, result={"outcome": {"optionId": "y"}}))
        shown += self.reader.received(
            update(sessionUpdate="tool_call_update", toolCallId="t1", status="completed")
        )
        self.assertEqual({message.id for message in shown}, {"t1"})
        self.assertEqual(
            [message.status for message in shown],
            ["pending", "asked", "denied", "asked", "allowed", "completed"],
        )
        self.assertEqual(shown[-1].text, "Run: rm x")

    def test_failures(self) -> None:
        """
        A turn that fails, lines that are no frames and notices are notes.
        """
        self.reader.sent(prompt("Why?"))
        shown = self.reader.received(
            line(id=7, error={"code": -32603, "message": "no more credits"})
            + b"warning: \x1b[31mdisk full\n"
            + line(method="_kiro.dev/clear/status", params={})
            + line(method="session/request_permission", id=3, params={})
        )
        self.assertEqual({message.role for message in shown}, {"note"})
        self.assertEqual(
            [message.text for message in shown],
            [
                "the turn failed: -32603: no more credits",
                "warning: disk full",
                "the agent has forgotten the conversation",
                "the agent asks for a permission",
            ],
        )

    def test_no_secrets(self) -> None:
        """
        Neither the environment, headers and metadata of a new session nor the results of
        requests are shown.
        """
        server = {"name": "db", "command": "db", "env": [{"name": "TOKEN", "value": "s3cret"}]}
        params = {"cwd": "/", "mcpServers": [server], "_meta": {"kiro": {"key": "s3cret"}}}
        shown = self.reader.sent(
            line(id=1, method="session/new", params=params)
            + line(id=0, method="authenticate", params={"token": "s3cret"})
            + line(id=9, result={"accessToken": "s3cret"})
        )
        shown += self.reader.received(
            line(id=9, method="_kiro/auth/getAccessToken", params={"hint": "s3cret"})
            + line(id=1, result={"sessionId": "s", "_meta": {"key": "s3cret"}})
        )
        self.assertNotIn("s3cret", repr(shown))
        self.assertEqual(len(shown), 2)

    def test_lost_beginning(self) -> None:
        """
        The rest of a frame whose beginning is lost is not shown, but other text later is.
        """
        reader = MessageReader(incomplete=True)
        shown = reader.received(b'ext": "lost"}}}\n' + chunk("kept") + b"odd\n")
        self.assertEqual([message.text for message in shown], ["kept", "odd"])

    def test_bounded(self) -> None:
        """
        A long text is shortened, and says by how much; tools and questions do not pile up.
        """
        [message] = self.reader.sent(prompt("x" * 100_000))
        self.assertEqual(message.text[-26:], " … (34464 more characters)")
        for number in range(500):
            self.reader.received(update(sessionUpdate="tool_call", toolCallId=str(number)))
            self.reader.sent(prompt("x", number))
        self.assertLessEqual(len(self.reader._tools), 200)
        self.assertLessEqual(len(self.reader._prompts), 200)

    def test_large_tool(self) -> None:
        """
        The input of a tool is not remembered if it is large, but its description is.
        """
        large = {"path": "/repo/a.txt", "content": "x" * 100_000}
        self.reader.received(
            update(sessionUpdate="tool_call", toolCallId="t", title="Write", rawInput=large)
        )
        [tool] = self.reader.received(
            update(sessionUpdate="tool_call_update", toolCallId="t", status="completed")
        )
        self.assertEqual((tool.text, tool.status), ("Write: /repo/a.txt", "completed"))
        self.assertEqual(self.reader._tool_fields, {"t": {}})

    def test_join(self) -> None:
        """
        Parts of one text are joined, and of one tool's states the last is kept.
        """
        joined = join_messages(
            [ShownMessage("agent", "a", "agent-1")],
            iter(
                [
                    ShownMessage("agent", "b", "agent-1"),
                    ShownMessage("tool", "ls", "t", "pending"),
                    ShownMessage("tool", "ls", "t", "completed"),
                    ShownMessage("note", "n"),
                    ShownMessage("note", "n"),
                ]
            ),
        )
        self.assertEqual([message.text for message in joined], ["ab", "ls", "n", "n"])
        self.assertEqual(joined[1].status, "completed")

    @given(
        st.lists(
            st.fixed_dictionaries(
                {},
                optional={"method": methods, "params": values, "id": values, "result": values},
            )
        )
    )
    def test_anything(self, messages: list[dict[str, Any]]) -> None:
        """
        Whatever the two sides send, reading it does not fail.
        """
        reader = MessageReader()
        for message in messages:
            for shown in (*reader.received(line(**message)), *reader.sent(line(**message))):
                json.dumps([shown.text, shown.id, shown.status]).encode()

    def test_recordings(self) -> None:
        """
        What real agents answered, and the tools that they used, is shown.
        """
        files = sorted(FOLDER.glob("acp/*.jsonl"))
        if not files:
            raise SkipTest(f"no recordings in {FOLDER}; set KIROWORKERS_RECORDINGS")
        tools = 0
        for file in files:
            expected = json.loads(file.read_text(encoding="utf-8").partition("\n")[0])["expect"]
            text = "".join(
                shown.text for shown in _replay(file.read_bytes()) if shown.role == "agent"
            )
            tools += sum(shown.role == "tool" for shown in _replay(file.read_bytes()))
            for expectation in expected:
                if isinstance(expectation, dict) and "answered" in expectation:
                    self.assertIn(expectation["answered"], text, file)
        self.assertGreater(tools, 10)


def _replay(recording: bytes) -> Iterator[ShownMessage]:
    """
    Yield what is shown of the session that is asked, without those of subagents.
    """
    reader = MessageReader()
    asked = set[str | None]()
    for entry in map(json.loads, recording.splitlines()[1:]):
        frame = entry["frame"]
        session = (frame.get("params") or {}).get("sessionId")
        if frame.get("method") == "session/prompt":
            asked.add(session)
        if session is None or session in asked or not asked:
            read = reader.received if entry["dir"] == "in" else reader.sent
            yield from read(json.dumps(frame).encode() + b"\n")
