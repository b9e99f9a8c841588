"""
The language that prompts are written in: a small part of Jinja, in its sandbox.

A prompt may show values, choose by them and go through lists::

    {{ request }}  {{ request.story.title }}
    {% if request.kind == "bug" %}…{% elif request.idea %}…{% else %}…{% endif %}
    {% for each in request.criteria %}…{{ each }}…{% endfor %}

That is all: no filters, no calls, no text made of text.  A value is opaque to the
sandbox (`Value`), and all that can be seen of it is one JSON literal, so what a
client sends can end no string, begin no line and hold no character that a
terminal acts on.  A field that may be absent and is shows as ``null``.

A template is checked as a whole, the branches that its example does not take
included: each field must be one that the input schema knows, and no line of its
own text may begin like a command.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any, TypeAlias

from attrs import define, field, frozen
from jinja2 import StrictUndefined, TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from kiroworkers.errors import InvalidInput
from kiroworkers.json_schema import kinds_of
from kiroworkers.tasks.literal import UNPRINTABLE, json_literal

#: Characters of a template, and items that one loop takes.
LONGEST = 65_536
MOST_ITEMS = 1_000

#: A prompt may be so many times as long as what went into it, and some.
_REPEATED = 10
_LEAST_ROOM = 1_000_000

_COMMANDS = ("!", "/", "@")
_ROOTS = ("request", "schema", "example", "layout")

#: Keywords that may bring in fields which `properties` does not list.
_COMPOSED = {"$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties"}

#: What is known of a value: its schema; None where it has no fields to show.
_Known: TypeAlias = Mapping[str, Any] | None


class BadTemplate(ValueError):
    """
    The template cannot be used; the message names the line and the reason.
    """


@define(eq=False)
class Value:
    """
    Something JSON, of which templates see its literal, whether it is there, its
    fields and its items.
    """

    _json: Any
    _literal: str | None = field(init=False, default=None)

    def __str__(self) -> str:
        if self._literal is None:
            self._literal = json_literal(self._json)
        return self._literal

    def __bool__(self) -> bool:
        return bool(self._json)

    def __eq__(self, other: object) -> bool:
        return bool(self._json == (other._json if isinstance(other, Value) else other))

    __hash__ = None  # type: ignore[assignment]

    def __iter__(self) -> Iterator[Value]:
        items = self._json if isinstance(self._json, list) else []
        if len(items) > MOST_ITEMS:
            raise InvalidInput("", f"A list has more than {MOST_ITEMS} items")
        return map(Value, items)

    def member(self, name: str) -> Value:
        """
        The field of this name; null where there is none.
        """
        return Value(self._json.get(name) if isinstance(self._json, dict) else None)


@frozen
class Words:
    """
    Words of ours, shown as they are.
    """

    text: str

    def __str__(self) -> str:
        return self.text


def _shown(value: object) -> object:
    """
    The only way from an expression into a prompt.
    """
    if not isinstance(value, Value | Words):
        raise TypeError(f"{type(value).__name__} is not for prompts")
    return value


class _Sandbox(ImmutableSandboxedEnvironment):
    """
    Fields of values are JSON's, never Python's, and nothing can be called.
    """

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Value) and isinstance(argument, str):
            return obj.member(argument)
        return self.undefined(obj=obj, name=str(argument))

    def is_safe_callable(self, obj: Any) -> bool:
        return False


def _new_sandbox() -> _Sandbox:
    sandbox = _Sandbox(
        autoescape=False,
        undefined=StrictUndefined,
        finalize=_shown,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    for names in (sandbox.filters, sandbox.tests, sandbox.globals):
        names.clear()
    return sandbox


SANDBOX = _new_sandbox()


@frozen
class Template:
    """
    The template `source`, for requests that fit `input_schema`.

    Raises:
        BadTemplate: when it cannot be used.
    """

    source: str
    input_schema: Mapping[str, Any] = field(factory=dict)
    _compiled: Any = field(init=False, eq=False, repr=False)

    @_compiled.default
    def _compile(self) -> Any:
        if len(self.source) > LONGEST:
            raise BadTemplate(f"has more than {LONGEST} characters")
        try:
            tree = SANDBOX.parse(self.source)
            _Checker().body(tree.body, {"request": self.input_schema, **dict.fromkeys(_ROOTS[1:])})
            return SANDBOX.from_string(tree)
        except TemplateSyntaxError as problem:
            raise BadTemplate(f"line {problem.lineno}: {problem.message}") from None
        except (RecursionError, SyntaxError, MemoryError):
            # What Python says of the code that Jinja makes of it.
            raise BadTemplate("is nested too deeply") from None

    def render(
        self,
        request: Mapping[str, Any],
        schema: Value,
        example: Value,
        layout: str,
        limit: int | None = None,
    ) -> str:
        """
        The prompt, without white space around it.

        Args:
            layout: words.
            limit: so many characters at most.

        Raises:
            InvalidInput: when the request makes too long a prompt, or none.
            BadTemplate: if the prompt would mean more to a terminal than its
                text.
        """
        values = {"request": Value(request), "schema": schema, "example": example}
        room = _LEAST_ROOM + _REPEATED * sum(len(str(each)) for each in values.values())
        if limit is not None:
            room = min(room, limit)
        pieces: list[str] = []
        for piece in self._compiled.generate(**values, layout=Words(layout)):
            room -= len(piece)
            if room < 0:
                raise InvalidInput("", "The request makes too long a prompt")
            pieces.append(piece)
        prompt = "".join(pieces).strip()
        if not prompt:
            raise InvalidInput("", "The request makes an empty prompt")
        problem = _problem_of(prompt)
        if problem is not None:
            raise BadTemplate(problem)
        return prompt


class _Checker:
    """
    Walks a template, and refuses what is not in the language.
    """

    def body(self, body: list[nodes.Node], scope: Mapping[str, _Known]) -> None:
        """
        Args:
            scope: the names there are.
        """
        for node in body:
            match node:
                case nodes.Output():
                    self._output(node, scope)
                case nodes.If():
                    self._test(node.test, scope)
                    for branch in (node.body, node.elif_, node.else_):
                        self.body([*branch], scope)
                case nodes.For(target=nodes.Name()) if not (node.test or node.recursive):
                    self._loop(node, scope)
                case _:
                    raise _refused(node)

    def _output(self, node: nodes.Output, scope: Mapping[str, _Known]) -> None:
        at_start = True
        for part in node.nodes:
            if isinstance(part, nodes.TemplateData):
                self._text(part, at_start)
                _, newline, last = part.data.rpartition("\n")
                at_start = not last.strip() and (at_start or bool(newline))
            else:
                self._path(part, scope)
                # A literal is never empty: what follows it begins no line.
                at_start = False

    def _loop(self, node: nodes.For, scope: Mapping[str, _Known]) -> None:
        assert isinstance(node.target, nodes.Name), "matched before"
        if "" in scope:
            raise BadTemplate(f"line {node.lineno}: a loop in a loop is not in the language")
        if node.target.name in scope:
            raise BadTemplate(f"line {node.lineno}: the name {node.target.name} is taken")
        known = self._path(node.iter, scope)
        if known is None or "array" not in kinds_of(known, "array"):
            raise BadTemplate(f"line {node.lineno}: {_spelt(node.iter)} is no list")
        items = known.get("items")
        item = items if isinstance(items, Mapping) else {}
        self.body(node.body, {**scope, node.target.name: item, "": None})
        self.body(node.else_, scope)

    def _test(self, node: nodes.Node, scope: Mapping[str, _Known]) -> None:
        match node:
            case nodes.Not():
                self._test(node.node, scope)
            case nodes.And() | nodes.Or():
                self._test(node.left, scope)
                self._test(node.right, scope)
            case nodes.Compare(ops=[nodes.Operand(op="eq" | "ne", expr=nodes.Const())]):
                self._path(node.expr, scope)
            case _:
                self._path(node, scope)

    def _path(self, node: nodes.Node, scope: Mapping[str, _Known]) -> _Known:
        """
        What is known of the value that `node` names.
        """
        match node:
            case nodes.Name(name=name):
                if name not in scope:
                    there = ", ".join(each for each in scope if each)
                    raise BadTemplate(f"line {node.lineno}: there is no {name}; there are {there}")
                return scope[name]
            case nodes.Getattr(node=inner, attr=name):
                return self._member(inner, name, scope)
            case nodes.Getitem(node=inner, arg=nodes.Const(value=str() as name)):
                return self._member(inner, name, scope)
        raise _refused(node)

    def _member(self, node: nodes.Node, name: str, scope: Mapping[str, _Known]) -> _Known:
        known = self._path(node, scope)
        if known is None:
            raise BadTemplate(f"line {node.lineno}: {_spelt(node)} has no fields")
        there = known.get("properties", {})
        if name in there:
            return there[name] if isinstance(there[name], Mapping) else {}
        if there and not _COMPOSED & set(known):
            fields = ", ".join(there)
            raise BadTemplate(
                f"line {node.lineno}: {_spelt(node)} has no field {name}; there are {fields}"
            )
        return {}

    def _text(self, node: nodes.TemplateData, at_start: bool) -> None:
        for number, line in enumerate(node.data.split("\n")):
            if (number or at_start) and line.lstrip().startswith(_COMMANDS):
                mark = line.lstrip()[0]
                where = node.lineno + number
                raise BadTemplate(f"line {where} begins with {mark}, a command in a terminal")
        for number, line in enumerate(node.data.split("\n")):
            strange = [each for each in line if unicodedata.category(each) in UNPRINTABLE]
            if strange:
                where = node.lineno + number
                raise BadTemplate(
                    f"line {where} holds U+{ord(strange[0]):04X}, no printed character"
                )
        problem = _problem_of(node.data, lines=False)
        if problem is not None:
            raise BadTemplate(problem)


def _problem_of(text: str, lines: bool = True) -> str | None:
    """
    Why a terminal would not take `text`, or an end of it, as text alone.
    """
    if lines and any(line.lstrip().startswith(_COMMANDS) for line in text.split("\n")):
        return "a line begins with !, / or @, a command in a terminal"
    if "`" in text or text.rstrip().endswith("\\"):
        return "may hold no backtick and not end in a backslash"
    return None


def _refused(node: nodes.Node) -> BadTemplate:
    kind = type(node).__name__.lower()
    return BadTemplate(
        f"line {node.lineno}: {kind} is not in the language of prompts, which is names, "
        "their fields, if and for"
    )


def _spelt(node: nodes.Node) -> str:
    match node:
        case nodes.Name(name=name):
            return str(name)
        case nodes.Getattr(node=inner, attr=name):
            return f"{_spelt(inner)}.{name}"
        case nodes.Getitem(node=inner, arg=nodes.Const(value=name)):
            return f"{_spelt(inner)}.{name}"
    return "this"
