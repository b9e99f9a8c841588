"""
Describe a task as data: a prompt, an input schema and an answer schema.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Literal, TypeAlias

from attrs import Factory, field, frozen

from kiroworkers.errors import InvalidInput
from kiroworkers.json_schema import Validator, dotted
from kiroworkers.tasks.answer import AnswerSearch
from kiroworkers.tasks.known_fields import KnownFields, UnknownField
from kiroworkers.tasks.template import Template, Value

#: How an agent is to lay out its JSON; dialects use the same names.
AnswerLayout: TypeAlias = Literal["compact", "lines"]
ANSWER_LAYOUTS: Mapping[AnswerLayout, str] = {
    "compact": "compactly, on one line",
    "lines": "with each member and each list item on a line of its own",
}

#: The schema keywords that a missing or blank value violates.
_ABSENCE_KEYWORDS = {"required", "minLength", "pattern"}

#: The most unknown fields of a request that are found.
MAX_UNKNOWN_FIELDS = 20

#: The longest list of a client from which an answer can choose at little cost.
_MAX_CHEAP_CHOICES = 100

#: The most values of a body of which it can be explained at little cost why they do not fit, and
#: the most that can be compared with each other.
_MAX_CHEAP_VALUES_TO_EXPLAIN = 1000
_MAX_CHEAP_VALUES_TO_COMPARE = 100


@frozen
class TaskLimits:
    """
    Limit what a request to a task may cost; None means no limit of its own.

    Attributes:
        timeout: The request's deadline in seconds, including the wait for a worker.
        prompt: The maximum length of the prompt, in characters.
    """

    timeout: float | None = None
    prompt: int | None = None


@frozen
class InputCheck:
    """
    Describe the check of a request, so that it can be run here or in another process.

    It is a `kiroworkers.offload.call.Call`.

    Attributes:
        body: The request's body, as parsed JSON.
        validator: A validator of the input schema.
        messages: See `Task`.
        defaults: See `Task`.
    """

    body: Any
    validator: Validator
    messages: Mapping[str, str]
    defaults: Mapping[str, Any] = Factory(dict)

    @property
    def is_cheap(self) -> bool:
        """
        Return whether the check is certain to take no more than a few milliseconds.

        The number of values in a body is limited.  A body that fits is cheap in any number of
        them, where the validator is linear; to explain why one does not fit costs more.
        """
        is_linear = self.validator.is_linear
        limit = _MAX_CHEAP_VALUES_TO_EXPLAIN if is_linear else _MAX_CHEAP_VALUES_TO_COMPARE
        return not _has_more_values(self.body, limit) or (
            is_linear and self.validator.confirms(self.body)
        )

    def find(self) -> dict[str, Any]:
        """
        Return the request, as `Task.accept` does.
        """
        try:
            request = _without_nulls(self.body)
        except RecursionError:
            raise InvalidInput("", "The request is nested too deeply") from None
        complete = {**self.defaults, **request} if isinstance(request, dict) else request
        for problem in self.validator.problems(complete)[:1]:
            sentence = problem.sentence
            if problem.keyword in _ABSENCE_KEYWORDS:
                sentence = self.messages.get(problem.field, sentence)
                for unknown in self._unknown_fields():
                    if dotted([*filter(None, [unknown.parent]), unknown.nearest]) == problem.field:
                        raise InvalidInput(problem.field, f"{sentence}; {unknown.sentence}")
            elif problem.keyword == "additionalProperties":
                for unknown in self._unknown_fields():
                    if unknown.parent == problem.field:
                        raise InvalidInput(unknown.path, unknown.sentence)
            raise InvalidInput(problem.field, sentence)
        accepted: dict[str, Any] = request
        return accepted

    def _unknown_fields(self) -> list[UnknownField]:
        return KnownFields(self.validator.schema).unknown(self.body, MAX_UNKNOWN_FIELDS)

    def run(self) -> tuple[str, str] | None:
        """
        Return the field that is wrong and why, or None if the request is accepted.
        """
        try:
            self.find()
        except InvalidInput as problem:
            return problem.field, problem.reason
        return None

    def result(self, outcome: tuple[str, str] | None) -> dict[str, Any]:
        """
        Return or raise what `find` did, from its `outcome` as `run` returned it.
        """
        if outcome is not None:
            raise InvalidInput(*outcome)
        accepted: dict[str, Any] = _without_nulls(self.body)
        return accepted

    def failure(self, reason: str) -> InvalidInput:
        """
        Return the error for a check that was stopped; `reason` says why it was.
        """
        return InvalidInput("", f"The request is too complex: checking it {reason}")


@frozen
class Task:
    """
    Define what to ask and which answers to accept.

    Attributes:
        prompt_template: The source of a `Template` that may use ``request`` (the
            client's input), ``schema`` (the answer's) and ``example``.  Each is inserted as
            one line of JSON, which is the only way for client text to enter a prompt.
            ``layout`` says in words how the agent should lay out its JSON.
        input_schema: The JSON Schema of the request's body.
        answer_schema: The JSON Schema of the answer.
        messages: The error message for a missing or blank field, by its dotted path.
        choices: Maps the name of a list in the answer to the name of a list in the
            input: if the client sends the latter, the answer must choose from it.
        agent: The agent that answers unless the client names one; None for the
            server's first agent.
        defaults: The operator's values for fields that the client does not send; unlike a
            ``default`` in the schema, they count as if the client had sent them.
        model: The model that answers unless the client names one, if `agent` answers; None
            for the agent's own.
        source: The file that the task was read from, for the operator.
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
    model: str | None = None
    limits: TaskLimits = TaskLimits()
    defaults: Mapping[str, Any] = Factory(dict)
    source: str = field(default="", eq=False)
    _template: Template = field(init=False, eq=False, repr=False)
    _known_fields: KnownFields = field(init=False, eq=False, repr=False)
    # The schema of answers to clients that offer no choices.
    _usual_schema: Mapping[str, Any] = field(init=False, eq=False, repr=False)
    # Both are part of every prompt, so their literals are made only once.
    _schema_value: Value = field(init=False, eq=False, repr=False)
    _example_value: Value = field(init=False, eq=False, repr=False)
    _input: Validator = field(init=False, eq=False, repr=False)
    _answer: Validator = field(init=False, eq=False, repr=False)

    @_template.default
    def _make_template(self) -> Template:
        return Template(self.prompt_template, self.input_schema)

    @_known_fields.default
    def _make_known_fields(self) -> KnownFields:
        return KnownFields(self.input_schema)

    @_usual_schema.default
    def _make_usual_schema(self) -> Mapping[str, Any]:
        return self._narrowed(self.defaults)

    @_schema_value.default
    def _make_schema_value(self) -> Value:
        return Value(self._usual_schema)

    @_example_value.default
    def _make_example_value(self) -> Value:
        return Value(self.example_answer)

    @_input.default
    def _make_input_validator(self) -> Validator:
        return Validator(self.input_schema)

    @_answer.default
    def _make_answer_validator(self) -> Validator:
        return Validator(self._usual_schema)

    def accept(self, body: Any) -> dict[str, Any]:
        """
        Return the request in `body` (parsed JSON) without fields that are null.

        Raises:
            InvalidInput: The body does not fit the input schema; names the field.
        """
        return self.input_check(body).find()

    def input_check(self, body: Any) -> InputCheck:
        """
        Return the check that `accept` runs.
        """
        return InputCheck(body, self._input, self.messages, self.defaults)

    def unknown_fields(self, body: Any) -> list[UnknownField]:
        """
        Return the first fields of `body` (parsed JSON) that the input schema does not know.
        """
        return self._known_fields.unknown(body, MAX_UNKNOWN_FIELDS)

    @property
    def images(self) -> tuple[()]:
        """
        Return nothing: a task has no images.
        """
        return ()

    def prompt(self, request: Mapping[str, Any], layout: AnswerLayout = "compact") -> str:
        """
        Return the prompt for an accepted `request`.

        Args:
            request: The result of `accept`.
            layout: The layout in which JSON survives on the agent's terminal.

        Raises:
            InvalidInput: The prompt would be too long.
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
            self._schema_value if schema is self._usual_schema else Value(schema),
            self._example_value,
            ANSWER_LAYOUTS[layout],
            self.limits.prompt,
        )

    def answer_search(
        self,
        request: Mapping[str, Any],
        text: str,
        wrapped: bool = False,
        styled: tuple[int, ...] = (),
    ) -> AnswerSearch:
        """
        Return the search for the answer to `request` in the agent's output.

        Args:
            request: The result of `accept`.
            text: What the agent printed after the prompt.
            wrapped: Whether the terminal may have cut long lines.
            styled: Where the terminal has rendered the text; see `Answered.styled`.
        """
        schema = self.answer_schema_for(request)
        if schema is self._usual_schema:
            return AnswerSearch(
                text, schema, self.example_answer, wrapped, self._answer, styled=styled
            )
        offers = (request.get(offered, ()) for offered in self.choices.values())
        has_long_list = any(len(offer) > _MAX_CHEAP_CHOICES for offer in offers)
        return AnswerSearch(text, schema, self.example_answer, wrapped, None, has_long_list, styled)

    def answer_schema_for(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
        """
        Return the answer schema, with `choices` narrowed to what `request` offers.

        Fields that it lacks are taken from `defaults`.
        """
        if not any(offered in request for offered in self.choices.values()):
            return self._usual_schema
        return self._narrowed({**self.defaults, **request})

    def _narrowed(self, request: Mapping[str, Any]) -> Mapping[str, Any]:
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


def _has_more_values(value: Any, limit: int) -> bool:
    """
    Return whether there are more than `limit` values in `value`.
    """
    pending, seen = [value], 0
    while pending and seen <= limit:
        value = pending.pop()
        seen += 1
        if isinstance(value, dict):
            pending += value.values()
        elif isinstance(value, list):
            pending += value
    return seen > limit


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            name: _without_nulls(member) for name, member in value.items() if member is not None
        }
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value
