"""
Make a value that fits a JSON Schema, for tasks that the rules do not know.

The example of a task, if there is one, is adapted.  Otherwise the values are made up.  The
keywords that schemas of answers usually have are obeyed; the server checks the result.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

#: From this depth on, what is optional is left out, so that recursive schemas end.
_MAX_DEPTH = 6

_FORMATS = {
    "date": "2026-01-31", "date-time": "2026-01-31T12:00:00Z", "time": "12:00:00Z",
    "email": "sample@example.com", "uri": "https://example.com/sample", "ipv4": "192.0.2.1",
    "uuid": "00000000-0000-4000-8000-000000000000", "hostname": "example.com",
}  # fmt: skip
#: Texts that fit the patterns of many schemas.
_TEXTS = (
    "Sample text", "sample", "Sample", "A", "a1", "ABC-123", "1", "#336699", "1.0.0", "EUR",
    *_FORMATS.values(),
)  # fmt: skip


def sample(
    schema: Mapping[str, Any], example: Any = None, request: Mapping[str, Any] | None = None
) -> Any:
    """
    Return a value for `schema` that differs from `example`, if one can be found.

    Args:
        schema: The schema of the answer.
        example: The answer of the task's example; None for none.
        request: The input; a list of texts takes its items from the list of this name, if
            the input has one.
    """
    maker = _Maker(schema, request or {})
    made = maker.make(schema, example, 0)
    return made if made != example else maker.make(schema, None, 0)


class _Maker:
    def __init__(self, root: Mapping[str, Any], request: Mapping[str, Any]) -> None:
        self._root = root
        self._request = request

    def make(self, schema: Any, example: Any, depth: int) -> Any:
        # An object that must contain itself without end has no value.
        schema = self._joined(schema if depth < 10 * _MAX_DEPTH else {"const": None}, 0)
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return next((item for item in schema["enum"] if item != example), schema["enum"][0])
        kind = schema.get("type") or ("object" if "properties" in schema else "string")
        if isinstance(kind, list):
            kind = next((name for name in kind if name != "null"), "null")
        match kind:
            case "object":
                return self._object(schema, example if isinstance(example, dict) else {}, depth)
            case "array":
                return self._array(schema, example if isinstance(example, list) else [], depth)
            case "integer" | "number":
                return _number(schema, example, kind == "integer")
            case "boolean":
                return example is not True
            case "null":
                return None
        return _text(schema, example if isinstance(example, str) else None)

    def _joined(self, given: Any, depth: int) -> dict[str, Any]:
        """
        Return the schema `given` with what it refers to, and with its parts, as one object.
        """
        schema: dict[str, Any] = dict(given) if isinstance(given, dict) and depth < 20 else {}
        parts = [
            *schema.get("allOf", ()),
            *schema.get("anyOf", ())[:1],
            *schema.get("oneOf", ())[:1],
        ]
        reference = schema.get("$ref")
        if isinstance(reference, str) and reference.startswith("#"):
            target: Any = self._root
            for name in reference[1:].split("/")[1:]:
                name = name.replace("~1", "/").replace("~0", "~")
                target = target.get(name) if isinstance(target, dict) else None
            parts.append(target)
        for part in parts:
            part = self._joined(part, depth + 1)
            members = {**part.get("properties", {}), **schema.get("properties", {})}
            needed = [*part.get("required", ()), *schema.get("required", ())]
            schema = {**part, **schema, "required": needed}
            schema.update({"properties": members} if members else {})
        return schema

    def _object(self, schema: Mapping[str, Any], example: Mapping[str, Any], depth: int) -> Any:
        properties, required = schema.get("properties") or {}, schema.get("required") or ()
        made = {}
        for name in dict.fromkeys([*properties, *required]):
            choices = self._request.get(name)
            if name not in required and (depth >= _MAX_DEPTH or (example and name not in example)):
                continue
            if isinstance(choices, list) and all(isinstance(item, str) for item in choices):
                made[name] = choices[:1]
            else:
                made[name] = self.make(properties.get(name), example.get(name), depth + 1)
        return made

    def _array(self, schema: Mapping[str, Any], example: list[Any], depth: int) -> Any:
        least = schema.get("minItems", 0)
        count = max(least, min(len(example) or 1, schema.get("maxItems", 2)))
        if depth >= _MAX_DEPTH and not least:
            return []
        examples = [*example, *[None] * count][:count]
        items = [self.make(schema.get("items"), item, depth + 1) for item in examples]
        if schema.get("uniqueItems"):
            items = [item for number, item in enumerate(items) if item not in items[:number]]
        return items


def _number(schema: Mapping[str, Any], example: Any, whole: bool) -> Any:
    above, below = schema.get("exclusiveMinimum"), schema.get("exclusiveMaximum")
    low, high = schema.get("minimum", above), schema.get("maximum", below)
    step = schema.get("multipleOf") or 1
    candidates = [] if not isinstance(example, int | float) else [example + step, example - step]
    candidates += [step, 0]
    candidates += [] if low is None else [low, low + step, (low // step + 1) * step]
    candidates += [] if high is None else [high, high - step, high // step * step]
    for value in candidates:
        fits = (low is None or value >= low) and (high is None or value <= high)
        if (
            fits
            and value not in (above, below)
            and value % step == 0
            and (not whole or value == int(value))
        ):
            return int(value) if whole else value
    return 0 if low is None else low


def _text(schema: Mapping[str, Any], example: str | None) -> str:
    least, most = schema.get("minLength", 0), schema.get("maxLength", 10_000)
    candidates = [] if example is None else [f"{example} (sample)"]
    if schema.get("format") in _FORMATS:
        candidates = [_FORMATS[schema["format"]]]
    candidates += _TEXTS
    for text in [*candidates, *(text.ljust(least, "x")[:most] for text in candidates)]:
        if least <= len(text) <= most and _matches(schema.get("pattern"), text):
            return text
    return example or _TEXTS[0]


def _matches(pattern: Any, text: str) -> bool:
    try:
        return not isinstance(pattern, str) or re.search(pattern, text) is not None
    except re.error:
        return False
