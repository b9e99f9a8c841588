"""
Tests for `kiroworkers.telemetry.live_terminals` and `session_views`.
"""

from __future__ import annotations

import json
from time import thread_time
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.session.observer import SessionInfo
from kiroworkers.session.state import SessionState
from kiroworkers.telemetry.live_terminals import LiveTerminals, SessionOutput
from kiroworkers.telemetry.session_views import (
    MAX_OUTPUT,
    KeptBytes,
    Side,
    TerminalSession,
    unfinished_character,
)
from tests.conversations.acp.test_messages import chunk, prompt, update
from tests.conversations.terminal.test_emulator import drawn
from tests.conversations.terminal.test_redrawing import STYLES, picture
from tests.servers import COVERAGE_FACTOR

TERMINAL = SessionInfo("worker1", "kiro", (5, 20))
PIPES = SessionInfo("worker1", "kiro", None)


class FakeViewer:
    """
    Keep what it is sent.
    """

    def __init__(self) -> None:
        self.paused = False
        self.received: list[bytes] = []

    def send(self, data: bytes) -> None:
        assert not self.paused, "it does not read"
        self.received.append(data)

    def messages(self) -> list[dict[str, Any]]:
        """
        Return the messages, each of which names the worker.
        """
        messages = [*map(json.loads, b"".join(self.received).splitlines())]
        assert all(message.pop("worker") == "worker1" for message in messages)
        return messages

    def types(self) -> list[str]:
        return [message["type"] for message in self.messages()]

    def screen(self) -> Any:
        """
        Return a terminal of the same size that was fed everything.
        """
        emulator = drawn()
        for message in self.messages():
            if message["type"] == "screen":
                emulator = drawn(rows=message["rows"], columns=message["columns"])
            emulator.feed(message.get("data", "").encode(), lambda complete: None)
        return emulator


class LiveTestCase(SynchronousTestCase):
    """
    Base of tests with one worker, whose messages are lines.
    """

    def setUp(self) -> None:
        self.encoded = 0
        self.clock = Clock()
        self.live = LiveTerminals(self.clock, self.encode)

    def encode(self, text: str) -> bytes:
        self.encoded += 1
        return text.encode("ascii") + b"\n"

    def watch(self, viewer: FakeViewer | None = None) -> tuple[FakeViewer, Any]:
        """
        Return a viewer that watches, and its `Watching`.
        """
        viewer = viewer or FakeViewer()
        return viewer, self.live.watch("worker1", viewer)

    def start(self, info: SessionInfo = TERMINAL) -> SessionOutput:
        return self.live.observe(info)

    def wait(self, seconds: float = 2.0) -> None:
        self.clock.pump([0.01] * int(seconds * 100))


class ViewerTests(LiveTestCase):
    """
    Tests for the viewers of a terminal.
    """

    def test_screen_first(self) -> None:
        """
        A viewer gets the last screen at once, and then the output.
        """
        session = self.start()
        session.output(b"\x1b[31mred\r\n")
        viewer, _ = self.watch()
        self.clock.advance(0)
        [screen] = viewer.messages()
        self.assertEqual((screen["type"], screen["rows"], screen["columns"]), ("screen", 5, 20))
        self.assertEqual(viewer.screen().rows()[0], "red")
        session.output(b"more")
        self.wait()
        self.assertEqual(viewer.messages()[1:], [{"type": "output", "data": "more"}])

    @given(
        st.lists(
            st.sampled_from(
                [*STYLES, b"\xe5", b"\xa4", b"\xa7", b"\x1b", b"[3", b"1m", b"\xf0\x9f"]
            )
        ),
        st.integers(0, 20),
    )
    def test_same_as_terminal(self, output: list[bytes], joined: int) -> None:
        """
        Whenever a viewer joins, even inside a character or a sequence, its terminal shows what
        the agent's does.
        """
        self.setUp()
        session = self.start()
        viewers = [self.watch()[0]]
        for index, data in enumerate(output):
            session.output(data)
            if index == joined:
                viewers.append(self.watch()[0])
            self.clock.advance(0.03)
        self.wait()
        session.output(b"|\x1b[m\r\n")
        self.wait()
        expected = drawn(b"".join(output) + b"|\x1b[m\r\n")
        for viewer in viewers:
            self.assertEqual(picture(viewer.screen()), picture(expected))

    def test_gathered(self) -> None:
        """
        Much output in a moment is one message, which is encoded once for all viewers.
        """
        session = self.start()
        viewers = [self.watch()[0] for _ in range(20)]
        self.wait()
        self.encoded = 0
        for _ in range(100):
            session.output(b"x")
        self.wait(0.1)
        self.assertEqual(self.encoded, 1)
        for viewer in viewers:
            self.assertEqual(viewer.messages()[1:], [{"type": "output", "data": "x" * 100}])

    def test_cut_character(self) -> None:
        """
        A character that was cut is sent as a whole.
        """
        session = self.start()
        viewer, _ = self.watch()
        self.wait()
        for byte in "大".encode():
            session.output(bytes([byte]))
            self.wait(0.1)
        self.assertEqual(viewer.messages()[1:], [{"type": "output", "data": "大"}])

    def test_slow_viewer(self) -> None:
        """
        A viewer that does not read misses output, and gets the newest screen when it reads again;
        the others miss nothing.
        """
        session = self.start()
        slow, watching = self.watch()
        fast, _ = self.watch()
        self.wait()
        slow.paused = True
        for number in range(50):
            session.output(b"%d\r\n" % number)
            self.wait(0.1)
        self.assertEqual(slow.types(), ["screen"])
        self.assertEqual(fast.types(), ["screen"] + ["output"] * 50)
        slow.paused = False
        watching.resume()
        self.wait()
        self.assertEqual(slow.types(), ["screen", "screen"])
        self.assertEqual(slow.screen().rows(), fast.screen().rows())
        session.output(b"end")
        self.wait()
        self.assertEqual(slow.messages()[-1], {"type": "output", "data": "end"})

    def test_joins_meanwhile(self) -> None:
        """
        Who joins while slow viewers wait for their next screen gets one at once.
        """
        session = self.start()
        slow, watching = self.watch()
        self.clock.advance(0)
        slow.paused = True
        session.output(b"x")
        self.clock.advance(0.1)
        slow.paused = False
        watching.resume()
        self.clock.advance(0)
        self.assertEqual(slow.types(), ["screen"])
        viewer, _ = self.watch()
        self.clock.advance(0)
        self.assertEqual(viewer.types(), ["screen"])
        self.assertEqual(slow.types(), ["screen", "screen"])

    def test_paused_unnoticed(self) -> None:
        """
        A viewer that did not read while nothing was new has missed nothing.
        """
        session = self.start()
        viewer, watching = self.watch()
        self.wait()
        viewer.paused = True
        self.wait()
        viewer.paused = False
        watching.resume()
        session.output(b"x")
        self.wait()
        self.assertEqual(viewer.types(), ["screen", "output"])

    def test_reads_in_turns(self) -> None:
        """
        Viewers that keep stopping to read get the screen at most twice a second.
        """
        session = self.start()
        viewer, watching = self.watch()
        for _ in range(100):
            viewer.paused = True
            session.output(b"x")
            self.clock.advance(0.05)
            viewer.paused = False
            watching.resume()
            self.clock.advance(0.05)
        self.assertLessEqual(len(viewer.types()), 2 * 10 + 2)

    def test_flood(self) -> None:
        """
        Of more output than is kept, viewers only get the screen after it.
        """
        session = self.start()
        viewer, _ = self.watch()
        self.wait()
        for number in range(10_000):
            session.output(b"line %d" % number + b"\r\n" * 10)
        self.wait()
        self.assertEqual(viewer.types(), ["screen", "screen"])
        self.assertEqual(viewer.screen().rows()[0], "")
        session.output(b"end")
        self.wait()
        self.assertEqual(viewer.screen().rows()[-1], "end")

    def test_faster_than_emulator(self) -> None:
        """
        While the agent prints faster than an emulator reads, that takes few steps, and a viewer
        that joins then gets a screen within two seconds.
        """
        session = self.start()
        viewer, _ = self.watch()
        view = self.live._workers["worker1"]._view
        assert view is not None
        steps, catch_up = 0, view.catch_up

        def count(hurry: bool) -> bool:
            nonlocal steps
            steps += 1
            return catch_up(hurry)

        self.patch(view, "catch_up", count)
        for _ in range(200):
            session.output(b"x" * 8192)
            self.clock.advance(0.01)
        self.assertEqual(viewer.types()[0], "screen")
        self.assertLess(steps, 160)

    def test_restarted(self) -> None:
        """
        The viewers of a worker are told when its session ends and another starts, and then get
        the new screen.
        """
        session = self.start()
        session.output(b"first")
        viewer, _ = self.watch()
        self.wait()
        session.output(b" last words")
        session.state_changed(SessionState.STOPPING, SessionState.GONE, "restarted")
        self.wait()
        second = self.start()
        second.output(b"second")
        session.output(b"late")
        self.wait()
        self.assertEqual(
            [message.get("state", message["type"]) for message in viewer.messages()],
            ["screen", "output", "ended", "started", "screen"],
        )
        self.assertEqual(viewer.screen().rows()[0], "second")

    def test_successor(self) -> None:
        """
        A session that starts before the last one ends is shown when that ends or when it is
        asked itself, whatever comes first; one that fails before that is never shown.
        """
        for state in (SessionState.STOPPING, SessionState.BUSY):
            self.setUp()
            first = self.start()
            viewer, _ = self.watch()
            failed = self.start()
            failed.state_changed(SessionState.STARTING, SessionState.GONE, "no login")
            second = self.start()
            second.output(b"second")
            first.output(b"first")
            self.wait()
            self.assertEqual(viewer.screen().rows()[0], "first")
            (second if state is SessionState.BUSY else first).state_changed(
                SessionState.IDLE, state, ""
            )
            first.state_changed(SessionState.STOPPING, SessionState.GONE, "")
            self.wait()
            self.assertEqual(viewer.screen().rows()[0], "second")
            states = [message["state"] for message in viewer.messages() if "state" in message]
            self.assertEqual(states, ["ended", "started"])

    def test_before_session(self) -> None:
        """
        Whoever watches a worker without a session is told so, and gets the screen of the next.
        """
        viewer, _ = self.watch()
        self.assertEqual(viewer.messages(), [{"type": "session", "state": "ended"}])
        self.start().output(b"hello")
        self.wait()
        self.assertEqual(viewer.types(), ["session", "session", "screen"])

    def test_nobody_watches(self) -> None:
        """
        Without viewers nothing is drawn, encoded or scheduled.
        """
        session = self.start()
        viewer, watching = self.watch()
        session.output(b"one")
        watching.stop()
        session.output(b"two")
        session.state_changed(SessionState.STOPPING, SessionState.GONE, "")
        self.start().output(b"three")
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual((viewer.received, self.encoded), ([], 0))

    def test_removed_workers(self) -> None:
        """
        The output of workers that no longer exist is forgotten.
        """
        for number in range(100):
            session = self.live.observe(SessionInfo(f"worker{number}", "kiro", (5, 20)))
            session.state_changed(SessionState.STOPPING, SessionState.GONE, "")
        self.assertLessEqual(len(self.live._workers), 40)


class ProtocolTests(LiveTestCase):
    """
    Tests for the viewers of an agent without a terminal.
    """

    def test_messages(self) -> None:
        """
        A viewer gets the last messages, and then each new one, parts of a text as they come.
        """
        session = self.start(PIPES)
        session.typed(prompt("Why?"))
        session.output(chunk("Be")[:30])
        viewer, _ = self.watch()
        self.wait()
        session.output(chunk("Be")[30:] + chunk("cau"))
        self.wait()
        session.output(chunk("se."))
        self.wait()
        messages = viewer.messages()
        self.assertEqual(viewer.types(), ["screen", "message", "message", "message"])
        self.assertEqual([m["text"] for m in messages[1:]], ["Why?", "Becau", "se."])
        self.assertEqual(messages[2]["id"], messages[3]["id"])
        second, _ = self.watch()
        self.wait()
        self.assertEqual([m["text"] for m in second.messages()[1:]], ["Why?", "Because."])
        self.assertEqual(second.messages()[2]["id"], messages[3]["id"])

    def test_tool_changes(self) -> None:
        """
        Whoever comes later sees each tool once, where it was called, with its last state.
        """
        session = self.start(PIPES)
        session.output(update(sessionUpdate="tool_call", toolCallId="t", title="ls"))
        session.output(chunk("text"))
        session.output(update(sessionUpdate="tool_call_update", toolCallId="t", status="completed"))
        viewer, _ = self.watch()
        self.wait()
        tool, text = viewer.messages()[1:]
        self.assertEqual((tool["role"], tool["status"]), ("tool", "completed"))
        self.assertEqual(text["text"], "text")
        self.assertEqual(self.live.last_screen("worker1"), "tool: ls\nagent: text")

    def test_slow_viewer(self) -> None:
        """
        A viewer that did not read gets all last messages again, after a message that says so.
        """
        session = self.start(PIPES)
        viewer, watching = self.watch()
        self.wait()
        viewer.paused = True
        session.output(chunk("missed"))
        self.wait()
        viewer.paused = False
        watching.resume()
        self.wait()
        self.assertEqual(viewer.types(), ["screen", "screen", "message"])

    def test_bounded(self) -> None:
        """
        Only the last messages are kept, whatever is said.
        """
        session = self.start(PIPES)
        viewer, _ = self.watch()
        for number in range(3000):
            session.typed(prompt(f"{number} " + "x" * 1000))
        self.wait()
        texts = [message["text"].split()[0] for message in viewer.messages()[1:]]
        self.assertEqual(texts, [*map(str, range(2800, 3000))])
        kept = self.live.last_screen("worker1")
        self.assertIn("2999 ", kept)
        self.assertLess(len(kept), MAX_OUTPUT)


class KeptTests(SynchronousTestCase):
    """
    Tests for what is kept of the output.
    """

    def test_bounded(self) -> None:
        """
        At most `MAX_OUTPUT` bytes are kept: the newest, from the beginning of a line or a
        sequence on, in few pieces.
        """
        for piece in (b"a line\r\n", b"\x1b[31mred", b"x" * 5000 + b"\n", b"0\n"):
            kept = KeptBytes()
            for _ in range(50_000 // len(piece) * 10):
                kept.add("agent", piece)
                self.assertLessEqual(kept.size, MAX_OUTPUT)
            self.assertGreater(kept.size, MAX_OUTPUT * 0.9)
            self.assertLess(len(kept.pieces), 600)
            data = kept.join()
            self.assertTrue(piece.startswith(data[:1]), piece)
            self.assertTrue(data.endswith(piece))

    def test_large_piece(self) -> None:
        """
        Of a piece that is larger than all that is kept, the end is kept.
        """
        kept = KeptBytes()
        kept.add("server", b"x" * MAX_OUTPUT + b"\nend")
        self.assertEqual((kept.size, len(kept.pieces)), (MAX_OUTPUT, 1))
        self.assertEqual(kept.last(), b"\nend")
        self.assertTrue(kept.has_lost)

    def test_what_is_typed(self) -> None:
        """
        What is typed into a terminal is not kept.
        """
        session = TerminalSession(5, 20)
        session.add("server", b"secret")
        self.assertEqual(session.output.join(), b"")

    def test_directions(self) -> None:
        """
        Pieces of frames keep their order and their directions.
        """
        kept = KeptBytes()
        sent: list[tuple[Side, bytes]] = [
            ("agent", b"a"),
            ("agent", b"b"),
            ("server", b"c"),
            ("agent", b"d"),
        ]
        for side, data in sent:
            kept.add(side, data)
        self.assertEqual([*kept.pieces], [("agent", b"ab"), ("server", b"c"), ("agent", b"d")])

    def test_text(self) -> None:
        """
        The text of the screen is plain, and costs the same for any output.
        """
        session = TerminalSession(5, 20)
        session.add("agent", b"\x1b[31m" + b"0123456789\r\n" * 50_000 + "\x1b[1m大".encode())
        began = thread_time()
        self.assertEqual(session.text(), "0123456789\n" * 4 + "大")
        self.assertLess(thread_time() - began, 0.05 * COVERAGE_FACTOR)

    @given(st.text(st.sampled_from("aß大👩")), st.integers(0, 3))
    def test_unfinished_character(self, text: str, cut: int) -> None:
        """
        The beginning of a character is told from a whole one.
        """
        data = text.encode()
        data = data[: len(data) - cut]
        unfinished = unfinished_character(data)
        self.assertEqual(data, data.decode("utf-8", "ignore").encode() + unfinished)

    def test_cost(self) -> None:
        """
        Without viewers a piece of output costs a few microseconds at most, however much is kept.
        """
        live = LiveTerminals(Clock(), str.encode)
        session = live.observe(TERMINAL)
        piece = b"x" * 200
        began = thread_time()
        for _ in range(100_000):
            session.output(piece)
        self.assertLess((thread_time() - began) / 100_000, 5e-6 * COVERAGE_FACTOR)
