"""
Draft a dialect from a recording, and check the draft with that recording.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import PurePosixPath

from attrs import frozen

from kiroworkers.conversations.dialects.dialect import Dialect, Window
from kiroworkers.conversations.dialects.dialect_file import BadDialect, parse_dialect
from kiroworkers.conversations.drafts.observations import PASTE_OFF, PASTE_ON, Input, observe
from kiroworkers.conversations.drafts.patterns import escaped
from kiroworkers.conversations.drafts.readiness import (
    ascii_quoted,
    bracketed_prompt,
    draws_screen,
    line_prompt,
    reported_status,
    screen_status,
)
from kiroworkers.conversations.drafts.session import Session, sort_inputs
from kiroworkers.conversations.drafts.toml import GUESS, Table
from kiroworkers.conversations.events import Answered, Cleared, NeedsConfirmation, NotCleared, Ready
from kiroworkers.conversations.terminal.recording import Chunk
from kiroworkers.conversations.terminal.replay import events_in
from kiroworkers.conversations.transcript import plain_text

_QUERY_CURSOR = b"\x1b[6n"
_INTERRUPT = b"\x03"
_PASTE_MARKS = (b"\x1b[200~", b"\x1b[201~")

#: What a program may say after it has cleared the conversation.
_CLEARED = re.compile(r"clear|forg[eo]t|erase|reset|fresh|new (?:chat|conv|sess)", re.IGNORECASE)

_INTERPRETER = re.compile(r"python[0-9.]*|node|ruby|deno|bun")

#: The characters before the item of a menu that the cursor is on.
_MENU_CURSOR = re.compile(r"\s*[❯›>▸▶→●◉*»]\s*\S")
#: A mark or a name at the beginning of an answer.
_PREFIX = re.compile(r"(?:[^\w\s`{\[\"'(#<-]|[A-Z][\w-]{0,20}:)\s+")


class CannotDraft(ValueError):
    """
    Raised when a recording does not show enough to draft a dialect; the message says what.
    """


@frozen
class Draft:
    """
    Hold a drafted dialect.

    Attributes:
        text: The text of the file.
        dialect: The dialect in it.
        questions: The number of questions in the recording whose turn was not stopped.
        answers: The number of answers that the dialect finds in the recording.
    """

    text: str
    dialect: Dialect
    questions: int
    answers: int


def draft_dialect(chunks: Sequence[Chunk], window: Window, command: str) -> Draft:
    """
    Return a dialect for the program that was recorded.

    Each way to recognize the prompt that the recording shows is tried on the recording.  The first
    with which all turns are found is taken, otherwise the one with which most are.

    Args:
        chunks: The recording.
        window: The rows and columns of the terminal.
        command: The command that was recorded; empty if it is unknown.

    Raises:
        CannotDraft: If the recording does not show how the program waits.
    """
    session = sort_inputs(observe(chunks, window))
    if not session.questions:
        raise CannotDraft("no question was typed at the program's prompt: type at least two")
    best: tuple[int, Draft] | None = None
    for readiness in _candidates(session):
        text = "\n\n".join(map(str, _tables(session, readiness, window, command))) + "\n"
        try:
            dialect = parse_dialect(text)
        except BadDialect as error:
            raise AssertionError(f"the draft is not valid: {error}\n{text}") from error
        missed, answers = _try(dialect, chunks, session)
        if best is None or missed < best[0]:
            best = missed, Draft(text, dialect, len(session.answered), answers)
        if not missed:
            break
    if best is None:
        raise CannotDraft("the screen showed nothing that was the same before each question")
    return best[1]


def _candidates(session: Session) -> Iterator[list[Table]]:
    """
    Yield the tables of each way to recognize the prompt, the preferred one first.
    """
    ways: list[Callable[[Session], list[Table]]] = [
        reported_status,
        bracketed_prompt,
        line_prompt,
        screen_status,
    ]
    if draws_screen(session):
        ways[2:] = reversed(ways[2:])
    return filter(None, (way(session) for way in ways))


def _try(dialect: Dialect, chunks: Sequence[Chunk], session: Session) -> tuple[int, int]:
    """
    Return the number of missing or wrong events, and the number of answers.
    """
    events = [event for _, event in events_in(dialect, chunks)]
    answers = sum(isinstance(event, Answered) and bool(event.text.strip()) for event in events)
    clears = sum(isinstance(event, Cleared) for event in events)
    wrong = sum(isinstance(event, NotCleared) for event in events)
    ready = any(isinstance(event, Ready) for event in events)
    confirmations = sum(isinstance(event, NeedsConfirmation) for event in events)
    expected = len(session.clears) if dialect.clear is not None else 0
    wrong += dialect.clear is not None and abs(len(session.confirmations) - confirmations)
    missing = max(0, len(session.answered) - answers) + max(0, answers - len(session.questions))
    return missing + abs(expected - clears) + wrong + (not ready), answers


def _tables(
    session: Session, readiness: Sequence[Table], window: Window, command: str
) -> Iterator[Table]:
    kind = str(readiness[0]).partition("]")[0].rpartition("[")[2]
    words = _split(command.replace("\0", ""))
    variables = dict(word.split("=", 1) for word in words[1:] if words[0] == "env" and "=" in word)
    if variables or words[:1] == ["env"]:
        words = [word for word in words[1:] if "=" not in word]
    yield _names(words)
    yield _start(words)
    yield from readiness
    yield _environment(session, words, variables)
    yield _screen(window)
    yield _keys(session, kind)
    clear = _clear(session, kind)
    if clear is not None:
        yield clear
    yield from _menus(session)
    prefix = _answer(session, kind)
    if prefix is not None:
        yield prefix
    yield _last_words(session, clear is not None)


def _split(command: str) -> list[str]:
    try:
        return shlex.split(command)
    except ValueError:
        return command.split()


def _names(words: Sequence[str]) -> Table:
    table = Table("", "Drafted from a recording.  Values marked CHECK are guesses.")
    program = _program_name(words)
    name = re.sub("[^a-z0-9]+", "-", program.lower()).strip("-")[:64] or "program"
    table.add("name", name, f"{GUESS}the names that /health and the log show.")
    table.add("label", program or name)
    return table


def _program_name(words: Sequence[str]) -> str:
    """
    Return the name of the program, or of the script or module that an interpreter runs.
    """
    match words:
        case []:
            return "program"
        case [interpreter, *others] if _INTERPRETER.fullmatch(PurePosixPath(interpreter).name):
            match [word for word in others if word == "-m" or not word.startswith("-")]:
                case ["-m", str(module), *_]:
                    return module.rpartition(".")[2]
                case [str(script), *_]:
                    return PurePosixPath(script).stem
    return PurePosixPath(words[0]).name


def _start(words: Sequence[str]) -> Table:
    table = Table("[start]")
    if words and words[0]:
        table.add("program", words[0], "The command that was recorded.")
        table.add("arguments", list(words[1:]))
    else:
        table.note(f"{GUESS}the recording does not say which command ran.")
        table.add("program", "program")
        table.add("arguments", [])
    table.note(f'{GUESS}the arguments that print a version, such as: version = ["--version"]')
    table.note(
        f"{GUESS}look in --help for options that turn off tools, updates, tips and animations."
    )
    return table


def _environment(session: Session, words: Sequence[str], variables: dict[str, str]) -> Table:
    table = Table("[environment]")
    asks = all(_QUERY_CURSOR in item.after and PASTE_ON in item.after for item in session.answered)
    extra = {"PROMPT_TOOLKIT_NO_CPR": "1"} if asks else {}
    if extra:
        table.note(
            "The program asked its terminal for the cursor's position in each turn.  If it uses "
            "prompt_toolkit, the second variable prevents that, and turns are faster."
        )
    table.add("set", {"TERM": "xterm-256color", **extra, **variables})
    prefix = re.sub("[^A-Z0-9]+", "_", _program_name(words).upper()).strip("_") or "PROGRAM"
    table.add("pass", [f"{prefix}_*"], f"{GUESS}the server's variables that the program needs.")
    return table


def _screen(window: Window) -> Table:
    table = Table("[screen]")
    table.note(
        f"The size that was recorded.\n{GUESS}as wide as the longest line of an answer, so that "
        "nothing wraps it; 9000 columns for JSON of 8 KB."
    )
    table.add("rows", window[0])
    table.add("columns", window[1])
    return table


def _keys(session: Session, kind: str) -> Table:
    table = Table("[keys]")
    pasted = kind == "signs" and _pastes(session)
    first = session.questions[0]
    submit = b"\n" if first.line.data.endswith(b"\n") else b"\r"
    table.add("submit", submit, f"Typed after each of {len(session.questions)} questions.")
    if session.interrupts:
        table.add("interrupt", session.interrupts[0].line.data, "Typed during a turn.")
    else:
        table.add(
            "interrupt", _INTERRUPT, f"{GUESS}no turn was stopped; this is Ctrl-C, Esc is \\u001b."
        )
    if kind != "line" and _pastes(session):
        table.note("Bracketed paste was on each time before something was typed.")
        table.add("paste-start", _PASTE_MARKS[0])
        table.add("paste-end", _PASTE_MARKS[1])
    elif kind == "line" and _pastes(session):
        table.note("The program turned bracketed paste on, so questions are pasted.")
    if session.quit:
        quit_keys = _command(session.quit[-1], pasted)
        table.add("quit", quit_keys, "The last line; the program ended.")
    else:
        table.note(f'{GUESS}what ends the program at its prompt, such as: quit = "/quit\\r"')
    return table


def _command(item: Input, pasted: bool) -> bytes:
    """
    Return the keys of `item`, as a paste if the program may take fast typing for one.
    """
    line = item.line
    if not pasted or line.end != "submitted" or not line.text:
        return line.data
    text = line.text.encode()
    return b"".join((_PASTE_MARKS[0], text, _PASTE_MARKS[1], line.data[-1:]))


def _pastes(session: Session) -> bool:
    """
    Return whether bracketed paste was on when questions were typed.
    """
    on = False
    output = b""
    for item in session.questions:
        output = output[-16:] + item.before
        last_on, last_off = output.rfind(PASTE_ON), output.rfind(PASTE_OFF)
        on = last_on > last_off if last_on != last_off else on
        if not on:
            return False
    return on


def _clear(session: Session, kind: str) -> Table | None:
    if not session.clears:
        return None
    number, item = len(session.clears) - 1, session.clears[-1]
    confirmation = session.confirmations.get(number)
    last = confirmation or item
    lines = _new_rows(last) if kind == "signs" else _printed(session, last)
    if not lines:
        return None
    table = Table(
        "[clear]",
        f"{GUESS}text on the screen does not prove that the model forgets; kiroworkers prove "
        "does.  Remove this table if in doubt: each answer then comes from a new process.",
    )
    table.add("type", _command(item, kind == "signs" and _pastes(session)), "What was typed.")
    words = [line for line in lines if any(map(str.isalpha, line))] or lines
    text = next(filter(_CLEARED.search, words), words[0])
    table.add("done", f"(?m)^{escaped(text)}$", "A line that it printed.")
    if confirmation is not None:
        question = _printed(session, item)
        shown = item.frames[-1].before_cursor if item.frames else ""
        asked = question[-1] if question else shown
        table.add("question", escaped(asked.strip()), "What it asked.")
        table.add("confirm", confirmation.line.data, "What was answered.")
    return table


def _new_rows(item: Input) -> list[str]:
    """
    Return the rows of the screen, not blank, that were new after `item`.
    """
    rows = item.frames[-1].rows if item.frames else ()
    return [row for row in rows if row and row not in item.seen.rows]


def _printed(session: Session, item: Input) -> list[str]:
    """
    Return the lines, not blank, that were printed after `item`, without the prompt.
    """
    text = plain_text(item.after)
    lines = [line.rstrip() for line in text.split("\n")]
    typed = item.line.text.strip()
    return [
        line
        for line in lines
        if line
        and line != typed
        and not session.at_prompt(line)
        and not (line.endswith(typed) and session.at_prompt(line.removesuffix(typed)))
    ]


def _menus(session: Session) -> Iterator[Table]:
    seen: set[tuple[str, bytes]] = set()
    for item in session.menus:
        for keys, frame in item.at_keys:
            rows = [row for row in frame.rows if row]
            marked = [row for row in rows if _MENU_CURSOR.match(row)]
            row = (marked or rows[-1:] or [""])[-1 if len(marked) != 1 else 0]
            if not row or (row, keys) in seen:
                continue
            seen.add((row, keys))
            table = Table(
                "[[menu]]", f"{GUESS}what was pressed before the first prompt, and what was shown."
            )
            table.add("question", escaped(row.strip()))
            table.add("keys", keys)
            yield table


def _answer(session: Session, kind: str) -> Table | None:
    if kind == "signs" or len(session.answered) < 2:
        return None
    firsts = [(_printed(session, item) or [""])[0] for item in session.answered]
    found = [_PREFIX.match(line) for line in firsts]
    prefixes = {match[0] if match is not None else "" for match in found}
    if len(prefixes) != 1 or "" in prefixes:
        return None
    prefix = escaped(prefixes.pop())
    table = Table("[answer]")
    raw = rf"(?:^|[\r\n])(?:\x1b\[[0-9;?]*[A-Za-z])*{prefix}"
    table.add(
        "prefix",
        raw if kind == "prompt" else f"(?m)^{prefix}",
        f"{GUESS}how each of {len(firsts)} answers began.",
    )
    return table


def _last_words(session: Session, clears: bool) -> Table:
    table = Table()
    if session.clears and not clears:
        table.note(
            f"{GUESS}nothing was printed after {ascii_quoted(session.clears[0].line.text)}, so "
            "nothing confirms it.  Without [clear] each answer comes from a new process."
        )
    elif not clears:
        table.note(
            "No line that clears the conversation was typed: each answer comes from a new process."
        )
    for item in session.refused:
        table.note(
            f"{GUESS}[approval]: {ascii_quoted(item.line.data.decode('utf-8', 'replace'))} was "
            f"typed at {ascii_quoted(_last_row(item))}."
        )
    table.note(
        f"{GUESS}with [model-server] (how to point the program at another model server), "
        "kiroworkers prove costs nothing."
    )
    return table


def _last_row(item: Input) -> str:
    rows = [row for row in item.seen.rows if row]
    return rows[-1] if rows else ""
