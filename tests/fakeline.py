"""
A stand-in for a program that prints a prompt and reads one line, with faults on demand.

Many command-line clients of models work like this: nothing marks the start of their
input, no command clears the conversation, and their line editor echoes.

It answers as `tests.fakekiro` does, and has its faults ``think``, ``silent``, ``die``,
``prose``, and ``query``: a cursor query in the answer and after it.  Those of the whole
session are in ``FAKEKIRO``:

    bare        read without a line editor, and so without an echo
    asks        ask for the cursor's position at the start, and wait for the answer
    toolkit=N   draw as prompt_toolkit does, with N empty rows below the prompt ``ask>``: ask
                for the cursor's position before each prompt, and draw everything anew then
    lostenter   with toolkit: lose the first Enter
    early=S     with toolkit: show the prompt S seconds before the end of an answer
    forget=S    with toolkit: confirm the command ``forget`` S seconds after the prompt
"""

from __future__ import annotations

import os
import re
import select
import sys
import termios
import time
import tty
from collections.abc import Mapping
from types import MappingProxyType

from tests.fakekiro import answer_text, faults_in

_FAULTS = re.compile(r"\[\[([^\]]*)\]\]")
#: Matches where the lines of a task's prompt began before they were joined.
_LINES = re.compile(r" (Request: |Answer with |An example |Give )")


def answer_line(line: str, faults: Mapping[str, str] = MappingProxyType({})) -> str:
    """
    Return the answer to a prompt whose lines were joined to one.
    """
    return answer_text(_LINES.sub(r"\n\1", line), faults)


class Toolkit:
    """
    Read lines as prompt_toolkit does.
    """

    def __init__(self, faults: Mapping[str, str]) -> None:
        self._faults = faults
        self._rows_below = int(faults["toolkit"] or 0)
        self._lose_enter = "lostenter" in faults
        self._typed = ""

    def write(self, text: str) -> None:
        """
        Print `text` at once.
        """
        print(text, end="", flush=True)

    def read_line(self) -> str:
        """
        Show the prompt, and return the line that is typed at it.
        """
        before = termios.tcgetattr(0)
        tty.setraw(0)
        try:
            self.write("\x1b[6n\x1b[?2004h")
            self._draw("")
            return self._edit()
        finally:
            termios.tcsetattr(0, termios.TCSADRAIN, before)

    def _draw(self, line: str) -> None:
        # As prompt_toolkit does, it draws no blank at the end of a row.
        text = f"ask> {line}".rstrip()
        below = "\r\r\n" * self._rows_below + (
            f"\x1b[{self._rows_below}A" if self._rows_below else ""
        )
        self.write(f"\x1b[?25l\r\x1b[J\x1b[0m{text}{below}\r\x1b[{5 + len(line)}C\x1b[?25h")

    def _edit(self) -> str:
        line, answered = "", False
        while True:
            # A terminal that does not answer makes it draw everything anew, with a warning.
            if not answered and not self._typed and not select.select([0], [], [], 2)[0]:
                self.write("\r\x1b[JWARNING: your terminal doesn't support CPR.\r\n")
                answered = True
                self._draw(line)
            if not self._typed:
                self._typed = os.read(0, 65536).decode("utf-8", "replace")
            while _UNFINISHED.match(self._typed):
                self._typed += os.read(0, 65536).decode("utf-8", "replace")
            key = _TOOLKIT_KEYS.match(self._typed)
            assert key is not None, "any character is a key"
            self._typed = self._typed[key.end() :]
            if key["position"] is not None:
                answered = True
            elif key[0] == "\x03":
                raise KeyboardInterrupt
            elif key[0] == "\r" and self._lose_enter and line:
                self._lose_enter = False
            elif key[0] == "\r":
                self.write(f"\r\x1b[Jask> {line}\r\r\n\x1b[J\x1b[?2004l")
                return line
            else:
                line += (key["paste"] or key[0]).replace("\n", " ")
            self._draw(line)

    def run(self) -> int:
        """
        Answer lines until Ctrl-C, and return the exit status.
        """
        while True:
            try:
                line = self.read_line()
            except KeyboardInterrupt:
                return 1
            if line == "forget":
                self.write("\x1b[?2004h")
                self._draw("")
                time.sleep(float(self._faults["forget"]))
                self.write("\r\x1b[JForgotten.\r\n\x1b[?2004l")
            else:
                self._answer(line)

    def _answer(self, line: str) -> None:
        answer = answer_line(line)
        if "early" in self._faults:
            half = len(answer) // 2
            self.write(answer[:half] + "\n")
            self._draw("")
            time.sleep(float(self._faults["early"]))
            answer = "\r\x1b[J" + answer
        self.write(answer + "\n")


#: The beginning of a paste, or of an answer to a cursor query.
_UNFINISHED = re.compile(r"\x1b\[200~(?!.*\x1b\[201~)|\x1b(?:\[[0-9;]*)?\Z", re.DOTALL)

#: A paste, an answer to a cursor query, or a key.
_TOOLKIT_KEYS = re.compile(
    r"\x1b\[200~(?P<paste>.*?)\x1b\[201~|(?P<position>\x1b\[\d+;\d+R)|.", re.DOTALL
)


def await_position() -> None:
    """
    Ask for the cursor's position, and wait for the answer.
    """
    before = termios.tcgetattr(0)
    tty.setraw(0)
    print("\x1b[6n", end="", flush=True)
    answer = b""
    while not answer.endswith(b"R"):
        answer += os.read(0, 1)
    termios.tcsetattr(0, termios.TCSADRAIN, before)


def main() -> int:
    """
    Answer lines until the end of input, and return the exit status.
    """
    session = faults_in(os.environ.get("FAKEKIRO", ""))
    if "asks" in session:
        await_position()
    print("Chatting with nobody. Type 'exit' to leave.", flush=True)
    if "toolkit" in session:
        return Toolkit(session).run()
    if "bare" not in session:
        import readline  # noqa: F401  # `input` edits with it from now on
    while True:
        try:
            line = input("> ")
        except (EOFError, KeyboardInterrupt):
            return 1
        match = _FAULTS.search(line)
        faults = faults_in(match[1]) if match is not None else {}
        if "silent" in faults:
            time.sleep(3600)
        time.sleep(float(faults.get("think", "0")))
        if "die" in faults:
            return 1
        query = "\x1b[6n\n" if "query" in faults else ""
        print(query + answer_line(line, faults) + query, flush=True)


if __name__ == "__main__":
    sys.exit(main())
