"""
The tasks that the offline agent can do, and by which rules.

One module for each task (`story`, `acceptance`, `invest`); below them the reading
of English wishes (`idea`, `frames`, `action`) on lists of `words`, `verbs`,
`people` and `kinds` of actions.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kiroworkers.offline.rules.acceptance import generate_test
from kiroworkers.offline.rules.invest import analyze_invest
from kiroworkers.offline.rules.story import generate_story

RULES: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "generate-story": generate_story,
    "generate-test": generate_test,
    "analyze-invest": analyze_invest,
}
