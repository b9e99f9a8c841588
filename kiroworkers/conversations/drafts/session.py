"""
Sort the lines that were typed in a recording by their purpose.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from attrs import field, frozen

from kiroworkers.conversations.drafts.observations import Input
from kiroworkers.conversations.drafts.patterns import whole_pattern_for

_NUMBER = re.compile(r"[0-9]+")

#: Commands that clear a conversation, and that end a program.
_CLEAR = re.compile(r"[/:.!%\\]?(?:clear|new|reset|forget|restart)(?:[-_ ]?\w{1,12})?")
_QUIT = re.compile(r"[/:.!%\\]?(?:quit|exit|bye|q|close|stop|logout)(?:\(\))?")
#: The beginnings of other commands of an agent.
_COMMAND = re.compile(r"[/!@:%]")
_ESCAPE = b"\x1b"
_YES = re.compile(r"y(?:es)?", re.IGNORECASE)
_NO = re.compile(r"n(?:o)?", re.IGNORECASE)


@frozen
class Session:
    """
    Hold the lines of a recording, sorted by their purpose.

    Attributes:
        prompt: The pattern for the text before the cursor when most lines were typed; empty if
            there is none.
        questions: What was asked.
        clears: Commands that clear the conversation.
        confirmations: Answers to the question whether to clear, by the index of the clear.
        menus: Keys at menus before the first prompt.
        refused: Answers that deny something that the program asked in a turn.
        interrupts: Keys that stopped a turn.
        quit: What ended the program.
        interrupted: The indexes, in `questions`, of those whose turn was stopped.
    """

    prompt: str
    questions: list[Input] = field(factory=list)
    clears: list[Input] = field(factory=list)
    confirmations: dict[int, Input] = field(factory=dict)
    menus: list[Input] = field(factory=list)
    refused: list[Input] = field(factory=list)
    interrupts: list[Input] = field(factory=list)
    quit: list[Input] = field(factory=list)
    interrupted: set[int] = field(factory=set)

    def at_prompt(self, text: str) -> bool:
        """
        Return whether `text`, which is before the cursor, is the prompt.
        """
        return matches(self.prompt, text)

    @property
    def answered(self) -> list[Input]:
        """
        Return the questions whose turn was not stopped.
        """
        return [
            question
            for index, question in enumerate(self.questions)
            if index not in self.interrupted
        ]

    @property
    def prompted(self) -> list[Input]:
        """
        Return the lines that were typed at the prompt.
        """
        return [*self.questions, *self.clears, *(item for item in self.quit if item.line.text)]


def matches(pattern: str, text: str) -> bool:
    """
    Return whether `text` matches `pattern`, without regard to blanks at its end.
    """
    stripped = text.rstrip()
    variants = (text, stripped, f"{stripped} ")
    return bool(pattern and stripped) and any(re.search(pattern, text) for text in variants)


def sort_inputs(inputs: Sequence[Input]) -> Session:
    """
    Return the lines that were typed, sorted by their purpose.
    """
    session = Session(_find_prompt(inputs))
    clearing = False
    for number, item in enumerate(inputs):
        text = item.line.text.strip()
        ready = session.at_prompt(item.seen.before_cursor) or not session.prompt
        was_clearing, clearing = clearing, False
        is_last = number == len(inputs) - 1
        if item.line.end == "dropped":
            previous = inputs[number - 1] if number else None
            asked = bool(session.questions) and previous is session.questions[-1]
            if asked and (item.line.data == _ESCAPE or not _back_at_prompt(session, previous)):
                session.interrupts.append(item)
                session.interrupted.add(len(session.questions) - 1)
        elif item.line.end == "end of input":
            if is_last:
                session.quit.append(item)
        elif item.line.end == "unfinished" and not session.questions:
            session.menus.append(item)
        elif item.line.end == "unfinished":
            session.refused.append(item)
        elif was_clearing and _YES.fullmatch(text):
            session.confirmations[len(session.clears) - 1] = item
        elif not session.questions and (not text or not ready):
            # Other text was typed before the program read it.
            if len(text) <= 1 or _YES.fullmatch(text) or _NO.fullmatch(text):
                session.menus.append(item)
        elif not ready or _NO.fullmatch(text) or _YES.fullmatch(text):
            if _NO.fullmatch(text) and session.questions:
                session.refused.append(item)
        elif _CLEAR.fullmatch(text):
            session.clears.append(item)
            clearing = True
        elif _QUIT.fullmatch(text) or (is_last and _ends_program(session, item)):
            session.quit.append(item)
        elif text and not _COMMAND.match(text):
            session.questions.append(item)
    return session


def _find_prompt(inputs: Sequence[Input]) -> str:
    texts = [item.seen.before_cursor for item in inputs if item.line.text.strip()]
    shapes = Counter(_NUMBER.sub("0", text.rstrip()) for text in texts)
    shapes.pop("", None)
    if not shapes:
        return ""
    shape, count = shapes.most_common(1)[0]
    if count < 2 and len(shapes) > 1:
        return whole_pattern_for([text.rstrip() + " " for text in texts if text.strip()])
    same = [text for text in texts if _NUMBER.sub("0", text.rstrip()) == shape]
    # Some programs print no blank at the end, but move the cursor.
    longest = max(map(len, same))
    return whole_pattern_for([text if len(text) == longest else f"{text} " for text in same])


def _back_at_prompt(session: Session, item: Input | None) -> bool:
    """
    Return whether the prompt had come back after `item`.
    """
    if item is None or not session.prompt or not item.frames:
        return False
    return session.at_prompt(item.frames[-1].before_cursor)


def _ends_program(session: Session, item: Input) -> bool:
    text = item.line.text.strip()
    return bool(text) and " " not in text and not _back_at_prompt(session, item)
