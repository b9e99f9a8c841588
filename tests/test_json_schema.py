"""
Tests for `kiroworkers.json_schema`.
"""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from jsonschema.validators import extend
from rpds import HashTrieMap
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.json_schema import Validator, panics_as_errors, problems_of

BLANKS = "\t\n\x0b\x0c\r\x1c\x1d\x1e\x1f \x85\xa0\u1680\u2000\u200a\u2028\u2029\u202f\u205f\u3000"

TEXTS = st.text(st.sampled_from([*BLANKS, "a", "é", "\ufeff", "\u180e", "\ud800", "𝄞"]), max_size=3)
NUMBERS = st.sampled_from([0, 1, 3, -1, 1.0, 2.5, 10**400, -0.0, 2**63])
VALUES = st.recursive(
    st.none() | st.booleans() | TEXTS | NUMBERS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3)
    ),
    max_leaves=8,
)
TYPES = st.sampled_from(["object", "array", "string", "integer", "number", "boolean", "null"])
WORDS = {
    "type": TYPES | st.lists(TYPES, min_size=1, max_size=2, unique=True),
    "pattern": st.just(r"\S"),
    "minLength": st.integers(0, 2),
    "maxLength": st.integers(0, 2),
    "minItems": st.integers(0, 2),
    "maxItems": st.integers(0, 2),
    "minimum": st.sampled_from([0, 1, 2.5]),
    "maximum": st.sampled_from([0, 1, 2.5]),
    "enum": st.lists(TEXTS.filter(str.isprintable), min_size=1, max_size=2, unique=True),
    "required": st.lists(st.sampled_from("abc"), max_size=2, unique=True),
}
SCHEMAS = st.recursive(
    st.fixed_dictionaries({}, optional=WORDS),
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            **WORDS,
            "properties": st.dictionaries(st.sampled_from("abc"), inner, max_size=2),
            "items": inner,
            "additionalProperties": st.booleans() | inner,
        },
    ),
    max_leaves=4,
)


class ValidatorTests(SynchronousTestCase):
    """
    Tests for `Validator`.
    """

    @given(SCHEMAS, VALUES)
    def test_same(self, schema: dict[str, Any], value: Any) -> None:
        """
        Whatever the schema and the value, it finds the problems that jsonschema finds.
        """
        expected = problems_of(Draft202012Validator(schema), value)
        self.assertEqual(Validator(schema).problems(value), expected)

    def test_blank(self) -> None:
        """
        Blank is what Python says it is: each character that it strips, and no other.
        """
        validator = Validator({"pattern": r"\S"})
        for number in [*range(0xD800), *range(0xE000, 0x11000)]:
            blank = chr(number).isspace()
            self.assertEqual(bool(validator.problems(chr(number))), blank, hex(number))

    def test_other_words(self) -> None:
        """
        Words that a validator may read in its own way are left to jsonschema: its
        patterns are Python's.
        """
        cases: list[tuple[dict[str, Any], Any, Any]] = [
            ({"pattern": r"^\d$"}, "٣", "a"),
            ({"properties": {"a": {"pattern": r"\Aa\Z"}}}, {"a": "a"}, {"a": "a\n"}),
            ({"items": {"anyOf": [{"const": 1}, {"const": 2}]}}, [1], [3]),
            ({"$ref": "#/$defs/a", "$defs": {"a": {"type": "string"}}}, "a", 1),
            ({"additionalProperties": {"enum": [True]}}, {"a": True}, {"a": 1}),
        ]
        for schema, fits, not_fit in cases:
            validator = Validator(schema)
            self.assertEqual(validator.problems(fits), [], schema)
            self.assertEqual(len(validator.problems(not_fit)), 1, schema)

    def test_deep(self) -> None:
        """
        What is nested as deeply as JSON can be read is answered for, and ends nothing.
        """
        validator = Validator({"type": "object", "required": ["a"]})
        deep: Any = json.loads("[" * 900 + "]" * 900)
        self.assertEqual(validator.problems({"a": deep}), [])


class Incomparable:
    """
    A key that cannot be compared, of a map in a native library.
    """

    def __hash__(self) -> int:
        return 1

    def __eq__(self, other: object) -> bool:
        raise ValueError("not comparable")


def panic(*_: Any) -> Any:
    """
    Make a native library panic, as one does where Python's stack ends.
    """
    HashTrieMap({Incomparable(): 1}).get(Incomparable())


def interrupt(*_: Any) -> Any:
    """
    Interrupt, as Ctrl-C does.
    """
    raise KeyboardInterrupt


class NativeValidator:
    """
    A native validator that does `work` instead of its own.
    """

    def __init__(self, work: Any) -> None:
        self.is_valid = work


class PanicTests(SynchronousTestCase):
    """
    Native libraries that panic, with an exception that is no `Exception`.
    """

    def test_premise(self) -> None:
        """
        A panic gets past ``except Exception``.
        """
        with self.assertRaises(BaseException) as raised:
            panic()
        self.assertNotIsInstance(raised.exception, Exception)

    def test_native_validator(self) -> None:
        """
        Jsonschema decides where the native validator panics.
        """
        validator = Validator({"type": "integer"})
        self.patch(validator, "_fast", NativeValidator(panic))
        self.assertEqual(validator.problems(1), [])
        self.assertEqual([each.keyword for each in validator.problems("a")], ["type"])

    def test_below_jsonschema(self) -> None:
        """
        A value cannot be checked where what jsonschema uses panics.
        """
        panicking = extend(Draft202012Validator, {"type": panic})
        [problem] = problems_of(panicking({"type": "integer"}), 1)
        self.assertIn("cannot be checked", problem.sentence)

    def test_as_error(self) -> None:
        """
        Others see a `RecursionError`, which they know how to answer.
        """
        with self.assertRaises(RecursionError), panics_as_errors():
            panic()

    def test_interrupted(self) -> None:
        """
        Whoever interrupts a check ends it.
        """
        validator = Validator({"type": "integer"})
        self.patch(validator, "_fast", NativeValidator(interrupt))
        self.assertRaises(KeyboardInterrupt, validator.problems, 1)
        interrupted = extend(Draft202012Validator, {"type": interrupt})
        self.assertRaises(KeyboardInterrupt, problems_of, interrupted({"type": "integer"}), 1)
