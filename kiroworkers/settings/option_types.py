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

Each reader is part of an `OptionType`, which also says what ``--help`` and the reference call
such a value, and which values it may have in a TOML file.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Callable
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Generic, TypeVar
from urllib.parse import urlsplit

from attrs import frozen

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

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


@frozen
class OptionType(Generic[T_co]):
    """
    Hold what is known about one kind of value.

    Attributes:
        read: Returns the value of a text, or raises `ValueError`.
        value_name: What ``--help`` calls the value, such as `SECONDS`.
        description: What the value is, such as `whole number, at least 1`.
        natives: The types that a value in a TOML file may have besides `str`.
        anchor: Takes a text and a folder; returns the text with absolute paths, where
            relative ones begin at the folder.
    """

    read: Callable[[str], T_co]
    value_name: str
    description: str
    natives: tuple[type, ...] = ()
    anchor: Callable[[str, Path], str] = lambda text, folder: text

    def __call__(self, text: str) -> T_co:
        """
        Return the value of `text`.

        Raises:
            ValueError: If `text` is not valid.
        """
        return self.read(text)


def _type(
    value_name: str, description: str, *natives: type
) -> Callable[[Callable[[str], T]], OptionType[T]]:
    """
    Return a decorator that makes an `OptionType` from a reader.
    """

    def decorate(read: Callable[[str], T]) -> OptionType[T]:
        return OptionType(read, value_name, description, natives)

    return decorate


def _path_type(
    value_name: str, description: str
) -> Callable[[Callable[[Path], Path]], OptionType[Path]]:
    """
    Return a decorator that makes an `OptionType` from a function that checks a path.
    """

    def decorate(check: Callable[[Path], Path]) -> OptionType[Path]:
        def read(text: str) -> Path:
            return check(_absolute(text, Path()))

        return OptionType(
            read, value_name, description, anchor=lambda text, base: str(_absolute(text, base))
        )

    return decorate


def _absolute(text: str, base: Path) -> Path:
    """
    Return a path; a relative one begins at `base`.
    """
    try:
        return (base / Path(text).expanduser()).absolute()
    except RuntimeError:
        raise ValueError("names a user that does not exist") from None


#: Text that is not checked here.
any_text = OptionType(str, "TEXT", "text")


def int_range(least: int, most: int | None = None) -> OptionType[int]:
    """
    Return the type of whole numbers from `least` to `most`, or without an upper limit.
    """

    def read(text: str) -> int:
        if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
            raise ValueError("must be a whole number")
        number = int(text)
        if number < least or (most is not None and number > most):
            upper = "" if most is None else f" and at most {most}"
            raise ValueError(f"must be at least {least}{upper}")
        return number

    limits = f"at least {least}" if most is None else f"{least} to {most}"
    return OptionType(read, "N", f"whole number, {limits}", (int,))


@_type("SECONDS", "seconds, or a number with the unit ``s``, ``m`` or ``h``", int, float)
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


@_type(
    "SECONDS", "seconds, 0 included, or a number with the unit ``s``, ``m`` or ``h``", int, float
)
def seconds_or_zero(text: str) -> float:
    """
    Read a duration as `seconds` does, or 0.
    """
    return 0.0 if re.fullmatch(r"0*\.?0+[smh]?", text) else seconds(text)


def choice(*words: str) -> OptionType[str]:
    """
    Return the type of a text that is one of `words`.
    """

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return text

    names = [f"``{word}``" for word in words]
    return OptionType(read, "|".join(words), f"{', '.join(names[:-1])} or {names[-1]}")


@_type("SIZE", "bytes, or a number with the unit ``k``, ``m`` or ``g``", int)
def byte_size(text: str) -> int:
    """
    Read a size, in bytes or with the unit `k`, `m` or `g` (powers of 1024).
    """
    match = re.fullmatch(r"([0-9]{1,15})([kmg]?)(?:i?b)?", text.lower())
    if match is None or int(match[1]) == 0:
        raise ValueError("must be a number of bytes, such as 65536, 512k or 8MiB")
    return int(match[1]) * _BYTES_PER_UNIT[match[2]]


@_path_type("DIR", "path of a folder")
def folder(path: Path) -> Path:
    """
    Check that `path` is a folder.
    """
    if not stat.S_ISDIR(_mode(path)):
        raise ValueError("is not a folder")
    return path


def _mode(path: Path) -> int:
    """
    Return the mode of a file or folder, which has its type.

    Raises:
        ValueError: If it does not exist or cannot be reached.
    """
    try:
        return path.stat().st_mode
    except FileNotFoundError:
        raise ValueError("does not exist") from None
    except OSError as error:
        raise ValueError(f"cannot be used: {error.strerror}") from None


@_path_type("DIR", "path of a folder, created if it does not exist")
def new_folder(path: Path) -> Path:
    """
    Check that `path` is a folder, or can be created in one that exists.
    """
    # Unlike `Path.is_dir`, this returns False below a folder that cannot be searched.
    if not os.path.isdir(path.parent):
        raise ValueError("its parent folder does not exist")
    if os.path.exists(path) and not os.path.isdir(path):
        raise ValueError("is not a folder")
    return path


@_path_type("FILE", "path of a file")
def file(path: Path) -> Path:
    """
    Check that `path` is a file.
    """
    if not stat.S_ISREG(_mode(path)):
        raise ValueError("is not a file")
    return path


@_type("ADDRESS", "IP address")
def address(text: str) -> str:
    """
    Read an IP address.
    """
    try:
        ip_address(text)
    except ValueError:
        raise ValueError("must be an IP address, such as 127.0.0.1 or ::1") from None
    return text


@_type("YES|NO", "yes or no", bool)
def boolean(text: str) -> bool:
    """
    Read yes or no; `true`, `on` and `1`, or `false`, `off`, `0` and nothing, mean the same.
    """
    if text.lower() not in _BOOLEANS:
        raise ValueError("must be yes or no")
    return _BOOLEANS[text.lower()]


@_type("ORIGIN,...", "``none``, ``loopback``, ``*`` or a list of origins", list)
def origins(text: str) -> tuple[str, ...]:
    """
    Read the origins whose pages may call the server from a browser.

    The text is `none`, `loopback`, `*`, or a list such as
    `https://a.example,https://b.example:8443`.
    """
    names = comma_separated(text)
    if names == ("none",):
        return ()
    for name in names:
        if name not in ("*", "loopback") and not _ORIGIN.fullmatch(name):
            raise ValueError("must be loopback, none, * or origins such as https://a.example")
    return names


@_type("HOST,...", "list of host names and addresses", list)
def hosts(text: str) -> tuple[str, ...]:
    """
    Read a list of host names and addresses, such as `kiro.example,10.0.0.5`.

    A port after one of them is ignored.
    """
    return tuple(_host(part) for part in comma_separated(text))


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


@_type("ADDRESS,...", "list of addresses, networks and ``unix``", list)
def proxies(text: str) -> tuple[str, ...]:
    """
    Read a list of addresses, networks and `unix`, such as `127.0.0.1,10.0.0.0/8`.
    """
    return tuple(map(_proxy, comma_separated(text)))


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


@_type("HOST,...", "list of host names, addresses and patterns", list)
def host_patterns(text: str) -> tuple[str, ...]:
    """
    Read a list of host names, addresses or shell patterns of them.
    """
    patterns = comma_separated(text)
    if not all(map(_HOST_PATTERN.fullmatch, patterns)):
        raise ValueError("must be hosts or patterns such as hooks.example.com,*.example.org")
    return patterns


@_type("NAME", "one word")
def word(text: str) -> str:
    """
    Read a name that an agent defines, such as that of a model.
    """
    if not re.fullmatch(_WORD, text):
        raise ValueError("must be one word of ASCII characters")
    return text


@_type("NAME,...", "list of names and patterns", list)
def model_patterns(text: str) -> tuple[str, ...]:
    """
    Read a list of names, or shell patterns of names, of models.
    """
    patterns = comma_separated(text)
    if not all(re.fullmatch(_WORD, pattern) for pattern in patterns):
        raise ValueError("must be names or patterns such as claude-sonnet-4.5,gpt-*")
    return patterns


@_type("NAME,...", "list of names and patterns", list)
def variables(text: str) -> tuple[str, ...]:
    """
    Read a list of names, or shell patterns of names, of environment variables.

    One with a prefix, such as `kiro:GITHUB_TOKEN`, is for the agent of that name;
    the others are for all agents.
    """
    patterns = comma_separated(text)
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


def _agent_counts(text: str) -> tuple[AgentCount, ...]:
    agents = tuple(_agent_count(part) for part in comma_separated(text))
    if not agents:
        raise ValueError("must name an agent")
    return agents


def _agent_count(text: str) -> AgentCount:
    agent, count = _split_count(text)
    if count is None:
        return AgentCount(_with_absolute_path(agent, Path()))
    if not agent:
        raise ValueError(f"{text}: must name an agent")
    try:
        return AgentCount(_with_absolute_path(agent, Path()), worker_count(count))
    except ValueError as error:
        raise ValueError(f"{text}: the number of workers {error}") from None


def _split_count(text: str) -> tuple[str, str | None]:
    """
    Return an agent and the text of its number of workers, None if there is none.
    """
    agent, equals, count = text.rpartition("=")
    return (text, None) if not equals or text.endswith(".toml") else (agent, count)


def _anchor_agents(text: str, folder: Path) -> str:
    anchored = []
    for part in comma_separated(text):
        agent, count = _split_count(part)
        agent = _with_absolute_path(agent, folder)
        anchored.append(agent if count is None else f"{agent}={count}")
    return ",".join(anchored)


def _with_absolute_path(agent: str, folder: Path) -> str:
    """
    Return `agent`, with an absolute path if it is a dialect file.

    A server that runs in the background may run in another folder.
    """
    return str(_absolute(agent, folder)) if agent.endswith(".toml") else agent


#: A list of agents, each with or without its number of workers: `kiro=2,q`.
agent_counts = OptionType(
    _agent_counts, "NAME[=COUNT]", "list of agents", (list,), anchor=_anchor_agents
)


def comma_separated(text: str) -> tuple[str, ...]:
    """
    Return the parts of a list, without the spaces around them.
    """
    return tuple(part.strip() for part in text.split(",") if part.strip())
