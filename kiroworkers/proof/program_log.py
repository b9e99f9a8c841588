"""
Collect the log of a program, and wait for what it says.
"""

from __future__ import annotations

import re
from codecs import getincrementaldecoder

from attrs import frozen
from twisted.internet.defer import Deferred

#: How many lines are kept.
_MAX_LINES = 5000


class ProgramEnded(Exception):
    """
    Raised when the program ended before it said what was awaited.
    """


@frozen(eq=False)
class _Awaited:
    pattern: re.Pattern[str]
    line: Deferred[re.Match[str]]


class ProgramLog:
    """
    Collect the lines that a program prints.

    Attributes:
        count: The number of lines so far; a mark for `wait`.
    """

    def __init__(self) -> None:
        self.count = 0
        self._decoder = getincrementaldecoder("utf-8")("replace")
        self._lines: list[str] = []
        self._rest = ""
        self._awaited: list[_Awaited] = []

    def feed(self, data: bytes) -> None:
        """
        Add output, which may be cut anywhere.
        """
        *lines, self._rest = (self._rest + self._decoder.decode(data)).split("\n")
        for line in lines:
            self._lines.append(line)
            self.count += 1
            for awaited in list(self._awaited):
                match = awaited.pattern.search(line)
                # One that has fired may have cancelled others.
                if match is not None and awaited in self._awaited:
                    self._awaited.remove(awaited)
                    awaited.line.callback(match)
        del self._lines[:-_MAX_LINES]

    def end(self, reason: str) -> None:
        """
        Note that the program has ended: nothing that is awaited will come.
        """
        while self._awaited:
            # One that fails may cancel others.
            self._awaited.pop(0).line.errback(ProgramEnded(reason))

    def wait(self, pattern: str, since: int) -> Deferred[re.Match[str]]:
        """
        Return a Deferred that fires with the first match of `pattern` in a line.

        Args:
            pattern: A regular expression.
            since: The number of lines to disregard; see `count`.
        """

        def forget(_: Deferred[re.Match[str]]) -> None:
            self._awaited.remove(awaited)

        awaited = _Awaited(re.compile(pattern), Deferred(forget))
        for line in self.since(since):
            match = awaited.pattern.search(line)
            if match is not None:
                awaited.line.callback(match)
                return awaited.line
        self._awaited.append(awaited)
        return awaited.line

    def since(self, mark: int) -> list[str]:
        """
        Return the lines that came after the first `mark`.
        """
        dropped = self.count - len(self._lines)
        return self._lines[max(0, mark - dropped) :]

    def tail(self, lines: int) -> list[str]:
        """
        Return the last lines.
        """
        return self._lines[-lines:]
