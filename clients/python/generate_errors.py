"""
Write ``src/kiroworkers_client/errors.py``, with a class for each failure of the catalogue.

After a change of the catalogue, with the server installed::

    python clients/python/generate_errors.py
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from pathlib import Path

from kiroworkers.errors import CATALOGUE, FailureCode, WorkError

#: The module that this program writes.
TARGET = Path(__file__).parent / "src" / "kiroworkers_client" / "errors.py"

_HEAD = '''\
"""
Define the errors that a request may raise: one class for each failure that a server reports.

Each is a subclass of `BadRequest`, `Unavailable`, `TimedOut` or `Failed`, and all of these are
subclasses of `KiroError`.

``generate_errors.py`` writes this module from the server's catalogue.  Do not edit it.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from kiroworkers_client.base_errors import (
    BadRequest,
    CutOffError,
    Failed,
    InvalidResponseError,
    JobCancelledError,
    KiroError,
    TimedOut,
    Unavailable,
    UnknownError,
    UnreachableError,
)
'''

#: What `_HEAD` imports for the users of the module.
_IMPORTED = (
    "BadRequest",
    "CutOffError",
    "Failed",
    "InvalidResponseError",
    "JobCancelledError",
    "KiroError",
    "TimedOut",
    "Unavailable",
    "UnknownError",
    "UnreachableError",
)

#: The types of the fields, the expressions that read them, and what they are.
_FIELDS = {
    "field": (
        "str | None",
        'self._text("field")',
        "the field, header or parameter that is invalid; None if the whole body is",
    ),
    "reasons": (
        "tuple[str, ...]",
        'self._texts("reasons")',
        "why each answer of the agent was rejected",
    ),
    "worker": (
        "str | None",
        'self._text("worker")',
        "the worker that gave the unusable answer, as named in the server's log",
    ),
    "request": (
        "int | None",
        'self._integer("request")',
        "the number of the request in the server's log",
    ),
    "queue_length": (
        "int | None",
        'self._integer_in("queue", "length")',
        "how many requests wait for a worker, if the server says so",
    ),
    "queue_limit": (
        "int | None",
        'self._integer_in("queue", "limit")',
        "how many requests may wait for a worker, if the server says so",
    ),
}

#: The fields that failures with these codes have besides their sentence and code.
_FIELDS_OF = {
    "invalid_input": ("field",),
    "unknown_model": ("field",),
    "answer_unfit": ("reasons", "worker", "request"),
    "unreadable": ("worker", "request"),
}

#: The fields of each failure after which the request may be sent again.
_FIELDS_OF_RETRYABLE = ("queue_length", "queue_limit")


def class_name(code: str) -> str:
    """
    Return the name of the class for `code`.

    >>> class_name("all_workers_busy")
    'AllWorkersBusyError'
    """
    return "".join(word.title() for word in code.removesuffix("_error").split("_")) + "Error"


def page() -> str:
    """
    Return the source of the module.

    Raises:
        ValueError: If the server reports details that `_FIELDS_OF` does not have.
    """
    _check_fields()
    classes = [_class_source(code) for code in CATALOGUE]
    mapping = "".join(f'        "{code}": {class_name(code)},\n' for code in CATALOGUE)
    by_code = (
        "#: The class of each code.\n"
        "BY_CODE: Mapping[str, type[KiroError]] = MappingProxyType(\n"
        f"    {{\n{mapping}    }}\n"
        ")\n"
    )
    names = sorted([*_IMPORTED, "BY_CODE", *(class_name(code) for code in CATALOGUE)])
    # As ruff sorts them: constants first.
    names.sort(key=lambda name: not name.isupper())
    exported = "__all__ = [\n" + "".join(f'    "{name}",\n' for name in names) + "]\n"
    return "\n".join([_HEAD, exported, "", *(f"{source}\n" for source in classes), by_code])


def _check_fields() -> None:
    """
    Check that exactly the failures that have details are in `_FIELDS_OF`.

    Raises:
        ValueError: If not.
    """
    with_details = {
        str(failure.code)
        for failure in _subclasses(WorkError)
        if failure.details is not WorkError.details and isinstance(failure.code, FailureCode)
    }
    if with_details != set(_FIELDS_OF):
        raise ValueError(f"_FIELDS_OF should have the codes {sorted(with_details)}")


def _subclasses(parent: type[WorkError]) -> Iterator[type[WorkError]]:
    for child in parent.__subclasses__():
        yield child
        yield from _subclasses(child)


def _category(code: FailureCode) -> str:
    if code.retryable:
        return "Unavailable"
    if code.status in (408, 504):
        return "TimedOut"
    return "BadRequest" if code.status < 500 else "Failed"


def _class_source(code: FailureCode) -> str:
    """
    Return the source of the class for `code`.
    """
    meaning = textwrap.fill(code.meaning, 94, initial_indent="    ", subsequent_indent="    ")
    lines = [
        f"class {class_name(code)}({_category(code)}):",
        '    """',
        meaning,
        '    """',
        "",
        f'    code = "{code}"',
        f"    status: int | None = {code.status}",
    ]
    fields = _FIELDS_OF.get(code, ())
    if code.retryable:
        fields = (*fields, *_FIELDS_OF_RETRYABLE)
    for name in fields:
        type_name, expression, description = _FIELDS[name]
        sentence = textwrap.fill(
            f"Return {description}.", 92, initial_indent=" " * 8, subsequent_indent=" " * 8
        )
        lines += [
            "",
            "    @property",
            f"    def {name}(self) -> {type_name}:",
            '        """',
            sentence,
            '        """',
            f"        return {expression}",
        ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    TARGET.write_text(page(), encoding="utf-8")
