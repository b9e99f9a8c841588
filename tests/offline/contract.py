"""
Requests, and checks of answers against the schemas, for the tests of the rules.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from kiroworkers.tasks import builtin_tasks

_PHRASES = (
    "As a manager", "I want to", "so that", "because", "export", "and", "when", "users", "Only",
    "should", "within 5 seconds", "must not", ",", ".", "?", "Given", "then", "fast", "for", "als",
    "“", "\"", "\n", "- ", "a", "the", "。", ":", "#", "> ", "```\n",
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
_VALIDATORS = {
    name: Draft202012Validator(task.answer_schema) for name, task in builtin_tasks().items()
}


def problems(task: str, answer: Mapping[str, Any]) -> list[str]:
    """
    Return the violations of the answer schema of `task` by `answer`.
    """
    return [error.message for error in _VALIDATORS[task].iter_errors(answer)]


def giants() -> list[str]:
    """
    Return large texts that could make a rule slow.
    """
    return [
        "a" * 200_000, "export the file and " * 10_000, "As a " + "a " * 60_000, '"' * 200_000,
        "when " * 40_000, "x\n" * 60_000, "Users should " * 15_000, "\x1b[31m" * 40_000,
        "a, " * 60_000,
    ]  # fmt: skip
