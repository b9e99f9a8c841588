"""
A program that reads lines with a real library for that, and answers as `tests.fakeline`.

    python -m tests.lineeditors KIND
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

from tests.fakeline import answer_line

#: For each kind, the packages that it needs, and the pattern of its prompt.
KINDS = {
    "prompt_toolkit": (["prompt_toolkit"], "^ask> $"),
    "completer": (["prompt_toolkit"], "^ask> $"),
    "toolbar": (["prompt_toolkit"], "^ask> $"),
    "rows": (["prompt_toolkit"], "^ask> $"),
    "questionary": (["questionary"], r"^\? ask $"),
    "inquirer": (["inquirer"], r"^\[\?\] ask: $"),
    "readline": ([], "^ask>$"),
}


def reader(kind: str) -> Callable[[], str]:
    """
    Return a function that reads a line with the library that `kind` names.
    """
    modules: list[Any] = [import_module(name) for name in KINDS[kind][0]]
    match kind, modules:
        case "prompt_toolkit", [toolkit]:
            session = toolkit.PromptSession()
            return lambda: str(session.prompt("ask> "))
        case "completer", [toolkit]:
            # The menu opens below whatever is typed.
            words = import_module("prompt_toolkit.completion").FuzzyWordCompleter(["idea", "{}"])
            session = toolkit.PromptSession(completer=words, complete_while_typing=True)
            return lambda: str(session.prompt("ask> "))
        case "toolbar", [toolkit]:
            toolbar = "a toolbar\nask> with a row like the prompt\nand one more"
            session = toolkit.PromptSession(bottom_toolbar=toolbar, rprompt="on the right")
            return lambda: str(session.prompt("ask> "))
        case "rows", [toolkit]:
            # Enter submits, although a pasted newline begins another row.
            bindings = import_module("prompt_toolkit.key_binding").KeyBindings()
            bindings.add("enter")(lambda event: event.current_buffer.validate_and_handle())
            session = toolkit.PromptSession(
                multiline=True, prompt_continuation="...> ", key_bindings=bindings, vi_mode=True
            )
            print("\x1b[H\x1b[J", end="")
            return lambda: str(session.prompt("two rows\nask> "))
        case "questionary", [questionary]:
            return lambda: str(questionary.text("ask").unsafe_ask())
        case "inquirer", [inquirer]:
            question = [inquirer.Text("line", message="ask")]
            return lambda: str(inquirer.prompt(question, raise_keyboard_interrupt=True)["line"])
        case _:
            import readline  # noqa: F401  # `input` edits with it from now on

            return lambda: input("ask> ")


def main(kind: str) -> None:
    """
    Answer lines until the end of input.
    """
    read = reader(kind)
    while True:
        line = read()
        print(answer_line(line.replace("\n", " ")), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
