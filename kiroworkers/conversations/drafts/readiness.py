"""
Find how a program showed that it waited, in each form that a dialect has for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from kiroworkers.conversations.drafts.observations import PASTE_OFF, PASTE_ON, Frame, Input
from kiroworkers.conversations.drafts.patterns import (
    drawn_pattern_for,
    escaped,
    pattern_for,
)
from kiroworkers.conversations.drafts.session import Session
from kiroworkers.conversations.drafts.toml import GUESS, Table
from kiroworkers.conversations.terminal.patience import ends_with

#: The rows at the bottom in which status markers are looked for.
_STATUS_ROWS = 4

#: Sequences by which programs draw on the whole screen.
_DRAWS = re.compile(rb"\x1b\[(?:[0-9]*A|[0-9]+;[0-9]+H|\?2026h|\?1049h)")

#: What a row may begin with: a spinner, a bullet, a frame.
_GLYPH = re.compile(r"^[^\w\s]\s+")

#: How many different titles or states a pattern names.
_MAX_ALTERNATIVES = 16

_QUIET = 0.2
_MIN_COMMON = 3


def draws_screen(session: Session) -> bool:
    """
    Return whether the program moved the cursor to other rows in every turn.
    """
    turns = [item.after for item in session.questions]
    return bool(turns) and all(map(_DRAWS.search, turns))


def reported_status(session: Session) -> list[Table]:
    """
    Return the tables for a program that reports its status in its title or by OSC 7501.

    Empty if it does not.
    """
    idle, busy = Table("[signs.idle]"), Table("[signs.busy]")
    busy_patterns: list[tuple[int, str]] = []
    questions = session.answered
    for key, name, position in (("state", "state by OSC 7501", 1), ("title", "window title", 0)):
        seen = [(item.seen.title, item.seen.state)[position] for item in questions]
        meanwhile = [
            [text for sign in item.signs if (text := sign[position]) and text not in seen]
            for item in questions
        ]
        if not all(seen) or not seen or not all(meanwhile):
            continue
        texts = sorted({text for turn in meanwhile for text in turn})
        idle_pattern, busy_pattern = _telling(seen, texts), _telling(texts, seen)
        if not idle_pattern or not busy_pattern:
            continue
        comment = f"{GUESS}the {name} each time before something was typed."
        idle.add(key, idle_pattern, comment)
        busy.add(key, busy_pattern, f"The {name} during turns: {_quoted(texts)}.")
        busy_patterns.append((position, busy_pattern))
    if not busy_patterns:
        return []
    hint = _row_of_cursor(questions)
    if hint:
        idle.add("screen", hint, "The row of the cursor each time before something was typed.")

    def is_busy(frame: Frame) -> bool:
        texts = (frame.title, frame.state)
        return any(re.search(pattern, texts[position]) for position, pattern in busy_patterns)

    return [_signs(session, is_busy), idle, busy]


def _telling(texts: Sequence[str], others: Sequence[str]) -> str:
    """
    Return a pattern that matches all of `texts` and none of `others`; empty if there is none.
    """
    different = sorted(set(texts))[:_MAX_ALTERNATIVES]
    patterns = [f"^{pattern_for(texts)}", f"^(?:{'|'.join(map(escaped, different))})$"]
    if len({_GLYPH.sub("", text) for text in texts}) == 1:
        # Only a spinner changes.
        rest = escaped(_GLYPH.sub("", texts[0]))
        patterns.insert(0, rf"^[^\w\s]+ +{rest}$" if all(map(_GLYPH.match, texts)) else f"^{rest}$")
    for pattern in patterns:
        matching = all(re.search(pattern, text) for text in texts)
        if matching and pattern != "^" and not any(re.search(pattern, text) for text in others):
            return pattern
    return ""


def screen_status(session: Session) -> list[Table]:
    """
    Return the tables for a program that shows its status in the last rows of the screen.

    Empty if it does not.
    """
    questions = session.answered
    rows = _idle_rows(questions)
    for row in rows:
        busy_frames = [
            [frame for frame in item.frames if row not in _last_rows(frame)] for item in questions
        ]
        if not all(busy_frames):
            continue
        waiting = {text for item in session.prompted for text in _last_rows(item.seen)}
        busy_row, depth = _busy_row(busy_frames, waiting)
        if not busy_row:
            continue
        depth = max(depth, *(_depth(row, item.seen) for item in questions))
        idle, busy = Table("[signs.idle]"), Table("[signs.busy]")
        idle.add(
            "screen",
            f"(?m)^{escaped(row)}",
            "One of the last rows each time before something was typed; not there during a turn.",
        )
        busy.add("screen", f"(?m){busy_row}", f"{GUESS}one of the last rows during each turn.")

        def is_busy(frame: Frame, busy_row: str = busy_row) -> bool:
            return any(re.search(busy_row, text) for text in _last_rows(frame))

        return [_signs(session, is_busy, depth), idle, busy]
    return []


def _signs(session: Session, is_busy: Callable[[Frame], bool], depth: int = 1) -> Table:
    signs = Table("[signs]")
    signs.add(
        "quiet",
        _QUIET,
        f"{GUESS}twice the longest pause between the idle marker and the last output of a turn.",
    )
    rows = max(len(_below_cursor(item.seen)) for item in session.questions)
    comment = "The rows, from the bottom, that hold the cursor and the markers."
    signs.add("rows", max(rows, depth), comment)
    pattern, comment = _output_row(session.answered, is_busy)
    signs.add("output", pattern, comment)
    signs.add("wraps", True, f"{GUESS}true if the program itself wraps long lines.")
    return signs


def bracketed_prompt(session: Session) -> list[Table]:
    """
    Return the table for a program whose line editor brackets what it reads; empty otherwise.
    """
    prompted, confirmations = session.prompted, [*session.confirmations.values()]
    if not all(PASTE_ON in item.before for item in [*prompted, *confirmations]):
        return []
    if not all(PASTE_OFF in item.after for item in session.questions):
        return []
    patterns = [_drawn_pattern(items) for items in (prompted, confirmations) if items]
    if not all(patterns):
        return []
    pattern = "|".join(sorted(set(patterns)))
    table = Table("[prompt]")
    count = len(session.questions)
    table.add(
        "open",
        PASTE_ON,
        f"Printed before each of the {len(prompted)} lines was typed, and the next mark after "
        f"each of the {count} questions.",
    )
    table.add("ready", pattern, f"{GUESS}the prompt as it was printed after the mark.")
    table.add("close", PASTE_OFF)
    return [table]


def _drawn_pattern(items: Sequence[Input]) -> str:
    """
    Return a pattern for the prompt that was drawn before each of `items`.
    """
    drawn = [item.before.rpartition(PASTE_ON)[2] for item in items]
    return drawn_pattern_for([item.seen.before_cursor for item in items], drawn)


def line_prompt(session: Session) -> list[Table]:
    """
    Return the table for a program that only prints a prompt; empty if it printed none.
    """
    if not session.prompt:
        return []
    table = Table("[line]")
    prompted = session.prompted
    seen = [item for item in prompted if session.at_prompt(item.seen.before_cursor)]
    asked = {
        text.rstrip()
        for item in session.confirmations.values()
        if not session.at_prompt(text := item.seen.before_cursor)
    }
    table.add(
        "prompt",
        "|".join([session.prompt, *(f"{escaped(text)} ?$" for text in sorted(asked))]),
        f"What was before the cursor when {len(seen)} of {len(prompted)} lines were typed: "
        f"{_quoted(sorted({item.seen.before_cursor for item in seen}))}.",
    )
    pause = _longest_pause(session)
    shortest = min((item.pause for item in prompted[1:]), default=1.0)
    quiet = round(max(_QUIET, min(2 * pause, 0.8 * shortest)), 2)
    table.add(
        "quiet",
        quiet,
        f"{GUESS}twice the longest pause in a turn while the prompt was shown, which was "
        f"{pause:.2f} s, but at least {_QUIET}.",
    )
    return [table]


def _longest_pause(session: Session) -> float:
    """
    Return the longest pause, in a turn, after something that looked like the prompt.
    """
    pauses = [0.0]
    for item in session.questions:
        for frame, following in zip(item.frames, item.frames[1:], strict=False):
            if session.at_prompt(frame.before_cursor):
                pauses.append(following.seconds - frame.seconds)
    return max(pauses)


def _row_of_cursor(questions: Sequence[Input]) -> str:
    """
    Return a pattern for the row of an empty input field, if it always showed the same hint.
    """
    rows = {item.seen.rows[item.seen.cursor_row] for item in questions}
    row = rows.pop()
    return f"(?m)^{escaped(row)}$" if not rows and sum(map(str.isalpha, row)) > 4 else ""


def _below_cursor(frame: Frame) -> list[str]:
    return [row for row in frame.rows[frame.cursor_row :] if row]


def _last_rows(frame: Frame) -> list[str]:
    return [row for row in frame.rows if row][-_STATUS_ROWS:]


def _idle_rows(questions: Sequence[Input]) -> list[str]:
    """
    Return the rows near the bottom that were the same each time, the last one first.
    """
    if not questions:
        return []
    common = set.intersection(*(set(_last_rows(item.seen)) for item in questions))
    rows = reversed(_last_rows(questions[0].seen))
    return [row for row in rows if row in common and any(map(str.isalpha, row))]


def _busy_row(turns: Sequence[Sequence[Frame]], waiting: set[str]) -> tuple[str, int]:
    """
    Return a pattern for a row that every turn showed, and that was never there while it waited.

    Return also the number of last rows to search for it.  The pattern is empty if there is none.
    """
    for depth in range(1, _STATUS_ROWS + 1):
        shown = [
            {row for frame in frames for row in _last_rows(frame)[-depth:] if row not in waiting}
            for frames in turns
        ]
        for row in sorted(shown[0], key=len, reverse=True):
            core = _core(row)
            pattern = rf"^\W*{escaped(core)}"
            everywhere = all(any(re.search(pattern, other) for other in rows) for rows in shown)
            if len(core) >= _MIN_COMMON and everywhere:
                return pattern, depth
    return "", 0


def _depth(row: str, frame: Frame) -> int:
    rows = _last_rows(frame)
    return len(rows) - rows.index(row)


def _core(row: str) -> str:
    """
    Return the words of a row, up to its first number, without a spinner or bullet.
    """
    return re.split("[0-9(]", _GLYPH.sub("", row.strip()))[0].strip()


def _output_row(questions: Sequence[Input], is_busy: Callable[[Frame], bool]) -> tuple[str, str]:
    """
    Return a pattern for the first row below the echo in a turn, and where it comes from.
    """
    rows = [row for item in questions if (row := _first_row_below_echo(item, is_busy))]
    comment = f"{GUESS}the first row below the echo during turns: {_quoted(sorted(set(rows)))}."
    if not rows:
        return r"^\S", f"{GUESS}the first row of a turn's output was not found in the recording."
    core = pattern_for([_core(row) for row in rows])
    if len(core) >= _MIN_COMMON and all(map(_GLYPH.match, rows)):
        # A spinner changes.
        return rf"^\S+ +{core}", comment
    prefix = pattern_for(rows)
    return (f"^{prefix}" if prefix.strip() else r"^\S"), comment


def _first_row_below_echo(item: Input, is_busy: Callable[[Frame], bool]) -> str:
    for frame in filter(is_busy, item.frames):
        last = frame.cursor_row if frame.cursor_row else len(frame.rows)
        echo = [index for index, row in enumerate(frame.rows) if ends_with(row, item.line.text)]
        below = frame.rows[echo[-1] + 1 : last] if echo else ()
        row = next(filter(None, below), "")
        if row:
            return row
    return ""


def _quoted(texts: Sequence[str]) -> str:
    shown = ", ".join(ascii_quoted(text) for text in texts[:4])
    return shown + (", …" if len(texts) > 4 else "")


def ascii_quoted(text: str) -> str:
    """
    Return `text` in quotes, shortened, with what cannot be printed as escapes.
    """
    short = text if len(text) <= 60 else f"{text[:60]}…"
    return '"' + "".join(c if c.isprintable() else ascii(c)[1:-1] for c in short) + '"'
