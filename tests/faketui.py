"""
A stand-in for Kiro CLI's full-screen interface, with faults on demand.

It draws as Kiro does: it redraws its lower rows in synchronized updates, cuts lines at
the terminal's width, and has a composer whose hint shows whether it is idle or busy.
It reads keys all the time: a paste is text, Enter submits, Escape cancels, Ctrl-U
empties the composer.  When its rows do not fit on the terminal, it erases everything
and draws it again.

It answers as `tests.fakekiro` does, and has the same faults in a prompt.  Those of the
whole session are in ``FAKEKIRO``:

    style=bullet    answers begin with a bullet, as from 2.27 on
    early=S         show the idle hint S seconds (0.05) before the end of an answer
    stale           leave the spinner on the screen, above the answer
    asks            ask the terminal before the first prompt, and wait for the answers
    lostenter       lose the first Enter after each paste
    counts=C        place each part of a row, counting clusters (cluster) or adding up (sum)
    unwrapped       leave it to the terminal to wrap long lines
    plain           make no synchronized updates
    alternate       draw on the alternate screen
    signs=title     report idle and busy in the window's title; with state, by OSC 7501
    restore         put a cancelled prompt back into the composer
    journal         keep a journal below $HOME; with damaged, an invalid one
    clear=C         new (confirm it in other words), none (do not confirm it), late (look idle
                    for a second before that, and lose what is typed meanwhile), log (print
                    the same words each time) or erase (the same words on an erased screen)
    consent         ask at the start whether to trust all tools
    slow=S, mute, broken, stubborn      as in tests.fakekiro
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import sys
import termios
import time
import tty
import uuid
from codecs import getincrementaldecoder
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

from wcwidth import wcwidth

from tests.fakekiro import TROUBLES, answer_text, faults_in, first_time, ignore, leave_a_child

_IDLE = "ask a question or describe a task ↵"
_BUSY = "Kiro is working · type to queue a message"
_FAULTS = re.compile(r"\[\[([^\]]*)\]\]")
_KEYS = re.compile(
    r"\x1b\[200~(?P<paste>.*?)\x1b\[201~|\x1b\[(?P<arrow>[AB])"
    r"|(?P<answer>\x1b\[[?>]?[0-9;]*[Rcn]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\))|(?P<key>.)",
    re.DOTALL,
)
_CLUSTER = re.compile(
    "(?:.(?:\u200d.|[\u0300-\u036f\u202a-\u202e\u2028\ufe0f\U0001f3fb-\U0001f3ff])*)", re.DOTALL
)
_UNFINISHED = re.compile(r"\x1b\[200~(?!.*\x1b\[201~)|\x1b\[[?>]?[0-9;]*\Z", re.DOTALL)
_CONSENT = ("No, exit", "Yes, I accept")
_APPROVAL = ("Yes, single permission", "Trust, always allow in this session", "No (Tab to edit)")
_SPINNER = "⠁⠉⠙⠹⢹⣹⣽⣿"
_FRAME = 0.08
_STALE = "⠙ Thinking... (esc to cancel)"
_CLUSTERS = re.compile(r"(?<=\x1b\[38;2;1;2;3m)(?P<row>[^\x1b]*[^\x00-\uffff][^\x1b]*)")


class Cancelled(Exception):
    """
    Raised when Escape is pressed in a turn.
    """


class FakeTui:
    """
    Act as Kiro, on the terminal at descriptor 0.
    """

    def __init__(self, faults: Mapping[str, str]) -> None:
        self._session = faults
        self._columns, self._rows = os.get_terminal_size(0)
        self._log: list[str] = []  # everything above the composer, as lines
        self._drawn: list[str] = []  # rows, as they are on the terminal
        self._composer = ""
        self._queue = ""
        self._decode = getincrementaldecoder("utf-8")("replace").decode
        self._status = ""
        self._spinning: str | None = None
        self._menu: tuple[str, tuple[str, ...], int] | None = None
        self._is_busy = False
        self._remembered = 0
        self._journal = Path.home() / ".kiro/sessions/cli" / f"{uuid.uuid4()}.jsonl"
        self._typed_log = os.environ.get("FAKEKIRO_LOG")
        self._answers: list[str] = []
        self._pasted = False

    # The screen.

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        while data:
            data = data[os.write(1, data) :]

    def _lines(self) -> list[str]:
        lines = list(self._log)
        if self._spinning is not None:
            lines += [self._spinning, ""]
        lines += ["─" * self._columns]
        if self._menu is not None:
            question, choices, at = self._menu
            lines += [f" {question}", ""]
            lines += [f" {'❯' if n == at else ' '} {text}" for n, text in enumerate(choices)]
            return [*lines, "─" * self._columns, " ESC to close | Tab to edit"]
        hint = _BUSY if self._is_busy else _IDLE
        if self._session.get("signs"):
            hint = "type here"
        line_count = self._composer.count("\n") + 1
        composer = f" {hint}" if not self._composer else f" {line_count} lines ▸ "
        return [*lines, f"Kiro · auto · {self._status}", "", composer]

    def _wrapped(self, line: str) -> tuple[str, ...]:
        return (line,) if "unwrapped" in self._session else wrapped(line, self._columns)

    def draw(self) -> None:
        """
        Draw the rows that have changed, as one synchronized update.
        """
        rows = [row for line in self._lines() for row in self._wrapped(line)]
        same = 0
        for old, new in zip(self._drawn, rows, strict=False):
            if old != new:
                break
            same += 1
        if same == len(rows) == len(self._drawn):
            self._report_state()
            return
        up = len(self._drawn) - 1 - same
        if up >= self._rows - 1 or len(rows) - same >= self._rows:
            frame = "\x1b[2J\x1b[3J\x1b[H" + "\r\n".join(f"{row}\x1b[0m" for row in rows)
        else:
            frame = f"\x1b[{up}A" if up > 0 else ("\r\n" if up < 0 and self._drawn else "")
            new = "\r\n".join(f"\x1b[2K\x1b[38;2;1;2;3m{r}\x1b[39m" for r in rows[same:])
            frame += "\r" + new
            if "counts" in self._session:
                frame = _CLUSTERS.sub(self._placed, frame)
            frame += "\x1b[J"
            if same == len(rows):
                frame = f"\x1b[{up}A\r\x1b[J\x1b[1A" if up > 0 else "\r\x1b[J\x1b[1A"
        self._drawn = rows
        if "plain" not in self._session:
            frame = f"\x1b[?2026h{frame}\x1b[?2026l\x1b[?25l"
        self._write(frame)
        self._report_state()

    def _placed(self, match: re.Match[str]) -> str:
        """
        Return a row with a cursor movement after each cluster, and its last letter drawn twice.
        """
        drawn, column = "", 1
        for cluster in _CLUSTER.findall(match["row"]):
            adds_up = self._session["counts"] == "sum"
            width = sum(max(0, wcwidth(char)) for char in cluster) if adds_up else _width(cluster)
            column += width
            drawn += cluster if len(cluster) == 1 else f"{cluster}\x1b[{column}G"
        last = match["row"][-1:]
        return f"{drawn}\x1b[{column - 1}G{last}" if last.isascii() and last else drawn

    def _report_state(self) -> None:
        if self._menu is not None:
            title, state = "✋ Action required", "asking"
        elif self._is_busy:
            title, state = "✦ Working…", "working"
        else:
            title, state = "◇ Ready", "idle"
        match self._session.get("signs"):
            case "title":
                self._write(f"\x1b]0;{title} (here)\x07")
            case "state":
                self._write(f"\x1b]7501;state={state}:app=fake\x1b\\")

    # The keys.

    def _keys(self, seconds: float | None) -> list[re.Match[str]]:
        """
        Return the keys pressed within `seconds`; None waits for ever.
        """
        if not select.select([0], [], [], seconds)[0]:
            return []
        self._queue += self._decode(os.read(0, 65536))
        while _UNFINISHED.search(self._queue):
            self._queue += self._decode(os.read(0, 65536))
        keys = list(_KEYS.finditer(self._queue))
        self._queue = ""
        self._answers += [key["answer"] for key in keys if key["answer"] is not None]
        return [key for key in keys if key["answer"] is None]

    def pause(self, seconds: float) -> None:
        """
        Wait in a turn, and raise `Cancelled` at Escape.
        """
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            for key in self._keys(left):
                if key["key"] in ("\x1b", "\x03"):
                    raise Cancelled
                if key["paste"] is not None or key["key"] == "\r":
                    self._record("WHILE BUSY")

    def choose(self, question: str, choices: tuple[str, ...]) -> int:
        """
        Show a menu, and return the number of the choice that is taken, from 0.
        """
        at = 0
        while True:
            self._menu = (question, choices, at)
            self.draw()
            for key in self._keys(None):
                if key["arrow"] is not None:
                    at = (at + (1 if key["arrow"] == "B" else -1)) % len(choices)
                elif key["key"] == "\r":
                    self._menu = None
                    return at

    # The conversation.

    def run(self) -> int:
        """
        Converse until a command or a key quits, and return the exit status.
        """
        if "alternate" in self._session:
            self._write("\x1b[?1049h")
        self._write("\x1b[2J\x1b[H\x1b[?2004h\x1b[>1u\x1b[?25l\x1b[6n")
        if "asks" in self._session:
            self._write("\x1b]11;?\x07\x1b[c")
            while len(self._answers) < 3:
                self._keys(None)
        self._log += ["", "   Welcome to the new Kiro CLI UX! (a stand-in for tests)", ""]
        if "consent" in self._session:
            self.choose("Warning: Kiro is running in trust all tools mode", _CONSENT) or sys.exit(0)
        while True:
            self.draw()
            for key in self._keys(None):
                if key["paste"] is not None:
                    self._composer += key["paste"]
                    self._pasted = True
                elif key["key"] == "\x15":
                    self._composer = ""
                elif key["key"] in ("\x03", "\x04"):
                    return 0
                elif key["key"] == "\r" and self._pasted and "lostenter" in self._session:
                    self._pasted = False
                elif key["key"] == "\r":
                    self.draw()  # shows the composer with its text
                    text, self._composer = self._composer, ""
                    if text.strip():
                        self._submit(text)
                elif key["key"] is not None and key["key"] >= " ":
                    self._composer += key["key"]

    def _record(self, line: str) -> None:
        if self._typed_log is not None:
            with open(self._typed_log, "a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")

    def _submit(self, text: str) -> None:
        self._record(text)
        if text.startswith("/"):
            self._command(text.strip())
            return
        match = _FAULTS.search(text)
        faults = faults_in(match[1]) if match is not None else {}
        self._status = ""
        self._log += ["─" * self._columns, *(f"  {line}" for line in text.split("\n")), ""]
        self._is_busy, self._spinning = True, "⠀ Thinking... (esc to cancel)"
        self.draw()
        self._write_journal("Prompt", text)
        try:
            self._turn(text, faults)
        except Cancelled:
            self._log += ["● Cancelled", ""]
            if "restore" in self._session:
                self._composer = text
        finally:
            self._is_busy, self._spinning = False, None
            self._remembered += 1

    def _command(self, line: str) -> None:
        if line == "/quit":
            sys.exit(0)
        if line == "/clear":
            mode = self._session.get("clear")
            self._remembered = 0
            self._journal = self._journal.with_name(f"{uuid.uuid4()}.jsonl")
            if mode == "late":
                self.draw()
                time.sleep(1)
                termios.tcflush(0, termios.TCIFLUSH)
            if mode == "erase":
                self._log, self._drawn = [], []
                self._write("\x1b[2J\x1b[3J\x1b[H")
            if mode in ("log", "erase"):
                self._log += ["Conversation cleared", ""]
            elif mode != "none":
                self._status = "New session started" if mode == "new" else "Conversation cleared"

    def _turn(self, text: str, faults: Mapping[str, str]) -> None:
        if "orphan" in faults:
            leave_a_child()
        if "hang" in faults:
            ignore(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            while True:
                time.sleep(3600)
        if "silent" in faults:
            self._think(3600)
        self._think(float(faults.get("think", "0.1")))
        if "killed" in faults and first_time(faults["killed"]):
            os.killpg(0, signal.SIGKILL)
        if "die" in faults:
            os._exit(1)
        self._spinning = None
        if "flood" in faults:
            self._write("flood " * (int(faults["flood"]) // 6))
        if "trouble" in faults:
            self._log += [*TROUBLES[faults["trouble"]].split("\n"), ""]
            return
        if "approve" in faults:
            self._log += ["↓ Shell date", ""]
            if self.choose("shell requires approval", _APPROVAL) == len(_APPROVAL) - 1:
                self._log += ["Tool denied.", ""]
            self._think(float(faults.get("work", "0")))
        self._print_answer(answer_text(text, faults, self._remembered))

    def _print_answer(self, answer: str) -> None:
        lines = [line for line in answer.split("\n") if not line.startswith("```")]
        first = "• " if self._session.get("style") == "bullet" else "  "
        lines = [(first if n == 0 else "  ") + line for n, line in enumerate(lines)]
        if "stale" in self._session:
            self._log += [_STALE, ""]
        before = list(self._log)
        steps = (1,) if len(lines) < 4 else (len(lines) // 3, 2 * len(lines) // 3, len(lines))
        for step in steps:
            self._log = [*before, *lines[:step], ""]
            self.draw()
            self.pause(0.005)
        if "early" in self._session:
            self._log = [*before, *lines[:1], ""]
            self._is_busy = False
            self.draw()
            time.sleep(float(self._session["early"] or 0.05))
        self._log = [*before, *lines, ""]
        self._write_journal("AssistantMessage", answer)

    def _think(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        n = 0
        while (left := until - time.monotonic()) > 0:
            self._spinning = f"{_SPINNER[n % len(_SPINNER)]} Thinking... (esc to cancel)"
            self.draw()
            self.pause(min(left, _FRAME))
            n += 1

    def _write_journal(self, kind: str, text: str) -> None:
        if "journal" not in self._session:
            return
        if self._session["journal"] == "damaged" and kind == "AssistantMessage":
            text = "{"
        self._journal.parent.mkdir(parents=True, exist_ok=True)
        data = {"message_id": str(uuid.uuid4()), "content": [{"kind": "text", "data": text}]}
        with self._journal.open("a", encoding="utf-8") as journal:
            journal.write(json.dumps({"version": "v1", "kind": kind, "data": data}) + "\n")


@lru_cache(maxsize=10_000)
def wrapped(line: str, columns: int) -> tuple[str, ...]:
    """
    Return the rows of `line`, cut between words if possible.
    """
    if line.isascii() and len(line) <= columns:
        return (line,)
    rows = [""]
    left = columns
    for word in re.findall(" *[^ ]+| +", line):
        clusters = [(cluster, _width(cluster)) for cluster in _CLUSTER.findall(word)]
        if sum(width for _, width in clusters) > left:
            clusters = [(cluster, width) for cluster, width in clusters if cluster != " "]
            rows.append("  ")
            left = columns - 2
        for cluster, width in clusters:
            if width > left:
                rows.append("  ")
                left = columns - 2
            rows[-1] += cluster
            left -= width
    return tuple(rows)


@lru_cache(maxsize=10_000)
def _width(cluster: str) -> int:
    """
    Return how many columns a character takes, with its combining characters.
    """
    width = max(0, wcwidth(cluster[0]))
    return 2 if width == 1 and cluster[1:2] == "\ufe0f" else width


def run_in_raw_mode(function: Callable[[], int]) -> int:
    """
    Call `function` with the terminal in raw mode, and return its result.
    """
    before = termios.tcgetattr(0)
    tty.setraw(0)
    try:
        return function()
    finally:
        termios.tcsetattr(0, termios.TCSADRAIN, before)


def main(arguments: list[str]) -> int:
    """
    Act as `kiro-cli` 3 with these arguments, and return the exit status.
    """
    version = os.environ.get("FAKEKIRO_VERSION", "3.0.1")
    if arguments[:1] == ["--version"]:
        print(f"kiro-cli {version}")
        return 0
    if arguments[:1] != ["chat"] or not {"--trust-tools="}.issuperset(arguments[1:]):
        print(f"error: unexpected argument in {arguments}", file=sys.stderr)
        return 2
    faults = faults_in(os.environ.get("FAKEKIRO", ""))
    if "broken" in faults:
        print("You are not logged in, please log in with kiro-cli login")
        return 1
    if "stubborn" in faults:
        ignore(signal.SIGTERM, signal.SIGHUP)
    time.sleep(3600 if "mute" in faults else float(faults.get("slow", "0")))
    try:
        return run_in_raw_mode(FakeTui(faults).run)
    except OSError:
        return 1  # the terminal is gone


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
