"""
Describe the failures of each HTTP status, from the catalogue.
"""

from __future__ import annotations

from collections.abc import Iterable

from kiroworkers.errors import CATALOGUE, FailureCode


def codes_by_status() -> dict[int, tuple[FailureCode, ...]]:
    """
    Return the codes of every status, in the order of the statuses.
    """
    return {
        status: tuple(code for code in CATALOGUE if code.status == status)
        for status in dict.fromkeys(code.status for code in CATALOGUE)
    }


def describe(codes: Iterable[FailureCode]) -> str:
    """
    Return what each of `codes` means, as one paragraph of Markdown.
    """
    return " ".join(f"`{code}`: {code.meaning}" for code in codes)
