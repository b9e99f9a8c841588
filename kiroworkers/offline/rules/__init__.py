"""
Map the tasks that the offline agent can do to their rules.

`story`, `acceptance` and `invest` hold the rules of one task each.  They build on modules
that understand a wish in English (`idea`, `sentence_patterns`, `action`), which in turn
build on lists of `words`, `verbs`, `people` and `kinds` of actions.
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
