"""
Find the events of a recorded session, as a server would have seen them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from itertools import chain

from kiroworkers.conversations import (
    Conversation,
    Dialect,
    Event,
    LineTooLong,
    UnsafePrompt,
    new_conversation,
)
from kiroworkers.conversations.terminal.recording import Chunk
from kiroworkers.conversations.terminal.typed_lines import TypedLine, typed_lines

#: The maximum output of a turn, in bytes: the server's default of --max-output.
_MAX_OUTPUT = 8 * 1024**2


def events_in(dialect: Dialect, chunks: Sequence[Chunk]) -> Iterator[tuple[float, Event]]:
    """
    Yield the events that `dialect` finds in a recording, each with its time in seconds.

    A line that was typed at the prompt counts as a request.

    Args:
        dialect: The dialect of the program that was recorded.
        chunks: The recording: what the program printed and what was typed.
    """
    conversation = new_conversation(dialect, _MAX_OUTPUT)
    lines = list(typed_lines(chunks, dialect.keys.submit))
    silent_from: float | None = None
    for index, chunk in enumerate(chain(chunks, (None,))):
        # Silence between two chunks, or after the last.
        while silent_from is not None and (quiet_timeout := conversation.quiet_timeout) is not None:
            silent_from += quiet_timeout
            if chunk is not None and chunk.seconds < silent_from:
                break
            for event in conversation.on_quiet():
                yield silent_from, event
        if chunk is None:
            return
        if chunk.direction == "o":
            silent_from = chunk.seconds
            for event in conversation.feed(chunk.data):
                yield chunk.seconds, event
            continue
        # A prompt vanishes at the first key, so what is typed must be known by then.
        while lines and lines[0].first <= index:
            if _replay(conversation, dialect, lines[0]) or lines[0].last <= index:
                del lines[0]
            else:
                break


def _replay(conversation: Conversation, dialect: Dialect, line: TypedLine) -> bool:
    """
    Call the method of `conversation` that makes the server type `line`.

    Return False if no method does, or if it is too early.
    """
    keys, clear, approval = dialect.keys, dialect.clear, dialect.approval
    submitted = conversation.at_prompt and line.end == "submitted"
    if clear is not None and submitted and line.text == _text_of(clear.type):
        conversation.clear()
    elif clear is not None and submitted and line.data == clear.confirm:
        conversation.confirm_clear()
    elif approval is not None and line.data in {menu.keys for menu in approval.deny_menus}:
        conversation.deny()
    elif approval is not None and line.data in {menu.keys for menu in approval.allow_menus}:
        conversation.allow()
    elif submitted:
        # A person may also have typed a command of the agent, which the conversation refuses.
        with suppress(UnsafePrompt, LineTooLong):
            conversation.ask(line.text)
    elif line.data == keys.interrupt and not conversation.at_prompt:
        conversation.interrupt()
    else:
        return False
    return True


def _text_of(keys: bytes) -> str:
    """
    Return the text of the line that `keys` type.
    """
    return "".join(line.text for line in typed_lines([Chunk(0.0, "i", keys)]))
