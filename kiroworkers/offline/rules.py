"""
The tasks that the offline agent can do, and by which rules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from kiroworkers.offline.acceptance import generate_test
from kiroworkers.offline.invest import analyze_invest
from kiroworkers.offline.story import generate_story

RULES: Mapping[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "generate-story": generate_story,
    "generate-test": generate_test,
    "analyze-invest": analyze_invest,
}
