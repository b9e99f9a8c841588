"""
Describe failures, from the catalogue.

Each failure has a schema of its own, whose `code` is a constant, so that a generated client
knows the fields of a failure when it has compared the code.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from kiroworkers.errors import CATALOGUE, ErrorCode, FailureCode, FailureKind
from kiroworkers.web.error_formats import ErrorFormat
from kiroworkers.web.openapi.components import EXAMPLE_REQUEST_ID, header_references
from kiroworkers.web.openapi.schemas import SCHEMAS, Schema, choice, constant, record, ref

#: The fields of a failure besides `error`, `code` and `retryAfter`.  None is always there.
_DETAILS: Mapping[FailureCode, tuple[str, ...]] = {
    ErrorCode.INVALID_INPUT: ("field",),
    ErrorCode.UNKNOWN_MODEL: ("field",),
    ErrorCode.ANSWER_UNFIT: ("reasons", "worker", "request", "text"),
    FailureKind.UNREADABLE: ("worker", "request", "text"),
}

#: The sample value of each field in an example.
_SAMPLES = {"field": "idea", "retryAfter": 5, "reasons": ["storyPoint: 9 is not 1, 2, 3, 5 or 8"]}


class FailureResponses:
    """
    Collect a response component for each group of failures that some operation may meet.

    Attributes:
        components: The components by name, such as ``404-2``.
    """

    def __init__(self) -> None:
        self.components: dict[str, Any] = {}
        self._names: dict[tuple[str, tuple[FailureCode, ...]], str] = {}

    def by_status(self, failures: Collection[FailureCode], form: ErrorFormat) -> dict[int, Any]:
        """
        Return a reference to a component for each status of `failures`.

        Args:
            failures: The failures that an operation may meet.
            form: The format in which it reports them.
        """
        codes = [code for code in CATALOGUE if code in failures]
        statuses = sorted({status for code in codes for status in code.statuses})
        return {
            status: self._reference(
                status, tuple(code for code in codes if status in code.statuses), form
            )
            for status in statuses
        }

    def _reference(
        self, status: int, codes: tuple[FailureCode, ...], form: ErrorFormat
    ) -> dict[str, Any]:
        key = f"{form.name}-{status}", codes
        if key not in self._names:
            start = f"{form.name}-{status}".removeprefix("-")
            number = sum(name.startswith(f"{start}-") for name in self.components) + 1
            self._names[key] = f"{start}-{number}"
            self.components[self._names[key]] = _response(status, codes, form)
        return {"$ref": f"#/components/responses/{self._names[key]}"}


def failure_schemas() -> dict[str, Schema]:
    """
    Return a schema component for each failure, and one for all codes.
    """
    codes = choice("The code of a failure.", *CATALOGUE)
    return {"ErrorCode": codes, **{schema_name(code): _schema(code) for code in CATALOGUE}}


def schema_name(code: FailureCode) -> str:
    """
    Return the name of the schema component of the failure `code`, such as `NoSessionFailure`.
    """
    return "".join(word.capitalize() for word in code.split("_")) + "Failure"


def _response(status: int, codes: Sequence[FailureCode], form: ErrorFormat) -> dict[str, Any]:
    """
    Return a response with `status` whose body is one of the failures `codes`.
    """
    examples = {
        code.value: {"value": form.convert(status, body)}
        for code in codes
        for body in (_example(code),)
    }
    response = {
        "description": describe(codes),
        "content": {
            "application/json": {
                "schema": _any_of(codes) if form.schema is None else ref(form.schema),
                "examples": examples,
            }
        },
    }
    names = ["Retry-After"] if any(code.retryable for code in codes) else []
    response["headers"] = header_references(names)
    return response


def _any_of(codes: Iterable[FailureCode]) -> dict[str, Any]:
    """
    Return the schema that the failures `codes` fit.
    """
    references = {code.value: ref(schema_name(code)) for code in codes}
    if len(references) == 1:
        return next(iter(references.values()))
    return {
        "oneOf": [*references.values()],
        "discriminator": {
            "propertyName": "code",
            "mapping": {code: reference["$ref"] for code, reference in references.items()},
        },
    }


def describe(codes: Sequence[FailureCode]) -> str:
    """
    Return what each of `codes` means, in Markdown: as a list if there are several.
    """
    meanings = [f"`{code}`: {code.meaning}" for code in codes]
    return meanings[0] if len(meanings) == 1 else "\n".join(f"- {line}" for line in meanings)


def _schema(code: FailureCode) -> Schema:
    fields = SCHEMAS["Error"]["properties"]
    details = {name: fields[name] for name in (*_DETAILS.get(code, ()), *_retry(code))}
    if code.retryable:
        details["queue"] = fields["queue"]
    return record(
        code.meaning,
        (*_DETAILS.get(code, ()), "queue"),
        error=fields["error"],
        code=constant(f"Always `{code}`.", code.value),
        **details,
        requestId=fields["requestId"],
    )


def _example(code: FailureCode) -> dict[str, Any]:
    names = (*_DETAILS.get(code, ()), *_retry(code))
    details = {name: _SAMPLES[name] for name in names if name in _SAMPLES}
    body = {"error": code.meaning.replace("`", ""), "code": code.value, **details}
    return {**body, "requestId": EXAMPLE_REQUEST_ID}


def _retry(code: FailureCode) -> tuple[str, ...]:
    return ("retryAfter",) if code.retryable else ()
