"""
Represent figures and their targets, and print them as tables.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen

#: The lines of a document that enclose the table.
BEGIN, END = ".. The table begins: python -m bench --write", ".. The table ends."


@frozen
class Limit:
    """
    Set a target for a figure: `most` or `least`, in the figure's unit.
    """

    most: float | None = None
    least: float | None = None

    def reached(self, value: float) -> bool:
        """
        Return whether `value` meets the target.
        """
        return (self.most is None or value <= self.most) and (
            self.least is None or value >= self.least
        )

    def __str__(self) -> str:
        if self.most is not None:
            return f"at most {self.most:g}"
        return f"at least {self.least:g}"


@frozen
class Figure:
    """
    Hold one measured figure.

    Attributes:
        what: What was measured.
        value: The figure, in `unit`.
        unit: The unit; ``x`` for a ratio.
        limit: The target, or None if the figure is only printed.
    """

    what: str
    value: float
    unit: str
    limit: Limit | None = None

    @property
    def verdict(self) -> str:
        """
        Return ``yes`` or ``no`` for a figure with a target, else an empty string.
        """
        if self.limit is None:
            return ""
        return "yes" if self.limit.reached(self.value) else "no"

    def __str__(self) -> str:
        return f"{_rounded(self.value)} {self.unit}"


@frozen
class Part:
    """
    Hold the figures of one benchmark, and the question they answer.
    """

    name: str
    question: str
    figures: Sequence[Figure]


def _rounded(number: float) -> str:
    """
    Return `number` with three significant digits.
    """
    if abs(number) >= 100:
        return f"{number:,.0f}"
    return f"{number:.{2 if abs(number) < 10 else 1}f}" if abs(number) >= 0.1 else f"{number:.3g}"


def text(part: Part) -> str:
    """
    Return the figures of a benchmark for a terminal.
    """
    lines = [f"{part.name}: {part.question}"]
    for figure in part.figures:
        target = f"{figure.limit}: {figure.verdict}" if figure.limit is not None else ""
        lines.append(f"  {figure.what:64} {figure!s:>14}   {target}".rstrip())
    return "\n".join(lines)


def table(parts: Iterable[Part], conditions: Mapping[str, str]) -> str:
    """
    Return the figures of all benchmarks for a document, below their conditions.
    """
    lines = [f"* {name}: {value}" for name, value in conditions.items()]
    lines += ["", ".. list-table::", "   :header-rows: 1", "   :widths: 14 56 14 16 10", ""]
    lines += _row("Name", "Measured", "Found", "To reach", "Reached")
    for part in parts:
        for number, figure in enumerate(part.figures):
            name = f"``{part.name}``" if number == 0 else ""
            limit = str(figure.limit) if figure.limit is not None else ""
            lines += _row(name, figure.what, str(figure), limit, figure.verdict)
    return "\n".join(lines) + "\n"


def _row(first: str, *rest: str) -> list[str]:
    return [f"   * - {first}".rstrip(), *(f"     - {cell}".rstrip() for cell in rest)]


def replaced(document: str, table: str) -> str:
    """
    Return `document` with `table` between the lines `BEGIN` and `END`.

    Raises:
        ValueError: The document does not have each line once, in this order.
    """
    before, begin, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end or BEGIN in rest or END in after:
        raise ValueError(f"the document needs one {BEGIN!r} and then one {END!r}")
    return f"{before}{BEGIN}\n\n{table}\n{END}{after}"
