"""
Replays captures of whole sessions of a real Amazon Q CLI, where they are at hand.

The captures hold the output alone.  What was typed is read from the echo, and what the server
would have typed there is typed into the conversation.
"""

from __future__ import annotations

import re
from collections import Counter
from itertools import pairwise
from random import Random

from kiroworkers.conversations import (
    AgentFailure,
    Answered,
    Cleared,
    Conversation,
    Event,
    NeedsApproval,
    NeedsConfirmation,
    PromptLost,
    Ready,
    Submitted,
    TextChunk,
    TextDiscarded,
    load_dialect,
    new_conversation,
)
from kiroworkers.errors import AnswerUnreadable, FailureKind
from kiroworkers.tasks.answer import find_answer
from tests.conversations.terminal.test_recordings import FOLDER, RecordingsTestCase

#: Where the recorder typed: behind each prompt, which is written whole.
_PROMPT = re.compile(
    rb"\x1b\[K(?:\x1b\[31m!\x1b\[0m)?\x1b\[(?:35m> \x1b\[0m|38;5;11m> \x1b\[39m)\r\x1b\[[23]C"
)
_ECHO = re.compile(rb"(?:\r\x1b\[K\x1b\[35m> \x1b\[0m([^\r]*)\r\x1b\[\d+C|(y|n))\x1b\[\?2004l")

ANSWER = {
    "title": "Export list",
    "asA": "manager",
    "iWant": "export the list",
    "soThat": "I can share it",
    "storyPoint": 3,
    "components": ["WorkModel"],
    "acceptanceCriteria": ["CSV has a header row", "Rows match the filter"],
}
SCHEMA = {"type": "object", "required": ["title", "acceptanceCriteria"]}


class Replay:
    """
    Feed a capture to a conversation, cut by `random` or into bytes if that is None.
    """

    def __init__(self, data: bytes, random: Random | None, streaming: bool = False) -> None:
        self.conversation: Conversation = new_conversation(load_dialect("q"), 10**6)
        self.conversation.streaming = streaming
        self._random = random
        self.events: list[Event] = []
        ends = [0, *(match.end() for match in _PROMPT.finditer(data)), len(data)]
        for start, end in pairwise(ends):
            echo = _ECHO.search(data, start, end)
            if start and echo is not None:
                self._type((echo[1] or echo[2] or b"").decode())
            for chunk in self._cut(data[start:end]):
                self._add(self.conversation.feed(chunk))
            if self.conversation.quiet_timeout is not None:
                self._add(self.conversation.on_quiet())
            self.sent = self.conversation.data_to_send()

    def _add(self, events: list[Event]) -> None:
        self.events += events

    def _cut(self, data: bytes) -> list[bytes]:
        if self._random is None:
            return [bytes([byte]) for byte in data]
        cuts = self._random.choices(range(len(data) + 1), k=self._random.randrange(6))
        return [data[start:end] for start, end in pairwise([0, *sorted(cuts), len(data)])]

    def _type(self, text: str) -> None:
        match text, self.events[-1:]:
            case "/clear", _:
                self.conversation.clear()
            case "/quit", _:
                pass
            case "y", [NeedsConfirmation()]:
                self.conversation.confirm_clear()
            case "n", [NeedsApproval()]:
                self.conversation.deny()
            case _:
                self.conversation.ask(text)


class QTests(RecordingsTestCase):
    """
    Tests with each capture, as a whole, byte by byte, and cut anywhere.
    """

    def replays(self, name: str, number: int = 8) -> list[Replay]:
        data = (FOLDER / f"q-1.19/{name}.bin").read_bytes()
        randoms = [None, *map(Random, range(number))]
        return [Replay(data, random) for random in randoms]

    def last(self, name: str) -> Event:
        """
        Return the last event of a capture, which is the same however it is cut.
        """
        replays = self.replays(name)
        for replay in replays:
            self.assertEqual(replay.events, replays[0].events, name)
            self.assertEqual(replay.sent, b"", name)
        return replays[0].events[-1]

    def test_session(self) -> None:
        """
        A session with two turns, a clear and a third turn gives their answers.
        """
        for replay in self.replays("1"):
            kinds = [type(event) for event in replay.events]
            turn = [Submitted, Answered]
            clear = [NeedsConfirmation, Cleared]
            self.assertEqual(kinds, [Ready, *turn, *clear, *turn, *turn, PromptLost])
            for event in replay.events:
                if isinstance(event, Answered):
                    answer = find_answer(event.text, SCHEMA, styled=event.styled)
                    self.assertEqual(answer.value, ANSWER)
            [first, *_] = [event for event in replay.events if isinstance(event, Answered)]
            self.assertEqual(first.text.split("\n")[0][:30], "Sure! Here's the story you ask")
            self.assertEqual(first.text.split("\n")[-1], "Let me know if you'd like changes.")

    def test_clears(self) -> None:
        """
        Each of 60 clears is followed, wherever the line editor has cut its question.
        """
        for name in ("clear", "clear_opt"):
            for replay in self.replays(name, 4):
                counts = Counter(type(event) for event in replay.events)
                # The capture ends at the question of the last clear.
                self.assertEqual(counts, {Ready: 1, NeedsConfirmation: 61, Cleared: 60}, name)

    def test_failures(self) -> None:
        """
        Each failure is reported with its kind, also after the beginning of an answer.
        """
        for name, kind, words in [
            ("err-drop", FailureKind.NETWORK, "dispatch failure (io error)"),
            ("err-improper", FailureKind.AGENT_ERROR, "Improperly formed request."),
            ("err-monthly", FailureKind.OUT_OF_CREDITS, "Monthly request limit reached"),
            ("err-overload", FailureKind.MODEL_GONE, "temporarily unavailable"),
            ("err-server500", FailureKind.AGENT_ERROR, "InternalServerException"),
            ("err-toolong", FailureKind.CONTEXT_FULL, "Conversation too short to compact"),
        ]:
            failure = self.last(name)
            assert isinstance(failure, AgentFailure), failure
            self.assertEqual(failure.kind, kind, name)
            self.assertIn(words, failure.detail)

    def test_failed_answer_is_not_streamed(self) -> None:
        """
        Nothing of a failure is streamed.
        """
        data = (FOLDER / "q-1.19/err-drop.bin").read_bytes()
        for random in [None, *map(Random, range(30))]:
            replay = Replay(data, random, streaming=True)
            text = "".join(event.text for event in replay.events if isinstance(event, TextChunk))
            self.assertEqual(text, "json")

    def test_stream(self) -> None:
        """
        The streamed pieces of an answer are its text.
        """
        data = (FOLDER / "q-1.19/1.bin").read_bytes()
        for random in [None, *map(Random, range(10))]:
            text = ""
            for event in Replay(data, random, streaming=True).events:
                match event:
                    case TextChunk(part):
                        text += part
                    case TextDiscarded():
                        text = ""
                    case Answered(answer):
                        self.assertEqual(text, answer)
                        text = ""

    def test_unknown_tool(self) -> None:
        """
        An answer after a tool that does not exist is an answer.
        """
        answered = self.last("err-tool-unknown")
        assert isinstance(answered, Answered), answered
        self.assertEqual(find_answer(answered.text, SCHEMA).value, ANSWER)

    def test_tool(self) -> None:
        """
        A question for a tool has the tool and its command, and after its denial follows an
        answer.
        """
        question = self.last("err-tool-bash")
        assert isinstance(question, NeedsApproval), question
        self.assertEqual(
            question.question.partition(" Use ")[0],
            "execute_bash: touch /tmp/PWNED2; echo hi: Allow this action?",
        )
        self.assertEqual(question.number, "1")
        for replay in self.replays("misc-deny"):
            kinds = [type(event) for event in replay.events]
            self.assertEqual(kinds, [Ready, Submitted, NeedsApproval, Answered])

    def test_interrupts(self) -> None:
        """
        A Ctrl-C leads to another prompt, in an answer, in the spinner, and at the prompt.
        """
        for name, expected in [
            ("misc-ctrlc-idle", [Ready(), PromptLost(), Ready(), PromptLost()]),
            ("misc-eof-idle", [Ready(), PromptLost(), Ready(), PromptLost()]),
            ("misc-enter", [Ready(), PromptLost(), Ready()]),
            ("misc-trustall", [Ready()]),
        ]:
            for replay in self.replays(name):
                self.assertEqual(replay.events, expected, name)
        for name in ("misc-ctrlc-busy", "misc-ctrlc-spinner"):
            data = (FOLDER / f"q-1.19/{name}.bin").read_bytes()
            at = data.index(b"^C")
            replay = Replay(data[:at], Random(1))
            self.assertEqual(replay.conversation.interrupt(), b"\x03")
            self.assertEqual(replay.conversation.feed(data[at:]), [Ready()], name)

    def test_odd_fence(self) -> None:
        """
        A prompt with an odd fence is refused, because Enter would not submit it; that Enter is
        not taken for a lost one.
        """
        data = (FOLDER / "q-1.19/misc-oddfence.bin").read_bytes()
        for replay in self.replays("misc-oddfence"):
            self.assertEqual(replay.events, [Ready()])
        conversation = new_conversation(load_dialect("q"), 10**6)
        end = data.index(b"> \x1b[0m\r\x1b[2C") + len(b"> \x1b[0m\r\x1b[2C")
        conversation.feed(data[:end])
        conversation.ask("``` x ```")
        conversation.feed(data[end:])
        self.assertIs(conversation.quiet_timeout, None)

    def test_unfenced(self) -> None:
        """
        JSON outside of a fence in which the renderer found nothing to change is read.
        """
        for replay in self.replays("hist", 4):
            answers = [event for event in replay.events if isinstance(event, Answered)]
            self.assertEqual(len(answers), 2)
            for answered in answers:
                self.assertEqual(
                    find_answer(answered.text, SCHEMA, styled=answered.styled).value, ANSWER
                )

    def test_rendered(self) -> None:
        """
        JSON in which the renderer has changed something is unreadable.
        """
        data = (FOLDER / "q-1.19/hist.bin").read_bytes()
        data = data.replace(b"export the list", b"export \x1b[1mthe\x1b[22m list")
        for random in [None, *map(Random, range(10))]:
            for event in Replay(data, random).events:
                if isinstance(event, Answered):
                    with self.assertRaises(AnswerUnreadable):
                        find_answer(event.text, SCHEMA, styled=event.styled)
