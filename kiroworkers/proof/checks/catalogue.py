"""
List all checks in the order in which they run.
"""

from __future__ import annotations

from collections.abc import Collection

from kiroworkers.proof.checks import (
    disk,
    endurance,
    exact,
    fresh,
    interrupted,
    long_prompts,
    memory,
    ready,
    tools,
)
from kiroworkers.proof.checks.check import Check

#: Every check.  The first starts the server; the last ones look back on all others.
ALL_CHECKS: tuple[Check, ...] = (
    *ready.CHECKS,
    *exact.CHECKS,
    *fresh.CHECKS,
    *memory.CHECKS,
    *interrupted.CHECKS,
    *tools.CHECKS,
    *long_prompts.CHECKS,
    *endurance.CHECKS,
    *fresh.LAST_CHECKS,
    *disk.CHECKS,
)


class UnknownCheck(ValueError):
    """
    Raised when there is no check of a name; the message lists the names.
    """


def select(only: Collection[str], skip: Collection[str]) -> tuple[Check, ...]:
    """
    Return the checks to run, in their order; the first one always runs.

    Args:
        only: Names of checks or of groups; empty for all.
        skip: Names of checks or of groups to leave out.

    Raises:
        UnknownCheck: If there is no check or group of a name.
    """
    known = {name for check in ALL_CHECKS for name in (check.name, check.group)}
    for name in (*only, *skip):
        if name not in known:
            groups = dict.fromkeys(check.group for check in ALL_CHECKS)
            raise UnknownCheck(f"there is no check {name!r}; the checks are {', '.join(groups)}")

    def is_in(check: Check, names: Collection[str]) -> bool:
        return check.name in names or check.group in names

    return tuple(
        check
        for check in ALL_CHECKS
        if check is ALL_CHECKS[0] or ((not only or is_in(check, only)) and not is_in(check, skip))
    )
