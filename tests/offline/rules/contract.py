"""
What the answers have to look like, for the tests of this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from kiroworkers.tasks import builtin_tasks

_PHRASES = (
    "As a manager", "I want to", "so that", "because", "export", "stories", "and", "when", "users",
    "should", "within 5 seconds", "by status", "must not", "as CSV", ",", ".", "?", "up to 10",
    "Given", "then", "fast", "notify", "have", "be", "“", "\"", "\n", "- ", "a", "the", "every day",
)  # fmt: skip

#: Any text at all, and text that looks like English often enough to reach the rules.
texts = st.one_of(
    st.text(max_size=200),
    st.lists(st.one_of(st.sampled_from(_PHRASES), st.text(max_size=8)), max_size=25).map(" ".join),
)
titles = texts.filter(lambda text: bool(text.strip()))
stories = st.fixed_dictionaries(
    {"title": titles},
    optional={
        "asA": texts,
        "iWant": texts,
        "soThat": texts,
        "description": texts,
        "acceptanceCriteria": st.lists(texts, max_size=12),
        "storyPoint": st.integers(),
        "extra": st.none() | st.integers() | texts,
    },
)


def problems(task: str, answer: Mapping[str, Any]) -> list[str]:
    """
    What in `answer` does not fit the answer schema of `task`.
    """
    validator = Draft202012Validator(builtin_tasks()[task].answer_schema)
    return [each.message for each in validator.iter_errors(answer)]


def giants() -> list[str]:
    """
    Texts that are large in ways that tempt a rule to take long.
    """
    return [
        "a" * 200_000, "export the file and " * 10_000, "As a " + "a " * 60_000, '"' * 200_000,
        "when " * 40_000, "x\n" * 60_000, "Users should " * 15_000, "\x1b[31m" * 40_000,
        "a, " * 60_000,
    ]  # fmt: skip
