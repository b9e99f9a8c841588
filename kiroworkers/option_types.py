"""
Read the values of options from text: numbers, durations, sizes, paths, lists.

Each reader takes the text of a flag or of an environment variable and returns the
option's value, or raises `ValueError` with the rest of a sentence that begins with
the option's name and that text::

    >>> seconds("5m")
    300.0
    >>> int_range(1, 512)("0")
    Traceback (most recent call last):
    ValueError: must be at least 1 and at most 512

`option` ties a reader to a field of `kiroworkers.settings.Settings`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from attrs import field, frozen

T = TypeVar("T")

_SECONDS_PER_UNIT = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES_PER_UNIT = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}

#: In seconds: some thirty years.
_MAX_DURATION = 1e9

_BOOLEANS = {
    **dict.fromkeys(("1", "true", "yes", "on"), True),
    **dict.fromkeys(("", "0", "false", "no", "off"), False),
}

_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s,]+")
_WORD = r"[!-~]*"
_HOST_PATTERN = re.compile(r"[A-Za-z0-9.:*?_-]+")
_VARIABLE_PATTERN = re.compile(r"([a-z0-9][a-z0-9-]*:)?[A-Za-z0-9_*?\[\]!-]+")


def option(
    default: T,
    default_text: str,
    read: Callable[[str], T],
    help_text: str,
    *,
    is_boolean: bool = False,
    is_repeatable: bool = False,
) -> T:
    """
    Return a field of `Settings`.

    Args:
        default: The value if the operator gives none.
        default_text: The default as the operator would write it; empty to show none.
        read: The reader of the option's text.
        help_text: What the option does, in sentences for the operator.
        is_boolean: Whether the flag stands alone, without a value.
        is_repeatable: Whether the flag may be given more than once.
    """
    metadata = {
        "default_text": default_text,
        "read": read,
        "help_text": help_text,
        "is_boolean": is_boolean,
        "is_repeatable": is_repeatable,
    }
    # attrs' own convention: a field is typed as the value that it will hold.
    return field(default=default, metadata=metadata)


def int_range(least: int, most: int | None = None) -> Callable[[str], int]:
    """
    Return a reader of whole numbers from `least` to `most`, or without an upper limit.
    """

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise ValueError("must be a whole number")
        number = int(text)
        if number < least or (most is not None and number > most):
            upper = "" if most is None else f" and at most {most}"
            raise ValueError(f"must be at least {least}{upper}")
        return number

    return read


def seconds(text: str) -> float:
    """
    Read a duration, in seconds or with the unit `s`, `m` or `h`.
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)([smh]?)", text)
    if match is None:
        raise ValueError("must be a number of seconds, such as 30, 0.5 or 5m")
    number = float(match[1]) * _SECONDS_PER_UNIT[match[2]]
    if not 0 < number <= _MAX_DURATION or not math.isfinite(number):
        raise ValueError("must be more than 0 seconds and at most 1e9")
    return number


def choice(*words: str) -> Callable[[str], str]:
    """
    Return a reader that accepts one of `words`.
    """

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return text

    return read


def byte_size(text: str) -> int:
    """
    Read a size, in bytes or with the unit `k`, `m` or `g` (powers of 1024).
    """
    match = re.fullmatch(r"([0-9]{1,15})([kmg]?)(?:i?b)?", text.lower())
    if match is None or int(match[1]) == 0:
        raise ValueError("must be a number of bytes, such as 65536, 512k or 8MiB")
    return int(match[1]) * _BYTES_PER_UNIT[match[2]]


def folder(text: str) -> Path:
    """
    Read the path of a folder that exists.
    """
    path = Path(text).expanduser().absolute()
    if not path.is_dir():
        raise ValueError("is not a folder")
    return path


def new_folder(text: str) -> Path:
    """
    Read the path of a folder that exists, or that can be created in one that exists.
    """
    path = Path(text).expanduser().absolute()
    if not path.parent.is_dir():
        raise ValueError("its parent folder does not exist")
    if path.exists() and not path.is_dir():
        raise ValueError("is not a folder")
    return path


def file(text: str) -> Path:
    """
    Read the path of a file that exists.
    """
    path = Path(text).expanduser().absolute()
    if not path.is_file():
        raise ValueError("is not a file")
    return path


def address(text: str) -> str:
    """
    Read an IP address.
    """
    try:
        ip_address(text)
    except ValueError:
        raise ValueError("must be an IP address, such as 127.0.0.1 or ::1") from None
    return text


def boolean(text: str) -> bool:
    """
    Read yes or no; `true`, `on` and `1`, or `false`, `off`, `0` and nothing, mean the same.
    """
    if text.lower() not in _BOOLEANS:
        raise ValueError("must be yes or no")
    return _BOOLEANS[text.lower()]


def origins(text: str) -> tuple[str, ...]:
    """
    Read the origins whose pages may call the server from a browser.

    The text is `none`, `loopback`, `*`, or a list such as
    `https://a.example,https://b.example:8443`.
    """
    names = _comma_separated(text)
    if names == ("none",):
        return ()
    for name in names:
        if name not in ("*", "loopback") and not _ORIGIN.fullmatch(name):
            raise ValueError("must be loopback, none, * or origins such as https://a.example")
    return names


def hosts(text: str) -> tuple[str, ...]:
    """
    Read a list of host names and addresses, such as `kiro.example,10.0.0.5`.

    A port after one of them is ignored.
    """
    return tuple(_host(part) for part in _comma_separated(text))


def _host(text: str) -> str:
    error = ValueError("must be names or addresses, such as kiro.example,10.0.0.5")
    try:
        return str(ip_address(text))
    except ValueError:
        pass
    try:
        name = urlsplit(f"//{text}").hostname or ""
    except ValueError:
        raise error from None
    if "/" in text or not re.fullmatch(r"[a-z0-9_.:-]+", name):
        raise error
    return name.removesuffix(".")


def proxies(text: str) -> tuple[str, ...]:
    """
    Read a list of addresses, networks and `unix`, such as `127.0.0.1,10.0.0.0/8`.
    """
    return tuple(map(_proxy, _comma_separated(text)))


def _proxy(text: str) -> str:
    if text == "unix":
        return text
    try:
        network = ip_network(text)
    except ValueError as error:
        if "host bits" in str(error):
            raise ValueError(f"{text} is an address within a network, not a network") from None
        raise ValueError(
            "must be addresses, networks such as 10.0.0.0/8, or unix, separated by commas"
        ) from None
    return str(network)


def host_patterns(text: str) -> tuple[str, ...]:
    """
    Read a list of host names, addresses or shell patterns of them.
    """
    patterns = _comma_separated(text)
    if not all(map(_HOST_PATTERN.fullmatch, patterns)):
        raise ValueError("must be hosts or patterns such as hooks.example.com,*.example.org")
    return patterns


def word(text: str) -> str:
    """
    Read a name that an agent defines, such as that of a model.
    """
    if not re.fullmatch(_WORD, text):
        raise ValueError("must be one word of ASCII characters")
    return text


def model_patterns(text: str) -> tuple[str, ...]:
    """
    Read a list of names, or shell patterns of names, of models.
    """
    patterns = _comma_separated(text)
    if not all(re.fullmatch(_WORD, pattern) for pattern in patterns):
        raise ValueError("must be names or patterns such as claude-sonnet-4.5,gpt-*")
    return patterns


def variables(text: str) -> tuple[str, ...]:
    """
    Read a list of names, or shell patterns of names, of environment variables.

    One with a prefix, such as `kiro:GITHUB_TOKEN`, is for the agent of that name;
    the others are for all agents.
    """
    patterns = _comma_separated(text)
    for pattern in patterns:
        if not _VARIABLE_PATTERN.fullmatch(pattern):
            raise ValueError("must be names or patterns such as GITHUB_TOKEN, NPM_* or kiro:TOKEN")
        if pattern.rpartition(":")[2].startswith("KIROWORKERS_"):
            raise ValueError("must not name the server's own variables, KIROWORKERS_*")
    return patterns


#: Read the number of workers of one agent.
worker_count = int_range(1, 512)


@frozen
class AgentCount:
    """
    Hold an agent and its number of workers.

    Attributes:
        agent: `auto`, the name of a built-in dialect, or the absolute path of a dialect file.
        workers: The number of workers; 0 for the value of --workers.
    """

    agent: str
    workers: int = 0


def agent_counts(text: str) -> tuple[AgentCount, ...]:
    """
    Read a list of agents, each with or without its number of workers: `kiro=2,q`.
    """
    agents = tuple(_agent_count(part) for part in _comma_separated(text))
    if not agents:
        raise ValueError("must name an agent")
    return agents


def _agent_count(text: str) -> AgentCount:
    agent, equals, count = text.rpartition("=")
    if not equals or text.endswith(".toml"):
        return AgentCount(_with_absolute_path(text))
    if not agent:
        raise ValueError(f"{text}: must name an agent")
    try:
        return AgentCount(_with_absolute_path(agent), worker_count(count))
    except ValueError as error:
        raise ValueError(f"{text}: the number of workers {error}") from None


def _with_absolute_path(agent: str) -> str:
    """
    Return `agent`, with an absolute path if it is a dialect file.

    A server that runs in the background may run in another folder.
    """
    return str(Path(agent).expanduser().absolute()) if agent.endswith(".toml") else agent


def _comma_separated(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
