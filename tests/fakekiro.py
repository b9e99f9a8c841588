"""
A stand-in for Kiro CLI's classic interface, with faults on demand.

It uses its terminal as Kiro does: the terminal is raw only while it reads, it echoes
by redrawing, Enter is CR, and it shows a spinner, a prefix, a footer, and a question
before it clears the conversation or uses a tool.  It answers the server's three tasks,
and the one that the documentation shows, with the idea (or the story's title) as the
title, so that a test can tell whose answer it got.  The answer also says how many
earlier prompts it remembers.

The faults of one turn are written in the prompt, as ``[[name=value …]]``::

    think=S     answer after S seconds          silent      never answer; Ctrl-C works
    die         exit in the middle of a turn    hang        never answer, ignore signals
    flood=N     print N bytes first             late        answer only after Ctrl-C
    split       write a byte at a time          orphan      leave a child that holds the PTY
    approve     ask before using a tool         prose       answer without JSON
    example     answer with the example that the prompt shows
    twice       add an invalid object after the answer
    killed=NAME kill -9 itself, but only once for each NAME
    pretty      JSON over many lines            footer=F    full, time or none
    trouble=T   fail with the text TROUBLES[T]  quotes      quote all of TROUBLES
    lame        answer with a storyPoint of 99  mend        answer a repair correctly
    unasked=T   use the tool T without asking   approve=N   ask N times, in equal words
    work=S      work S seconds after the questions
    draft=T     fail as with trouble, but after a complete answer
    rendered    without a fence, with Markdown rendered
    forge       print what looks like a prompt, a clear and another answer, slowly

Those of the whole session are in the environment variable ``FAKEKIRO``, in the same
form without brackets::

    slow=S      first prompt after S seconds    mute        never show a prompt
    broken      exit at once with status 1      stubborn    ignore SIGTERM and SIGHUP
    clear=C     garbled, refused or none        agent=NAME, used=N   parts of the prompt
    menu        the box and the menu of 2.28, before the first prompt
    era=q       draw as Amazon Q did            pace=S   wait between its first characters
    nocolor     without colours                 verbatim show markdown as it is
    marks       all the parts of the prompt     wrap=N   wrap prose at N columns
    race=SEED   print the question of a clear from another thread than the prompt
    raceall=SEED   print everything before a prompt from another thread
    lostenter   lose the first Enter after a paste

``FAKEKIRO_LOG`` names a file to which each submitted line is appended, as a JSON
string; ``FAKEKIRO_VERSION`` is the version that it reports.  If ``FAKEKIRO_LOGIN``
names a file, the user is logged in as soon as that file exists.  As with Kiro itself,
``KIRO_MOCK_CHAT_RESPONSE`` names a file with the answers of the model: a JSON list with a
list of strings for each turn of the process.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
import textwrap
from collections.abc import Iterator, Mapping
from random import Random
from types import MappingProxyType
from typing import Any

from kiroworkers.classic import drawing as classic
from kiroworkers.classic.console import Console
from kiroworkers.classic.editor import Signal

_FAULTS = re.compile(r"\[\[([^\]]*)\]\]")
_COLOURS = re.compile(rb"\x1b\[[0-9;]*m")
_TASK = re.compile(r"^Task: *([\w-]+)", re.MULTILINE)
_REPAIR = re.compile("Task: repair\n")
_REQUEST = re.compile(r"^Request: *(\{.*\})$", re.MULTILINE)
_UNPRINTED = re.compile(r"[\x7f-\x9f\ud800-\udfff]")
_EXAMPLE = re.compile(r"^An example[^{]*(\{.*\})$", re.MULTILINE)

_LOGO = "\x1b[38;5;141m⢀⣴⣶⣦⡀ Kiro (a stand-in for tests)\x1b[0m\n\n"
_BANNER = (
    "✓ tools loaded in 0.03 s\n\n" + _LOGO + "Model: auto (/model to change)\n\n"
    "Did you know? Nothing here is asked of a model.\n\n"
)

_BOX = (
    "╭──────────── Classic is being deprecated ────────────╮\n"
    "│   With the Kiro CLI 3.0 release in October, the     │\n"
    "│   Classic experience will be deprecated.            │\n"
    "╰─────────────────────────────────────────────────────╯\n\n"
)
_NUDGE = "Classic is being deprecated with the Kiro CLI 3.0 release in October.\n\n"
_CHOICES = ("Switch to 3.0 and upgrade my agent configs", "Remind me later")

#: With the fault `pace`, how many characters of an answer are printed one by one.
_PACED = 500
_Q_PREFIX = "\x1b[38;5;10m> \x1b[0m"

#: How much of an answer another thread may still have to print when the prompt is drawn.
_MAX_BEHIND = 300
_OPEN = b"\x1b[?2004h"
_PASTED = b"\x1b[201~\r"

#: The known flags, each with the version that introduced it.
_FLAGS = {"--trust-tools=": "1.10", "--wrap": "1.16", "--legacy-ui": "1.27"}
_FLAGS |= {"--agent-engine=v1": "2.4"}

#: What the renderer makes of Markdown.
_RENDERED = (
    (r"\*\*(.+?)\*\*", "\x1b[1m\\1\x1b[22m"),
    (r"\b_(\w+?)_\b", "\x1b[3m\\1\x1b[23m"),
    (r"`(.+?)`", "\x1b[38;5;10m\\1\x1b[0m"),
    (r"\[(\w+)\]\((\S+?)\)", "\x1b[34m\\1\x1b[0m (\\2)"),
)
_KIRO_TOOL = "I will run the following command: {command} (using tool: {tool})\n"
_KIRO_DONE = " - Completed in 0.15s\n\n"
_Q_TOOL = (
    "\x1b[0m\x1b[0m\n\x1b[38;5;13m🛠️  Using tool: {tool}{trusted}\x1b[0m\x1b[0m\x1b[0m\n ⋮ \n"
    " ● I will run the following shell command: \n\x1b[38;5;10m{command}\n\x1b[0m\n"
)
_Q_DONE = " ● Completed in 0.15s\n\n"
_RED_HEADER = "\x1b[1m\x1b[38;5;9m{name} is having trouble responding right now: \n   0: "

_HEADER = "● Kiro is having trouble responding right now:\n   0: service error\n   1: "
TROUBLES = {
    "throttled": _HEADER + "Too many requests, please wait 30 seconds before trying again",
    "throttled_shortly": "Too many requests, please wait 1 second before trying again",
    "login_required": _HEADER + "dispatch failure (other): No token",
    "login_expired": "Your login session has expired. Please log in again.",
    "out_of_credits": "Monthly request limit reached",
    "suspended": _HEADER + "Your User ID (d-1) temporarily is suspended",
    "network": _HEADER + "dispatch failure (timeout): error sending request for url",
    "context_full": "Your conversation is too large to continue.",
    "model_gone": "The model you've selected is temporarily unavailable.\n"
    "Please choose another:\n❯ the dearest one\n  another one",
}


def repaired_prompt(text: str) -> str:
    """
    Return the prompt `text` without the faults that a repair corrects.
    """
    return text.replace("prose", "").replace("lame", "") if "mend" in text else text


def faults_in(text: str) -> dict[str, str]:
    """
    Return the value of each fault that `text` lists, by the fault's name.
    """
    parts = (word.partition("=") for word in text.split())
    return {name: value for name, _, value in parts}


class FakeKiro(Console):
    """
    Act as Kiro, with the faults of the whole session.
    """

    hint = "What would you like to do next?"

    def __init__(self, faults: Mapping[str, str], log: str | None) -> None:
        super().__init__()
        self._session_faults = faults
        self._is_q = faults.get("era") == "q"
        self._log = log
        self._faults: Mapping[str, str] = {}
        self._remembered = 0
        self._last = ""
        seed = faults.get("raceall", faults.get("race"))
        self._random = None if seed is None else Random(seed)
        # What another thread has still to print, also after the editor has read a line.
        self._behind = self._far_behind = b""
        self._loses_enter = "lostenter" in faults
        self._mock_answers = mock_answers()

    def banner(self) -> str:
        return _BANNER

    def prompt(self) -> str:
        used = self._session_faults.get("used")
        if self._is_q:
            agent = self._session_faults.get("agent")
            name = f"\x1b[38;5;14m[{agent}] \x1b[39m" if agent else ""
            return name + "\x1b[38;5;13m> \x1b[39m"
        prompt = classic.prompt(self._session_faults.get("agent", ""), int(used) if used else None)
        if "marks" in self._session_faults:
            prefix, mark, rest = prompt.rpartition("\x1b[38;5;93m> ")
            return f"{prefix}λ ↯ \x1b[31m!\x1b[0m{mark}{rest}"
        return prompt

    def write(self, text: str | bytes) -> None:
        data = text if isinstance(text, bytes) else text.encode("utf-8", "replace")
        if "nocolor" in self._session_faults:
            data = _COLOURS.sub(b"", data)
        if "split" in self._faults:
            for index in range(len(data)):
                super().write(data[index : index + 1])
        else:
            super().write(data)

    def menu(self) -> bool:
        """
        Show a menu, and return whether the second choice was taken.
        """
        self.write(_BOX + _NUDGE)
        at = 0
        with self._raw():
            while True:
                self.write("".join(f"{'❯ ' if n == at else '  '}{_CHOICES[n]}\n" for n in (0, 1)))
                key = os.read(0, 100)
                if key == b"\r":
                    return at == 1
                at = {b"\x1b[A": 0, b"\x1b[B": 1}.get(key, at)
                self.write("\x1b[2A\x1b[J")

    def print_behind(self, text: str) -> None:
        """
        Write `text` from another thread than the one that draws the next prompt.
        """
        if self._random is None:
            self.write(text)
        else:
            self._behind += text.encode("utf-8", "replace")

    def draw_prompt(self, drawn: bytes) -> None:
        """
        Draw the prompt while another thread prints, so that they cut each other.

        The mark and the prompt are each written whole.
        """
        if self._random is None or not self._behind:
            self.write(drawn)
            return
        resets, mark, prompt = drawn.partition(_OPEN)
        text, self._behind = self._behind + resets, b""
        if self._random.random() < 0.3:
            first = second = len(text)
        else:
            first, second = sorted(self._random.choices(range(len(text) + 1), k=2))
            if self._random.random() < 0.5:
                second = first
        rest = text[second:]
        self.write(text[:first])
        self.write(mark)
        self.write(text[first:second])
        self.write(prompt)
        if b"Are you sure?" in text and self._random.random() < 0.2:
            self._far_behind = rest
        else:
            self.write(rest)

    def read_keys(self) -> bytes:
        keys = super().read_keys()
        if self._loses_enter and keys.endswith(_PASTED):
            self._loses_enter = False
            return keys[:-1]
        return keys

    def read_line(self, prompt: str, hint: str = "") -> str | Signal:
        line = super().read_line(prompt, hint)
        self.write(self._far_behind)
        self._far_behind = b""
        if self._log is not None and isinstance(line, str):
            with open(self._log, "a", encoding="utf-8") as log:
                log.write(json.dumps(line.removeprefix(" ")) + "\n")
        return line

    def forget(self) -> None:
        self._remembered = 0

    def clear(self) -> None:
        question = classic.CLEAR_QUESTION
        if self._is_q:
            question = question.replace("38;5;244", "38;5;8").replace("38;5;13", "38;5;10")
        self.print_behind(question)
        if self.read_line(classic.CLEAR_PROMPT) in ("y", "Y"):
            self.forget()
            if "raceall" in self._session_faults:
                self.print_behind(classic.CLEAR_DONE)
            else:
                self.write(classic.CLEAR_DONE)
        else:
            self.write("\n")

    def allowed(self, action: str) -> bool:
        if not self._is_q:
            self.write(f"I will run the following command: {action} (using tool: shell)\n\n")
            self.write(classic.APPROVAL_QUESTION)
            return self.read_line(self.prompt()) in ("y", "Y", "t", "T", "")
        question = classic.APPROVAL_QUESTION.replace("38;5;244", "38;5;8")
        self.write(_Q_TOOL.format(tool="execute_bash", trusted="", command=action))
        self.write("\x1b[?25h" + question.replace("38;5;13", "38;5;10") + "\x1b[0m")
        return self.read_line(self.prompt()) in ("y", "Y", "t", "T", "")

    def command(self, line: str) -> None:
        mode = self._session_faults.get("clear", "confirmed")
        if line.strip() != "/clear" or mode == "confirmed":
            super().command(line)
        elif mode == "garbled":
            self.write("\x1b[38;5;11m> \x1b[39m244m/n]:\n\n")
            if self.read_line(classic.CLEAR_PROMPT) == "y":
                self.forget()
                self.write(classic.CLEAR_DONE)
        elif mode == "refused":
            self.write("\nThe conversation cannot be cleared now.\n\n")
        else:
            self.wait(3600)

    def turn(self, text: str) -> None:
        if _REPAIR.match(text):
            text = repaired_prompt(self._last)
        self._last = text
        match = _FAULTS.search(text)
        self._faults = faults_in(match[1]) if match is not None else {}
        self.write(classic.SUBMITTED)
        try:
            self._answer(text)
        except KeyboardInterrupt:
            if "late" not in self._faults:
                raise
            self.write(classic.SPINNER_GONE + classic.answer(self._answer_text(text)))
            self.write(self._footer())
        finally:
            self._faults = {}
            self._remembered += 1

    def _answer(self, text: str) -> None:
        faults = self._faults
        if "orphan" in faults:
            leave_a_child()
        if "hang" in faults:
            ignore(signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            self._wait_forever()
        if "silent" in faults or "late" in faults:
            self._wait_forever()
        self.think(float(faults.get("think", "0")))
        if "killed" in faults and first_time(faults["killed"]):
            os.killpg(0, signal.SIGKILL)
        if "die" in faults:
            self.write(classic.answer('```json\n{"title": "half an ans'))
            os._exit(1)
        if "trouble" in faults:
            self.write(TROUBLES[faults["trouble"]] + "\n\n")
            if faults["trouble"] == "model_gone":
                self._wait_forever()
            return
        if "flood" in faults:
            self._flood(int(faults["flood"]))
        if "unasked" in faults:
            self._use_tool(faults["unasked"])
        for _ in range(int(faults.get("approve") or "approve" in faults)):
            if not self.allowed("date"):
                self.write("\nTool denied.\n\n")
        if "work" in faults:
            self.think(float(faults["work"]))
        prefix = _Q_PREFIX if self._is_q else classic.ANSWER_PREFIX
        answer = self._answer_text(text)
        if "wrap" in self._session_faults:
            answer = _wrap_prose(answer, int(self._session_faults["wrap"]))
        if "forge" in faults:
            self._forge(prefix)
        verbatim = "verbatim" in self._session_faults
        if "rendered" in faults:
            printed = prefix + rendered(answer)
        else:
            printed = prefix + answer if verbatim else classic.answer(answer, prefix)
        if "draft" in faults:
            name = "Amazon Q" if self._is_q else "Kiro"
            header = _RED_HEADER.format(name=name)
            self.write(f"{printed}{header}{TROUBLES[faults['draft']]}\n\x1b[0m\x1b[0m")
            return
        printed += self._footer()
        if "raceall" in self._session_faults and self._random is not None:
            end = max(0, len(printed) - self._random.randrange(_MAX_BEHIND))
            self._print(printed[:end])
            self.print_behind(printed[end:])
        else:
            self._print(printed)

    def _use_tool(self, tool: str) -> None:
        """
        Say something, and use `tool` without asking.
        """
        prefix = _Q_PREFIX if self._is_q else classic.ANSWER_PREFIX
        self.write(classic.answer("Let me see.", prefix) + "\x1b[0m\x1b[0m\n")
        if self._is_q:
            self.write(_Q_TOOL.format(tool=tool, trusted=" (trusted)", command="date") + _Q_DONE)
        else:
            self.write(_KIRO_TOOL.format(tool=tool, command="date") + _KIRO_DONE)
        self.think(0)

    def _forge(self, prefix: str) -> None:
        """
        Print as an answer what the interface prints for a whole turn and a clear of another.
        """
        prompt = _OPEN.decode() + f"\r\x1b[K{self.prompt()}\r\x1b[2C"
        answer = classic.answer('```json\n{"value": "forged"}\n```', prefix)
        taken = "\x1b[?2004l\r\n"
        for text in (answer, taken + classic.CLEAR_DONE, taken + answer):
            self.write(f"{text}\x1b[?25h\x1b[0m\x1b[0m{prompt}")
            self.wait(0.4)

    def _print(self, text: str) -> None:
        pace = float(self._session_faults.get("pace", "0"))
        paced = _PACED if pace else 0
        for character in text[:paced]:
            self.write(character)
            self.wait(pace)
        self.write(text[paced:])

    def _answer_text(self, text: str) -> str:
        if self._mock_answers is not None:
            return next(self._mock_answers, "")
        return answer_text(text, self._faults, self._remembered)

    def _footer(self) -> str:
        match "none" if self._is_q else self._faults.get("footer", "full"):
            case "none":
                return "\n"
            case "time":
                return classic.footer(1)
            case _:
                return classic.footer(1, credits=0.05)

    def _flood(self, size: int) -> None:
        line = b"\x1b[32m" + b"flood " * 170 + b"\x1b[0m\n"
        for _ in range(size // len(line) + 1):
            self.write(line)

    def _wait_forever(self) -> None:
        frames = classic.spinner()
        while True:
            self.write(next(frames))
            self.wait(classic.FRAME_SECONDS)


def mock_answers() -> Iterator[str] | None:
    """
    Return the answers in the file of ``KIRO_MOCK_CHAT_RESPONSE``; None without one.
    """
    path = os.environ.get("KIRO_MOCK_CHAT_RESPONSE")
    if path is None:
        return None
    with open(path, encoding="utf-8") as file:
        return iter(["".join(pieces) for pieces in json.load(file)])


def answer_text(text: str, faults: Mapping[str, str] = MappingProxyType({}), known: int = 0) -> str:
    """
    Return the answer to the prompt `text`, as Markdown.

    Args:
        text: The prompt.
        faults: The faults of the turn.
        known: How many earlier prompts the conversation remembers.
    """
    task, request, example = _TASK.search(text), _REQUEST.search(text), _EXAMPLE.search(text)
    if "example" in faults and example is not None:
        return f"For example:\n\n```json\n{example[1]}\n```"
    if "prose" in faults or task is None or request is None:
        return f"I have read {len(text)} characters, {{and}} have nothing to say."
    answer = _answer_to(task[1], json.loads(request[1]), known)
    if "lame" in faults:
        answer["storyPoint"] = 99
    # A model does not escape characters, except those that a JSON string cannot contain.
    encoded = json.dumps(answer, indent=2 if "pretty" in faults else None, ensure_ascii=False)
    encoded = _UNPRINTED.sub(lambda match: json.dumps(match[0])[1:-1], encoded)
    encoded = encoded.replace("&", "\\u0026").replace("`", "\\u0060")
    if "quotes" in faults:
        markdown = "\n".join(TROUBLES.values()) + f"\n```json\n{encoded}\n```"
        return markdown + "\n" + "\n".join(TROUBLES.values())
    markdown = f"Here it is:\n\n```json\n{encoded}\n```"
    if "twice" in faults:
        markdown += '\n\nOr, in short:\n\n```json\n{"title": "in short"}\n```\nThat is {all}.'
    return markdown


def rendered(markdown: str) -> str:
    """
    Return `markdown` without its fences, as the interface renders it.
    """
    text = re.sub(r"```\w*\n?", "", markdown)
    for pattern, replacement in _RENDERED:
        text = re.sub(pattern, replacement, text)
    return text.replace("\n", "\x1b[0m\x1b[0m\n")


def _wrap_prose(markdown: str, columns: int) -> str:
    """
    Wrap the prose of `markdown`, but not its code blocks, to lines of that width.
    """
    parts = markdown.split("```")
    parts[::2] = [
        "\n".join("\n".join(textwrap.wrap(line, columns)) for line in part.split("\n"))
        for part in parts[::2]
    ]
    return "```".join(parts)


def _answer_to(task: str, request: Mapping[str, Any], remembered: int) -> dict[str, Any]:
    story = request.get("story", {})
    note = f"{remembered} earlier prompts remembered"
    match task:
        case "echo":
            return dict(request)
        case "chat":
            last = request["messages"][-1].get("content", "")
            return {"reply": f"You said: {last}"}
        case "chat-object":
            last = request["messages"][-1].get("content", "")
            match = re.search(r"\{.*\}", last)
            return json.loads(match[0]) if match is not None else {"said": last}
        case "generate-story":
            return {
                "title": request.get("idea", "none"),
                "asA": "tester",
                "iWant": "an answer {of my own}",
                "soThat": 'I know it is "mine"',
                "storyPoint": 3,
                "components": request.get("components", [])[:1],
                "acceptanceCriteria": [note],
            }
        case "release-note":
            # As models do, it does not quite keep to the format that the prompt asks for.
            return {"headline": request["change"], "kind": "Feature", "steps": note}
        case "generate-test":
            return {"title": story["title"], "given": [note], "when": ["asked"], "then": ["told"]}
        case _:
            warning = {"criterion": "Small", "message": note, "suggestion": "split {it}"}
            return {"summary": story["title"], "warnings": [warning], "score": 50}


def first_time(name: str) -> bool:
    """
    Return whether this is the first call with `name`, in any process of this folder.
    """
    try:
        os.close(os.open(f"{name}.seen", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def leave_a_child() -> int:
    """
    Start a child that ignores the usual signals, and return its process id.
    """
    child = os.fork()
    if child == 0:
        ignore(signal.SIGHUP, signal.SIGTERM, signal.SIGINT)
        signal.pause()
        os._exit(0)
    return child


def ignore(*numbers: signal.Signals) -> None:
    """
    Ignore these signals.
    """
    for number in numbers:
        signal.signal(number, signal.SIG_IGN)


def _number(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


def main(arguments: list[str], console: type[FakeKiro] = FakeKiro) -> int:
    """
    Act as `kiro-cli` with these arguments, and return the exit status.
    """
    version = os.environ.get("FAKEKIRO_VERSION", "2.11.0")
    if arguments[:1] == ["--version"]:
        print(f"kiro-cli {version}")
        return 0
    login_file = os.environ.get("FAKEKIRO_LOGIN")
    logged_in = login_file is None or os.path.exists(login_file)
    if arguments[:1] == ["whoami"]:
        print('{"account": {"email": "a@example.org"}}' if logged_in else '{"account": null}')
        return 0 if logged_in else 1
    if arguments[:1] == ["acp"]:
        from tests.kiro_acp import launcher

        return launcher.main(arguments)
    known = {"never"} | {flag for flag in _FLAGS if _number(_FLAGS[flag]) <= _number(version)}
    rest = arguments[1:]
    for flag in ("--agent", "--model"):
        if flag in rest:
            del rest[rest.index(flag) : rest.index(flag) + 2]
    if arguments[:1] != ["chat"] or not known.issuperset(rest):
        print(f"error: unexpected argument in {arguments}", file=sys.stderr)
        return 2
    faults = faults_in(os.environ.get("FAKEKIRO", ""))
    if "broken" in faults:
        print("the database of models is locked")
        return 1
    if not logged_in:
        print("You are not logged in, please log in with kiro-cli login")
        return 1
    if "stubborn" in faults:
        ignore(signal.SIGTERM, signal.SIGHUP)
    kiro = console(faults, os.environ.get("FAKEKIRO_LOG"))
    if "mute" in faults:
        kiro.wait(3600)
    kiro.wait(float(faults.get("slow", "0")))
    if "menu" in faults and not kiro.menu():
        print("Switched to 3.0, which has no classic interface.")
        return 1
    try:
        return kiro.run()
    except OSError:
        return 1  # the terminal is gone


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
