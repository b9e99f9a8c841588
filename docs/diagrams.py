"""
Write the state machines' diagrams into the documentation.

Run ``python docs/diagrams.py`` after a change of a state machine.  It replaces what is
between the marks ``.. diagram: NAME`` and ``.. end of diagram`` in `architecture.rst`;
``tests/test_diagrams.py`` fails while the page does not show the machines as they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from inspect import getdoc
from pathlib import Path
from types import MappingProxyType

from kiroworkers.pool.worker import MACHINE, WorkerState
from kiroworkers.session.session import ENDS, TABLE, Input

PAGE = Path(__file__).with_name("architecture.rst")

_BLOCK = re.compile(r"(?<=^\.\. diagram: )(\w+)\n.*?(?=^\.\. end of diagram$)", re.M | re.S)

#: A state, an input that it accepts, and the state that follows.
Transition = tuple[str, str, str]


def draw(
    transitions: Iterable[Transition], meanings: Mapping[str, str] = MappingProxyType({})
) -> str:
    """
    Return a text diagram of `transitions`, in the order in which they are given.

    The inputs that lead from one state to the same next state share an arrow.

    Args:
        transitions: The transitions.
        meanings: A sentence about each state, by the state's name.  A state that it has is
            drawn even if nothing follows it.
    """
    arrows: dict[str, dict[str, list[str]]] = {state: {} for state in meanings}
    for state, name, following in transitions:
        arrows.setdefault(state, {}).setdefault(following, []).append(name)
    labels = [", ".join(names) for ends in arrows.values() for names in ends.values()]
    width = max(map(len, labels))
    lines: list[str] = []
    for state, ends in arrows.items():
        lines += ["", f"{state}: {meanings[state]}" if state in meanings else state]
        for number, (following, names) in enumerate(ends.items(), 1):
            corner = "└" if number == len(ends) else "├"
            label = ", ".join(names)
            lines.append(f"  {corner}─ {label} {'─' * (width - len(label))}─▶ {following}")
    return "\n".join(lines[1:])


def worker() -> str:
    """
    Return the diagram of the worker's machine, without the inputs that change no state.
    """
    order = [state.value for state in WorkerState]
    transitions = sorted(
        (order.index(old.name), order.index(new.name), name)
        for old, name, new, _ in MACHINE.__automat_automaton__.allTransitions()
        if old is not new
    )
    meanings = re.findall(r"^ +([A-Z]+): (.+)$", getdoc(WorkerState) or "", re.M)
    return draw(
        ((order[old], name, order[new]) for old, new, name in transitions),
        {name.lower(): meaning for name, meaning in meanings},
    )


def session() -> str:
    """
    Return the diagram of the session's table, without the triggers that change no state.

    Triggers that need the same condition to lead to the same state share a label.
    """
    labels: dict[tuple[str, str, str], list[str]] = {}
    for state, triggers in TABLE.items():
        for trigger, rows in triggers.items():
            name = trigger.value if isinstance(trigger, Input) else trigger.__name__
            for number, row in enumerate(rows):
                if row.next_state not in (None, state) and trigger not in ENDS:
                    condition = " [otherwise]" if number else ""
                    if row.condition is not None:
                        condition = f" [{row.condition.label}]"
                    key = (state.value, condition, row.next_state.value)
                    labels.setdefault(key, []).append(name)
    transitions = [
        (old, "/".join(names) + condition, new) for (old, condition, new), names in labels.items()
    ]
    for trigger, rows in ENDS.items():
        for row in rows:
            transitions.append(("every state", trigger.value, row.next_state.value))
    return draw(transitions)


#: The function that draws each diagram, by its name in the marks.
DIAGRAMS: Mapping[str, Callable[[], str]] = {
    "session": session,
    "worker": worker,
}


def fill(page: str) -> str:
    """
    Return the text of `page` with every diagram between its marks.
    """

    def block(match: re.Match[str]) -> str:
        lines = DIAGRAMS[match[1]]().splitlines()
        body = "".join(f"   {line}".rstrip() + "\n" for line in lines)
        return f"{match[1]}\n\n::\n\n{body}\n"

    return _BLOCK.sub(block, page)


def main() -> None:
    """
    Write the diagrams into the page.
    """
    PAGE.write_text(fill(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
