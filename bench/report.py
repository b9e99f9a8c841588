"""
Figures, what they are to reach, and the table of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

#: Between these lines of a document stands the table, and nothing else.
BEGIN, END = ".. The table begins: python -m bench --write", ".. The table ends."


@frozen
class Limit:
    """
    What a figure is to reach: `most` or `least`, in the figure's unit.
    """

    most: float | None = None
    least: float | None = None

    def reached(self, found: float) -> bool:
        """
        Is `found` good enough?
        """
        return (self.most is None or found <= self.most) and (
            self.least is None or found >= self.least
        )

    def __str__(self) -> str:
        if self.most is not None:
            return f"at most {self.most:g}"
        return f"at least {self.least:g}"


@frozen
class Figure:
    """
    One thing that was measured.

    Attributes:
        what: what it is of.
        found: in `unit`.
        unit: ``x`` for a ratio.
        limit: what it is to reach; None where it is only printed.
    """

    what: str
    found: float
    unit: str
    limit: Limit | None = None

    @property
    def verdict(self) -> str:
        """
        Was it reached?  Nothing where nothing was to be.
        """
        if self.limit is None:
            return ""
        return "yes" if self.limit.reached(self.found) else "no"

    def __str__(self) -> str:
        return f"{_rounded(self.found)} {self.unit}"


@frozen
class Part:
    """
    One benchmark's figures, and the question they answer.
    """

    name: str
    question: str
    figures: Sequence[Figure]


def _rounded(number: float) -> str:
    """
    `number` with three digits that say something.
    """
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.{2 if abs(number) < 10 else 1}f}" if abs(number) >= 0.1 else f"{number:.3g}"


def text(part: Part) -> str:
    """
    For a terminal.
    """
    lines = [f"{part.name}: {part.question}"]
    for each in part.figures:
        target = f"{each.limit}: {each.verdict}" if each.limit is not None else ""
        lines.append(f"  {each.what:64} {each!s:>14}   {target}".rstrip())
    return "\n".join(lines)


def table(parts: Iterable[Part], conditions: Mapping[str, str]) -> str:
    """
    For a document: the figures of all `parts`, under what they were measured with.
    """
    lines = [f"* {name}: {value}" for name, value in conditions.items()]
    lines += ["", ".. list-table::", "   :header-rows: 1", "   :widths: 14 56 14 16 10", ""]
    lines += _row("Name", "Measured", "Found", "To reach", "Reached")
    for part in parts:
        for number, each in enumerate(part.figures):
            name = f"``{part.name}``" if number == 0 else ""
            limit = str(each.limit) if each.limit is not None else ""
            lines += _row(name, each.what, str(each), limit, each.verdict)
    return "\n".join(lines) + "\n"


def _row(first: str, *rest: str) -> list[str]:
    return [f"   * - {first}".rstrip(), *(f"     - {each}".rstrip() for each in rest)]


def replaced(document: str, table: str) -> str:
    """
    `document` with `table` between `BEGIN` and `END`.

    Raises:
        ValueError: if they are not there, once each and in this order.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"the document needs one {BEGIN!r} and then one {END!r}")
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"
