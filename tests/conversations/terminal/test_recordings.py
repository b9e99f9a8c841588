"""
Replays captures of real sessions, where they are at hand.

They lie in the folder `shared/recordings` beside the checkout, or in the one
that the variable KIROWORKERS_RECORDINGS names, and are not part of the project.
"""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path
from random import Random

from attrs import evolve
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kiroworkers.conversations import (
    Answered,
    Conversation,
    Event,
    NeedsApproval,
    NeedsChoice,
    PromptLost,
    Ready,
    Submitted,
    load_dialect,
    new_conversation,
)
from kiroworkers.conversations.dialects.dialect import Screen

_DEFAULT_FOLDER = Path(__file__).parents[4] / "shared" / "recordings"
FOLDER = Path(os.environ.get("KIROWORKERS_RECORDINGS", str(_DEFAULT_FOLDER)))

#: A line that the probe's editor read, between two prompts.
ONE_LINE: list[Event] = [Ready(), PromptLost(), Ready()]
EXPECTED: dict[str, list[Event]] = {
    "classic/approval-pending.bin": [Ready()],
    "classic/kiro-2.10.0-hooks-line.bin": [],
    "classic/kiro-2.11.0-one-shot.bin": [],
    "classic/kiro-2.21.2-one-shot-stdout.bin": [],
    "line-editor/backslash_continuation.bin": ONE_LINE,
    "line-editor/bracketed_paste_and_CR_same_write.bin": ONE_LINE,
    "line-editor/bracketed_paste_multiline_CR.bin": ONE_LINE,
    "line-editor/bracketed_paste_one_line_CR.bin": ONE_LINE,
    "line-editor/ctrl_c_at_prompt_twice.bin": [*ONE_LINE, PromptLost(), Ready()],
    "line-editor/ctrl_j_newline.bin": ONE_LINE,
    "line-editor/ctrl_u_clears.bin": ONE_LINE,
    "line-editor/idle_with_hint_then_type_hello_CR.bin": ONE_LINE,
    "line-editor/odd_fence_not_submitted.bin": ONE_LINE,
    "line-editor/term_dumb.bin": [],
}


class RecordingsTestCase(SynchronousTestCase):
    """
    Skip the tests if there are no recordings.
    """

    def setUp(self) -> None:
        if not FOLDER.is_dir():
            raise SkipTest(f"there are no recordings in {FOLDER}")


class ReplayTests(RecordingsTestCase):
    """
    Tests with recordings of the classic interface and its line editor.
    """

    def test_events(self) -> None:
        """
        Each recording gives its events, whether it is read as a whole, byte by byte, or in
        any chunks.
        """
        random = Random(1)
        kiro = load_dialect("kiro-classic")
        for name, expected in EXPECTED.items():
            data = (FOLDER / name).read_bytes()
            self.assertEqual(new_conversation(kiro, 10**6).feed(data), expected, name)
            conversation = new_conversation(kiro, 10**6)
            by_byte = [event for byte in data for event in conversation.feed(bytes([byte]))]
            self.assertEqual(by_byte, expected, name)
            for _ in range(50):
                cuts = sorted(random.choices(range(len(data) + 1), k=random.randrange(20)))
                conversation = new_conversation(kiro, 10**6)
                chunks = [data[a:b] for a, b in pairwise([0, *cuts, len(data)])]
                cut = [event for chunk in chunks for event in conversation.feed(chunk)]
                self.assertEqual(cut, expected, (name, cuts))

    def test_recent_output(self) -> None:
        """
        The text of a recording is what a person saw.
        """
        kiro = load_dialect("kiro-classic")
        for name, seen in [
            ("classic/kiro-2.11.0-one-shot.bin", "> pong\n\n ▸ Credits: 0.05 • Time: 1s"),
            ("classic/kiro-2.21.2-one-shot-stdout.bin", "> Red\nBlue\nYellow"),
        ]:
            conversation = new_conversation(kiro, 10**6)
            conversation.feed((FOLDER / name).read_bytes())
            self.assertEqual(conversation.recent_output, seen)

    def test_panes(self) -> None:
        """
        On screens of the classic interface, the start menu asks for the key that fits its
        cursor, a missing login is recognized, and text that only looks like a prompt is not
        one.
        """
        down, enter = b"\x1b[B", b"\r"
        for name, keys in [
            ("kiro-2.28.0-classic-nudge__80-cursor-switch", [down]),
            ("kiro-2.28.0-classic-nudge__120-cursor-remind", [enter]),
            ("kiro-2.27.0-legacy-deprecation-ready.logo-trimmed", []),
            ("kiro-reply-guard__legacy-idle", []),
            ("kiro-reply-guard__legacy-busy", []),
            ("kiro-stale-spinner-idle", []),
            ("amazonq-first-message", []),
        ]:
            conversation, events = self.seen(name)
            choices = [event.keys for event in events if isinstance(event, NeedsChoice)]
            self.assertEqual((choices, len(events)), (keys, len(keys)), name)
            self.assertFalse(conversation.at_prompt)
        conversation, _ = self.seen("kiro-auth-no-token")
        failure = conversation.failure
        assert failure is not None, "it says so"
        self.assertEqual(failure.kind, "login_required")

    def seen(self, name: str) -> tuple[Conversation, list[Event]]:
        text = (FOLDER / f"panes/{name}.pane.txt").read_text()
        conversation = new_conversation(load_dialect("kiro-classic"), 10**6)
        return conversation, conversation.feed(text.replace("\n", "\r\n").encode())


class TuiTests(RecordingsTestCase):
    """
    Tests with recordings of the full-screen interface.

    The recordings have no times, so each test says where there was silence.
    """

    def conversation(self, rows: int, columns: int) -> Conversation:
        dialect = evolve(load_dialect("kiro-tui"), screen=Screen(rows, columns))
        return new_conversation(dialect, 10**6)

    def cut(self, data: bytes, random: Random | None) -> list[bytes]:
        """
        Cut `data` into single bytes, or into random chunks.
        """
        if random is None:
            return [bytes([byte]) for byte in data]
        cuts = sorted(random.choices(range(len(data) + 1), k=random.randrange(20)))
        return [data[a:b] for a, b in pairwise([0, *cuts, len(data)])]

    def follow(self, conversation: Conversation, data: bytes, random: Random | None) -> list[Event]:
        events = [event for chunk in self.cut(data, random) for event in conversation.feed(chunk)]
        return events + conversation.on_quiet()

    def test_turn(self) -> None:
        """
        A session of 2.0.1 asks for consent, is ready, takes a question and answers it; then
        somebody types.
        """
        frames = self.frames((FOLDER / "tui/kiro-2.0.1-turn.raw").read_bytes())
        for random in [None, *map(Random, range(10))]:
            conversation = self.conversation(28, 106)
            self.assertEqual(
                self.follow(conversation, b"".join(frames[:9]), random),
                [
                    NeedsChoice("❯ No, exit", b"\x1b[B"),
                    NeedsChoice("❯ Yes, I accept", b"\r"),
                    Ready(),
                ],
            )
            conversation.ask("hello, what is 2+2?")
            submitted, answered = self.follow(conversation, b"".join(frames[9:37]), random)
            self.assertEqual(submitted, Submitted())
            assert isinstance(answered, Answered), answered
            self.assertEqual(answered.text.split("\n")[0], "  Hey! 2+2 = 4.")
            self.assertEqual(answered.completion, "idle-sign")
            self.assertEqual(
                self.follow(conversation, b"".join(frames[37:]), random), [PromptLost()]
            )

    def test_approval(self) -> None:
        """
        A session that asks for a tool stops at a menu with its cursor on yes, and is not
        idle.
        """
        data = (FOLDER / "tui/kiro-2.x-approval.raw").read_bytes()
        # It was recorded without the terminal's output post-processing.
        frames = self.frames(re.sub(rb"(?<!\r)\n", b"\r\n", data))
        for random in [None, *map(Random, range(5))]:
            conversation = self.conversation(53, 202)
            events = self.follow(conversation, b"".join(frames[:10]), random)
            self.assertEqual(events, [Ready()])
            conversation.ask("remove it")
            events = self.follow(conversation, b"".join(frames[10:]), random)
            self.assertEqual(events, [Submitted(), NeedsApproval("shell requires approval")])
            self.assertFalse(conversation.at_prompt)
            self.assertEqual(conversation.deny(), b"\x1b[B")

    def frames(self, data: bytes) -> list[bytes]:
        return re.split(rb"(?<=\x1b\[\?2026l)", data)

    def test_panes(self) -> None:
        """
        The screens of 2.27 show the markers, too.
        """
        for name, expected in [("tui-idle", [Ready()]), ("tui-busy", [])]:
            text = (FOLDER / f"panes/kiro-reply-guard__{name}.pane.txt").read_text()
            conversation = self.conversation(40, 130)
            conversation.feed(text.replace("\n", "\r\n").encode())
            self.assertEqual(conversation.on_quiet(), expected, name)
