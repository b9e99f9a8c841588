"""
Render prompts written in a small, sandboxed part of Jinja.

A prompt may print values, test them and loop over lists::

    {{ request }}  {{ request.story.title }}
    {% if request.kind == "bug" %}…{% elif request.idea %}…{% else %}…{% endif %}
    {% for criterion in request.criteria %}…{{ criterion }}…{% endfor %}

There is nothing else: no filters, no calls, no string operations.  A value is opaque
to the sandbox (`Value`) and prints as one JSON literal, so client text cannot end a
string, begin a line or contain a character that a terminal acts on.  An optional
field that is absent prints as ``null``.

A template is checked as a whole, including branches that its example does not take:
each field must exist in the input schema, and no line of the template's own text may
begin like a command.
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

#: The maximum length of a template (characters), and of a list in a loop (items).
MAX_LENGTH = 65_536
MAX_ITEMS = 1_000

#: The maximum length of a prompt: a multiple of its values' length, plus a constant.
_LENGTH_FACTOR = 10
_LENGTH_ALLOWANCE = 1_000_000

#: A line that begins with one of these is a command to a terminal agent.
_COMMAND_MARKS = ("!", "/", "@")
_ROOTS = ("request", "schema", "example", "layout")

#: Keywords that may add fields which `properties` does not list.
_COMPOSING_KEYWORDS = {"$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "if", "patternProperties"}

#: The schema of a value; None if the value has no fields to print.
_Schema: TypeAlias = Mapping[str, Any] | None


class BadTemplate(ValueError):
    """
    Raised when a template cannot be used; the message names the line and the reason.
    """


@define(eq=False)
class Value:
    """
    Wrap a JSON value for templates.

    Templates can print its literal, test whether it is truthy, and reach its fields
    and items.
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
        if len(items) > MAX_ITEMS:
            raise InvalidInput("", f"A list has more than {MAX_ITEMS} items")
        return map(Value, items)

    def member(self, name: str) -> Value:
        """
        Return the field `name`, or null if there is none.
        """
        return Value(self._json.get(name) if isinstance(self._json, dict) else None)


@frozen
class TrustedText:
    """
    Wrap text from the server itself, which prints as it is.
    """

    text: str

    def __str__(self) -> str:
        return self.text


def _finalize(value: object) -> object:
    """
    Return `value` if prompts may print it; every expression passes through here.
    """
    if not isinstance(value, Value | TrustedText):
        raise TypeError(f"a prompt cannot print {type(value).__name__}")
    return value


class _Sandbox(ImmutableSandboxedEnvironment):
    """
    Resolve attributes to JSON fields, never to Python attributes, and forbid calls.
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
        finalize=_finalize,
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
    Hold a compiled template.

    Attributes:
        source: The text of the template.
        input_schema: The JSON Schema of the requests that it will render.

    Raises:
        BadTemplate: The template cannot be used.
    """

    source: str
    input_schema: Mapping[str, Any] = field(factory=dict)
    _compiled: Any = field(init=False, eq=False, repr=False)

    @_compiled.default
    def _compile(self) -> Any:
        if len(self.source) > MAX_LENGTH:
            raise BadTemplate(f"has more than {MAX_LENGTH} characters")
        try:
            tree = SANDBOX.parse(self.source)
            _Checker().check(tree.body, {"request": self.input_schema, **dict.fromkeys(_ROOTS[1:])})
            return SANDBOX.from_string(tree)
        except TemplateSyntaxError as problem:
            raise BadTemplate(f"line {problem.lineno}: {problem.message}") from None
        except (RecursionError, SyntaxError, MemoryError):
            # Python cannot compile the code that Jinja generates.
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
        Return the prompt, without surrounding white space.

        Args:
            request: The accepted request.
            schema: The JSON Schema of the answer.
            example: The example answer.
            layout: Words that say how to lay out the answer.
            limit: The maximum length in characters, or None.

        Raises:
            InvalidInput: The prompt would be too long, or empty.
            BadTemplate: A terminal would take part of the prompt for a command.
        """
        values = {"request": Value(request), "schema": schema, "example": example}
        size = sum(len(str(value)) for value in values.values())
        remaining = _LENGTH_ALLOWANCE + _LENGTH_FACTOR * size
        if limit is not None:
            remaining = min(remaining, limit)
        pieces: list[str] = []
        for piece in self._compiled.generate(**values, layout=TrustedText(layout)):
            remaining -= len(piece)
            if remaining < 0:
                raise InvalidInput("", "The request makes the prompt too long")
            pieces.append(piece)
        prompt = "".join(pieces).strip()
        if not prompt:
            raise InvalidInput("", "The request makes the prompt empty")
        problem = _terminal_problem(prompt)
        if problem is not None:
            raise BadTemplate(problem)
        return prompt


class _Checker:
    """
    Walk a template's syntax tree and reject whatever is not part of the language.
    """

    def check(self, body: list[nodes.Node], scope: Mapping[str, _Schema]) -> None:
        """
        Check the nodes of a template, a branch or a loop.

        Args:
            body: The nodes.
            scope: The names that may be used, each with its schema.

        Raises:
            BadTemplate: A node is not part of the language, or misuses a name.
        """
        for node in body:
            match node:
                case nodes.Output():
                    self._output(node, scope)
                case nodes.If():
                    self._test(node.test, scope)
                    for branch in (node.body, node.elif_, node.else_):
                        self.check([*branch], scope)
                case nodes.For(target=nodes.Name()) if not (node.test or node.recursive):
                    self._loop(node, scope)
                case _:
                    raise _unsupported(node)

    def _output(self, node: nodes.Output, scope: Mapping[str, _Schema]) -> None:
        at_start = True
        for part in node.nodes:
            if isinstance(part, nodes.TemplateData):
                self._text(part, at_start)
                _, newline, last = part.data.rpartition("\n")
                at_start = not last.strip() and (at_start or bool(newline))
            else:
                self._path(part, scope)
                # A literal is never empty, so the text after it does not begin a line.
                at_start = False

    def _loop(self, node: nodes.For, scope: Mapping[str, _Schema]) -> None:
        assert isinstance(node.target, nodes.Name), "matched before"
        if "" in scope:
            raise BadTemplate(f"line {node.lineno}: loops cannot be nested")
        if node.target.name in scope:
            raise BadTemplate(f"line {node.lineno}: the name {node.target.name} is already in use")
        known = self._path(node.iter, scope)
        if known is None or "array" not in kinds_of(known, "array"):
            raise BadTemplate(f"line {node.lineno}: {_path_of(node.iter)} is not a list")
        items = known.get("items")
        item = items if isinstance(items, Mapping) else {}
        self.check(node.body, {**scope, node.target.name: item, "": None})
        self.check(node.else_, scope)

    def _test(self, node: nodes.Node, scope: Mapping[str, _Schema]) -> None:
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

    def _path(self, node: nodes.Node, scope: Mapping[str, _Schema]) -> _Schema:
        """
        Return the schema of the value that `node` names.
        """
        match node:
            case nodes.Name(name=name):
                if name not in scope:
                    names = ", ".join(known for known in scope if known)
                    raise BadTemplate(
                        f"line {node.lineno}: unknown name {name}; the names are {names}"
                    )
                return scope[name]
            case nodes.Getattr(node=inner, attr=name):
                return self._member(inner, name, scope)
            case nodes.Getitem(node=inner, arg=nodes.Const(value=str() as name)):
                return self._member(inner, name, scope)
        raise _unsupported(node)

    def _member(self, node: nodes.Node, name: str, scope: Mapping[str, _Schema]) -> _Schema:
        known = self._path(node, scope)
        if known is None:
            raise BadTemplate(f"line {node.lineno}: {_path_of(node)} has no fields")
        properties = known.get("properties", {})
        if name in properties:
            return properties[name] if isinstance(properties[name], Mapping) else {}
        if properties and not _COMPOSING_KEYWORDS & set(known):
            fields = ", ".join(properties)
            raise BadTemplate(
                f"line {node.lineno}: {_path_of(node)} has no field {name}; its fields are {fields}"
            )
        return {}

    def _text(self, node: nodes.TemplateData, at_start: bool) -> None:
        for number, line in enumerate(node.data.split("\n")):
            if (number or at_start) and line.lstrip().startswith(_COMMAND_MARKS):
                mark = line.lstrip()[0]
                where = node.lineno + number
                raise BadTemplate(
                    f"line {where} begins with {mark}, which starts a command in a terminal"
                )
        for number, line in enumerate(node.data.split("\n")):
            unprintable = [
                character for character in line if unicodedata.category(character) in UNPRINTABLE
            ]
            if unprintable:
                where = node.lineno + number
                raise BadTemplate(
                    f"line {where} contains U+{ord(unprintable[0]):04X}, which is not printable"
                )
        problem = _terminal_problem(node.data, lines=False)
        if problem is not None:
            raise BadTemplate(problem)


def _terminal_problem(text: str, lines: bool = True) -> str | None:
    """
    Return why a terminal would take `text` as more than text, or None.

    Args:
        text: A prompt, or a part of one.
        lines: Whether the beginnings of lines are to be checked.
    """
    if lines and any(line.lstrip().startswith(_COMMAND_MARKS) for line in text.split("\n")):
        return "a line begins with !, / or @, which starts a command in a terminal"
    if "`" in text or text.rstrip().endswith("\\"):
        return "may not contain a backtick or end with a backslash"
    return None


def _unsupported(node: nodes.Node) -> BadTemplate:
    kind = type(node).__name__.lower()
    return BadTemplate(
        f"line {node.lineno}: {kind} is not supported; prompts may use names, their fields, "
        "if and for"
    )


def _path_of(node: nodes.Node) -> str:
    match node:
        case nodes.Name(name=name):
            return str(name)
        case nodes.Getattr(node=inner, attr=name):
            return f"{_path_of(inner)}.{name}"
        case nodes.Getitem(node=inner, arg=nodes.Const(value=name)):
            return f"{_path_of(inner)}.{name}"
    return "this value"
