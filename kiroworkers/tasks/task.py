"""
One thing to ask, as data: a prompt, an input schema and an answer schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Literal, TypeAlias

from attrs import Factory, field, frozen

from kiroworkers.errors import InvalidInput
from kiroworkers.json_schema import Validator
from kiroworkers.tasks.answer import ParsedAnswer, find_answer
from kiroworkers.tasks.template import Template, Value

#: The form of the answer, by the name that `terminal` gives it.
AnswerLayout: TypeAlias = Literal["compact", "lines"]
ANSWER_LAYOUTS: Mapping[AnswerLayout, str] = {
    "compact": "compactly, on one line",
    "lines": "with each member and each list item on a line of its own",
}

#: The schema keywords that a missing or blank value trips over.
_ABSENT = {"required", "minLength", "pattern"}


@frozen
class TaskLimits:
    """
    How much a request to a task may take; None where the task does not say.

    Attributes:
        timeout: its deadline in seconds, its wait included.
        prompt: how many characters its prompt may have.
    """

    timeout: float | None = None
    prompt: int | None = None


@frozen
class Task:
    """
    What to ask and what to accept.

    Attributes:
        prompt_template: a `Template` that may use ``request`` (the client's
            input), ``schema`` (the answer's) and ``example``; each enters as one
            line of JSON, and that is the only way in for client text.  ``layout``
            says in words how the answer is to be laid out.
        messages: our words where a field is missing or blank, by its dotted
            path.
        choices: for a list in the answer, by its name, the name of the list
            in the input that it must choose from, where the client gives one.
        agent: the name of the agent that answers where the client names none;
            None for whichever is the first.
        source: the file that it was read from, for the operator.
    """

    name: str
    title: str
    description: str
    prompt_template: str
    input_schema: Mapping[str, Any]
    answer_schema: Mapping[str, Any]
    example_input: Mapping[str, Any]
    example_answer: Mapping[str, Any]
    messages: Mapping[str, str] = Factory(dict)
    choices: Mapping[str, str] = Factory(dict)
    agent: str | None = None
    limits: TaskLimits = TaskLimits()
    source: str = field(default="", eq=False)
    _template: Template = field(init=False, eq=False, repr=False)
    # Both are in every prompt, and their literals are made but once.
    _shown_schema: Value = field(init=False, eq=False, repr=False)
    _shown_example: Value = field(init=False, eq=False, repr=False)
    _input: Validator = field(init=False, eq=False, repr=False)
    _answer: Validator = field(init=False, eq=False, repr=False)

    @_template.default
    def _make_template(self) -> Template:
        return Template(self.prompt_template, self.input_schema)

    @_shown_schema.default
    def _show_schema(self) -> Value:
        return Value(self.answer_schema)

    @_shown_example.default
    def _show_example(self) -> Value:
        return Value(self.example_answer)

    @_input.default
    def _make_input_validator(self) -> Validator:
        return Validator(self.input_schema)

    @_answer.default
    def _make_answer_validator(self) -> Validator:
        return Validator(self.answer_schema)

    def accept(self, body: Any) -> dict[str, Any]:
        """
        The request in `body` (parsed JSON), with optional fields that are null
        left out.

        Raises:
            InvalidInput: naming the field that does not fit.
        """
        try:
            request = _without_nulls(body)
        except RecursionError:
            raise InvalidInput("", "The request is nested too deeply") from None
        for problem in self._input.problems(request)[:1]:
            sentence = problem.sentence
            if problem.keyword in _ABSENT:
                sentence = self.messages.get(problem.field, sentence)
            raise InvalidInput(problem.field, sentence)
        found: dict[str, Any] = request
        return found

    def prompt(self, request: Mapping[str, Any], layout: AnswerLayout = "compact") -> str:
        """
        What to type for an accepted `request`, to an agent on whose terminal
        JSON survives in this `layout`.

        Raises:
            InvalidInput: when it would be too long.
        """
        properties = self.input_schema.get("properties", {})
        defaults = {
            name: schema["default"]
            for name, schema in properties.items()
            if isinstance(schema, Mapping) and "default" in schema
        }
        schema = self.answer_schema_for(request)
        return self._template.render(
            {**defaults, **request},
            self._shown_schema if schema is self.answer_schema else Value(schema),
            self._shown_example,
            ANSWER_LAYOUTS[layout],
            self.limits.prompt,
        )

    def answer(self, request: Mapping[str, Any], text: str, wrapped: bool = False) -> ParsedAnswer:
        """
        The answer to `request` in what an agent said after the question.

        Args:
            wrapped: its lines may be cut.

        Raises:
            AnswerSchemaMismatch: saying why none was found.
            AnswerUnreadable: when it cannot be told for certain.
        """
        schema = self.answer_schema_for(request)
        known = self._answer if schema is self.answer_schema else None
        return find_answer(text, schema, self.example_answer, wrapped, known)

    def answer_schema_for(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        The answer schema, its `choices` narrowed to what `request` offers.
        """
        offers = {
            wanted: request[offered]
            for wanted, offered in self.choices.items()
            if offered in request
        }
        if not offers:
            return self.answer_schema
        schema = deepcopy(dict(self.answer_schema))
        for wanted, offered in offers.items():
            schema["properties"][wanted]["items"]["enum"] = offered
        return schema


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _without_nulls(each) for name, each in value.items() if each is not None}
    if isinstance(value, list):
        return [_without_nulls(each) for each in value]
    return value
