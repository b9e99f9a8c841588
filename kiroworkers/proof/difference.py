"""
Find where two texts differ.
"""

from __future__ import annotations


def first_difference(expected: str, actual: str) -> int:
    """
    Return the first place at which the texts differ; the length of the shorter one if none does.
    """
    pairs = enumerate(zip(expected, actual, strict=False))
    shorter = min(len(expected), len(actual))
    return next((place for place, (one, other) in pairs if one != other), shorter)
