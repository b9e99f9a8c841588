"""
Define a row of the table of options: `option` declares it, `Option` holds it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, TypeVar

from attrs import field, frozen

from kiroworkers.settings.option_types import OptionType

T = TypeVar("T")

#: What the names of the server's variables begin with.
PREFIX = "KIROWORKERS_"

#: Well-known names of two variables, accepted besides KIROWORKERS_PORT and
#: KIROWORKERS_REPO_PATH.
_SHORT_VARIABLES = {"port": "PORT", "repo_path": "REPO_PATH"}


def option(
    default: T,
    default_text: str,
    type: OptionType[T],
    help_text: str,
    *,
    group: str,
    value_name: str = "",
    is_boolean: bool = False,
    is_repeatable: bool = False,
) -> T:
    """
    Return a field of `kiroworkers.settings.Settings`.

    Args:
        default: The value if the operator gives none.
        default_text: The default as the operator would write it; empty to show none.
        type: What the option's values are.
        help_text: What the option does, in sentences for the operator.  The first one is a
            summary, and all that ``--help`` shows.
        group: The group that the option belongs to, and its table in a configuration file.
        value_name: What ``--help`` calls the value; by default, the name that its type has.
        is_boolean: Whether the flag stands alone, without a value.
        is_repeatable: Whether the flag may be given more than once.
    """
    metadata = {
        "default_text": default_text,
        "type": type,
        "help_text": help_text,
        "group": group,
        "value_name": value_name or type.value_name,
        "is_boolean": is_boolean,
        "is_repeatable": is_repeatable,
    }
    # attrs' own convention: a field is typed as the value that it will hold.
    return field(default=default, metadata=metadata)


@frozen
class Option:
    """
    Hold one row of the table, as ``--help``, the environment and the reference need it.

    Attributes:
        name: The name of the field of `Settings`.
        default_text: The default as the operator would write it; empty to show none.
        type: What the option's values are.
        help_text: What the option does, in sentences for the operator.
        group: The group that the option belongs to, and its table in a configuration file.
        value_name: What ``--help`` calls the value.
        is_boolean: Whether the flag stands alone, without a value.
        is_repeatable: Whether the flag may be given more than once.
    """

    name: str
    default_text: str
    type: OptionType[Any]
    help_text: str
    group: str
    value_name: str
    is_boolean: bool
    is_repeatable: bool

    @property
    def key(self) -> str:
        """
        Return the key of a configuration file, such as ``queue-timeout``.
        """
        return self.name.replace("_", "-")

    @property
    def flag(self) -> str:
        """
        Return the flag, such as ``--queue-timeout``.
        """
        return "--" + self.key

    @property
    def opposite(self) -> str:
        """
        Return the flag that turns off a boolean option, such as ``--no-canary``.
        """
        return f"--no-{self.key}"

    @property
    def variables(self) -> tuple[str, ...]:
        """
        Return the names of the environment variables, in order of precedence.
        """
        variable = PREFIX + self.name.upper()
        short = _SHORT_VARIABLES.get(self.name)
        return (variable, short) if short else (variable,)

    def read(self, text: str) -> Any:
        """
        Return the value of `text`.

        Raises:
            ValueError: If `text` is not valid.
        """
        return self.type(text)

    @property
    def summary(self) -> str:
        """
        Return the first sentence of the help text, without its period.
        """
        return re.split(r"\.(?: (?=[A-Z])|$)", self.help_text)[0]


def did_you_mean(name: str, known: Mapping[str, str]) -> str:
    """
    Return a question that names the one of `known` that is most like `name`.

    Args:
        name: A name that does not exist.
        known: The names that do, each with what it is called in the question.

    Returns:
        The rest of a sentence, such as ``; did you mean --port?``, or nothing if none is like it.
    """
    nearest = get_close_matches(name, sorted(known), 1)
    return f"; did you mean {known[nearest[0]]}?" if nearest else ""
