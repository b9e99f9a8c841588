"""
Replays captures of real sessions, where they are at hand.

They lie in the folder `shared/recordings` beside the checkout, or in the one
that the variable KIROWORKERS_RECORDINGS names, and are not part of the project.
"""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path
from random import Random

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kiroworkers.terminal import Event, Ready, Strayed, load_dialect, new_conversation

_BESIDE = Path(__file__).parents[3] / "shared" / "recordings"
FOLDER = Path(os.environ.get("KIROWORKERS_RECORDINGS", str(_BESIDE)))

#: A line that the probe's editor read, between two prompts.
ONE_LINE: list[Event] = [Ready(), Strayed(), Ready()]
EXPECTED: dict[str, list[Event]] = {
    "classic/approval-pending.bin": [Ready()],
    "classic/kiro-2.10.0-hooks-line.bin": [],
    "classic/kiro-2.11.0-one-shot.bin": [],
    "classic/kiro-2.21.2-one-shot-stdout.bin": [],
    "line-editor/backslash_continuation.bin": ONE_LINE,
    "line-editor/bracketed_paste_and_CR_same_write.bin": ONE_LINE,
    "line-editor/bracketed_paste_multiline_CR.bin": ONE_LINE,
    "line-editor/bracketed_paste_one_line_CR.bin": ONE_LINE,
    "line-editor/ctrl_c_at_prompt_twice.bin": [*ONE_LINE, Strayed(), Ready()],
    "line-editor/ctrl_j_newline.bin": ONE_LINE,
    "line-editor/ctrl_u_clears.bin": ONE_LINE,
    "line-editor/idle_with_hint_then_type_hello_CR.bin": ONE_LINE,
    "line-editor/odd_fence_not_submitted.bin": ONE_LINE,
    "line-editor/term_dumb.bin": [],
}


class ReplayTests(SynchronousTestCase):
    """
    The classic interface and its line editor, as they were captured.
    """

    def setUp(self) -> None:
        if not FOLDER.is_dir():
            raise SkipTest(f"there are no recordings in {FOLDER}")

    def test_events(self) -> None:
        """
        Each recording gives its events, whole, byte by byte, and however it is
        cut.
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
                pieces = [data[a:b] for a, b in pairwise([0, *cuts, len(data)])]
                cut = [event for piece in pieces for event in conversation.feed(piece)]
                self.assertEqual(cut, expected, (name, cuts))

    def test_last_seen(self) -> None:
        """
        The text of a recording is what a reader saw.
        """
        kiro = load_dialect("kiro-classic")
        for name, seen in [
            ("classic/kiro-2.11.0-one-shot.bin", "> pong\n\n ▸ Credits: 0.05 • Time: 1s"),
            ("classic/kiro-2.21.2-one-shot-stdout.bin", "> Red\nBlue\nYellow"),
        ]:
            conversation = new_conversation(kiro, 10**6)
            conversation.feed((FOLDER / name).read_bytes())
            self.assertEqual(conversation.last_seen, seen)
