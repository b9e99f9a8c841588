"""
Tests for `kiroworkers.tasks.template`.
"""

from __future__ import annotations

import contextlib
import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from jinja2.exceptions import SecurityError, UndefinedError
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import InvalidInput
from kiroworkers.tasks.template import MAX_ITEMS, SANDBOX, BadTemplate, Template, Value

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "idea": {"type": "string"},
        "items": {"type": "array", "items": {"type": "string"}},
        "people": {
            "type": ["array", "null"],
            "items": {"type": "object", "properties": {"name": {"type": "string"}}},
        },
        "story": {"type": "object", "properties": {"title": {"type": "string"}}},
        "free": {"type": "object"},
        "either": {"anyOf": [{"properties": {"a": {}}}], "properties": {"b": {}}},
    },
}

#: What templates can be put together from, well or badly.
PIECES = [
    *["a", " ", "\n", "/", "!", "@", "\\", "`"],
    *["{{ request.idea }}", "{{ layout }}", "{{- request -}}", "{# x #}", "{#- x -#}"],
    *["{% if request.idea %}", "{%- if not request.items -%}", "{% else %}", "{% endif %}"],
    *["{% for each in request.items %}", "{{ each }}", "{% endfor %}", "{%- endfor -%}"],
    *["{% raw %}/{% endraw %}", "{%+ raw %}\n{% endraw -%}"],
]


def rendered(source: str, limit: int | None = None, **request: Any) -> str:
    """
    The prompt of `source` for `request`.
    """
    return Template(source, SCHEMA).render(
        request, Value({"s": 1}), Value({"e": 2}), "in words", limit
    )


class RenderTests(SynchronousTestCase):
    """
    Tests for what templates show.
    """

    def test_values(self) -> None:
        """
        Values show as JSON, the layout in its words.
        """
        for source, prompt in [
            ("{{ request }}", '{"idea":"a \\"b\\"","items":["x","y"]}'),
            ("{{ schema }} {{ example }} {{ layout }}", '{"s":1} {"e":2} in words'),
            ("Idea: {{ request.idea }}.", 'Idea: "a \\"b\\"".'),
            ("{{ request['idea'] }}", '"a \\"b\\""'),
            ("{{ request.story.title }} {{ request.free.any.thing }}", "null null"),
            ("{{ request.either.a }} {{ request.either.b }}", "null null"),
            ("{{ request.items }}", '["x","y"]'),
        ]:
            self.assertEqual(rendered(source, idea='a "b"', items=["x", "y"]), prompt)

    def test_choices(self) -> None:
        """
        A template chooses by whether a field is there, and by what it is.
        """
        source = (
            "{% if request.idea == 'x' and not request.items %}x{% elif request.idea != 'z' %}y"
            "{% else %}z{% endif %}"
        )
        self.assertEqual([rendered(source, idea=each) for each in "xyz"], [*"xyz"])
        self.assertEqual(rendered(source, idea="x", items=["a"]), "y")

    def test_loops(self) -> None:
        """
        A loop shows each item of a list, and its other branch where there is none.
        """
        source = (
            "{% for each in request.people %}\n- {{ each.name }}\n{% else %}\nnobody\n{% endfor %}"
        )
        people = [{"name": "a"}, {"name": "b\n"}, {}]
        self.assertEqual(rendered(source, people=people), '- "a"\n- "b\\n"\n- null')
        nobody: dict[str, Any]
        for nobody in ({}, {"people": []}, {"people": None}):
            self.assertEqual(rendered(source, **nobody), "nobody")

    def test_bounds(self) -> None:
        """
        A request that makes too long a prompt is refused: by the task's limit, by
        the length of a list, and by what it is repeated to; and so is one that makes none.
        """
        self.assertEqual(rendered("{{ request.idea }}", 5, idea="abc"), '"abc"')
        loop = "{% for each in request.items %}{{ request }}{% endfor %}"
        cases: list[tuple[str, int | None, dict[str, Any]]] = [
            ("{{ request.idea }}", 4, {"idea": "abc"}),
            (loop, None, {"items": ["x"] * (MAX_ITEMS + 1)}),
            (loop, None, {"items": ["x" * 1000] * 500}),
            (loop, None, {}),
        ]
        for source, limit, request in cases:
            with self.assertRaises(InvalidInput):
                rendered(source, limit, **request)

    @given(st.text(), st.lists(st.text(), max_size=3))
    def test_values_are_opaque(self, idea: str, items: list[str]) -> None:
        """
        Whatever a client sends, each value is the JSON that it was, on its line.
        """
        source = (
            "{{ request }}\n{% if request.idea %}\n{{ request.idea }}\n{% endif %}\n"
            "{% for each in request.items %}\n{{ each }}\n{% endfor %}"
        )
        lines = rendered(source, idea=idea, items=items).split("\n")
        values = [{"idea": idea, "items": items}, *([idea] if idea else []), *items]
        self.assertEqual([json.loads(each) for each in lines], values)


class RefusalTests(SynchronousTestCase):
    """
    Tests for what is no template.
    """

    def refusal(self, source: str) -> str:
        with self.assertRaises(BadTemplate, msg=source) as raised:
            Template(source, SCHEMA)
        return str(raised.exception)

    def test_no_text_is_made_of_values(self) -> None:
        """
        Nothing can be called, filtered, joined, cut, set, imported or reached that
        is not JSON.
        """
        for source in [
            "{{ request.idea|safe }}",
            "{{ request.idea|replace('a', 'b') }}",
            "{{ request.idea ~ '' }}",
            "{{ request.idea + '' }}",
            "{{ request.idea * 9 }}",
            "{{ '%s' % request.idea }}",
            "{{ request.idea.upper() }}",
            "{{ request.idea[1:-1] }}",
            "{{ request.items[0] }}",
            "{{ request[request.idea] }}",
            "{{ '/quit' }}",
            "{{ request.idea or '/quit' }}",
            "{{ 'x' if request.idea else '/quit' }}",
            "{{ [request.idea] }}",
            "{{ range(9) }}",
            "{% for each in range(9) %}{% endfor %}",
            "{% for each in request.items recursive %}{{ loop(each) }}{% endfor %}",
            "{% for each in request.items if each %}{% endfor %}",
            "{% for a, b in request.items %}{% endfor %}",
            "{% for a in request.items %}{% for b in request.items %}{% endfor %}{% endfor %}",
            "{% set x = request.idea %}",
            "{% set x %}/quit{% endset %}",
            "{% macro x() %}{% endmacro %}",
            "{% include 'x' %}",
            "{% import 'x' as y %}",
            "{% extends 'x' %}",
            "{% block x %}{% endblock %}",
            "{% filter upper %}{% endfilter %}",
            "{% if request.idea is defined %}{% endif %}",
            "{% if request.idea in 'x' %}{% endif %}",
            "{% if 'x' == request.idea %}{% endif %}",
            "{% with x = request.idea %}{% endwith %}",
            "{{ request.__class__ }}",
            "{{ request.idea.__class__ }} {{ self }}",
        ]:
            self.refusal(source)

    def test_sandbox(self) -> None:
        """
        Also without the check of its words, a value has no field of Python's, is no
        text and cannot be called: what a template tries is an error, or null.
        """

        def attempt(source: str) -> str:
            return SANDBOX.from_string(source).render(request=Value({"idea": "x"}))

        self.assertEqual(attempt("{{ request.member }}{{ request.__class__ }}"), "nullnull")
        for source in ["{{ request.idea ~ 'x' }}", "{{ request.idea() }}", "{{ '/quit' }}",
                       "{{ request.idea + '' }}", "{{ nothing }}", "{{ ''.upper() }}"]:  # fmt: skip
            with self.assertRaises((SecurityError, UndefinedError, TypeError), msg=source):
                attempt(source)

    def test_mistakes_are_told_by_their_line(self) -> None:
        """
        A mistake is told by its line, also where the example does not come by.
        """
        for source, reason in [
            (
                "a\n{{ request.ide }}",
                "line 2: request has no field ide; its fields are idea, items",
            ),
            ("{% if request.idea %}{{ request.story.titel }}{% endif %}", "request.story has no"),
            (
                "{{ idea }}",
                "line 1: unknown name idea; the names are request, schema, example, layout",
            ),
            ("{{ layout.x }}", "line 1: layout has no fields"),
            ("{% for each in request.idea %}{% endfor %}", "line 1: request.idea is not a list"),
            (
                "{% for idea in request.items %}{{ idea.x }}{{ each }}{% endfor %}",
                "unknown name each",
            ),
            ("{% for layout in request.items %}{% endfor %}", "the name layout is already in use"),
            ("{% for each in request.people %}{{ each.nam }}{% endfor %}", "each has no field nam"),
            ("a\n\n{{ request.idea }", "line 3: unexpected '}'"),
            ("{{ request.idea", "line 1: unexpected end"),
            ("{% if request.idea %}", "line 1: Unexpected end"),
            ("x" * 70_000, "has more than 65536 characters"),
            ("{% if request.idea %}" * 150 + "{% endif %}" * 150, "nested too deeply"),
            ("{{ request.free" + ".a" * 20_000 + " }}", "nested too deeply"),
        ]:
            self.assertIn(reason, self.refusal(source))

    def test_text_that_a_terminal_acts_on(self) -> None:
        """
        No line of a template's own may be more than text to a terminal, whichever
        branch is taken.
        """
        for source, reason in [
            ("a\n /quit", "line 2 begins with /"),
            ("{% if request.idea %}a{% endif %}!ls", "line 1 begins with !"),
            ("{% if request.idea %}@x{% endif %}", "line 1 begins with @"),
            ("a\n{% for each in request.items %}/{{ each }}{% endfor %}", "line 2 begins with /"),
            ("{{ request }}\n/quit", "line 2 begins with /"),
            ("{{ request }}\n{% raw %}/{% endraw %}", "line 2 begins with /"),
            ("{{ request }}\n{# x #} {# y #}/", "line 2 begins with /"),
            ("a ` b", "may not contain a backtick"),
            ("a\\", "or end with a backslash"),
            ("{% if request.idea %}a \\ {% endif %}", "or end with a backslash"),
            ("a\x1b[201~", "line 1 contains U+001B"),
            ("a\nb\u202e", "line 2 contains U+202E"),
            ("a\tb", "line 1 contains U+0009"),
        ]:
            self.assertIn(reason, self.refusal(source))
        self.assertEqual(rendered("a/{{ request.idea }}/b@c!", idea="x"), 'a/"x"/b@c!')
        self.assertEqual(rendered("{# `/x` #}a", idea="x"), "a")

    @given(st.lists(st.sampled_from(PIECES), max_size=10))
    def test_what_is_accepted_is_safe(self, pieces: list[str]) -> None:
        """
        A template that is accepted makes a safe prompt of every request, whatever
        branches it takes.
        """
        try:
            template = Template("".join(pieces), SCHEMA)
        except BadTemplate:
            return
        for request in ({}, {"idea": "/x"}, {"items": ["!x", "y"]}, {"idea": "x", "items": ["@"]}):
            with contextlib.suppress(InvalidInput):
                prompt = template.render(request, Value({}), Value({}), "in words")
                for line in prompt.split("\n"):
                    self.assertFalse(line.lstrip().startswith(("!", "/", "@")), prompt)
                self.assertFalse(prompt.endswith("\\"), prompt)
                self.assertNotIn("`", prompt)
