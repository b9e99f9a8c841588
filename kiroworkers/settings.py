"""
Every knob: its name, default, unit and meaning, in one table.

The table is the class `Settings`.  The command line's options, the names of
the environment variables and the list in README.rst are all made from it::

    >>> Settings.read({"workers": "3"}, {"PORT": "9000"}).port
    9000

A flag beats `KIROWORKERS_<NAME>`, which beats `PORT` and `REPO_PATH`, which
beat the default.  This is the only module that reads the environment.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from attrs import field, fields, frozen

from kiroworkers.errors import InvalidSetting

T = TypeVar("T")

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "h": 3600.0}
_BYTES = {"": 1, "k": 1024, "m": 1024**2, "g": 1024**3}

#: The seed's own names of two variables, kept beside ours.
_PLAIN_NAMES = {"port": "PORT", "repo_path": "REPO_PATH"}


def int_range(least: int, most: int | None = None) -> Callable[[str], int]:
    """
    Reads a whole number between `least` and `most`.
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
    Reads a duration: seconds, or a number with `s`, `m` or `h`.
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)([smh]?)", text)
    if match is None:
        raise ValueError("must be a number of seconds, such as 30, 0.5 or 5m")
    number = float(match[1]) * _SECONDS[match[2]]
    if not 0 < number <= 1e9 or not math.isfinite(number):
        raise ValueError("must be more than 0 seconds and at most 1e9")
    return number


def choice(*words: str) -> Callable[[str], str]:
    """
    Reads one of `words`.
    """

    def read(text: str) -> str:
        if text not in words:
            raise ValueError(f"must be {', '.join(words[:-1])} or {words[-1]}")
        return text

    return read


def byte_size(text: str) -> int:
    """
    Reads a number of bytes, or a number with `k`, `m` or `g` (powers of 1024).
    """
    match = re.fullmatch(r"([0-9]{1,15})([kmg]?)(?:i?b)?", text.lower())
    if match is None or int(match[1]) == 0:
        raise ValueError("must be a number of bytes, such as 65536, 512k or 8MiB")
    return int(match[1]) * _BYTES[match[2]]


def folder(text: str) -> Path:
    """
    Reads the path of a folder that is there.
    """
    path = Path(text).expanduser().absolute()
    if not path.is_dir():
        raise ValueError("is not a folder")
    return path


def new_folder(text: str) -> Path:
    """
    Reads the path of a folder that is there or can be made.
    """
    path = Path(text).expanduser().absolute()
    if not path.parent.is_dir():
        raise ValueError("is in no folder")
    if path.exists() and not path.is_dir():
        raise ValueError("is not a folder")
    return path


def file(text: str) -> Path:
    """
    Reads the path of a file that is there.
    """
    path = Path(text).expanduser().absolute()
    if not path.is_file():
        raise ValueError("is not a file")
    return path


def address(text: str) -> str:
    """
    Reads an IP address.
    """
    try:
        ip_address(text)
    except ValueError:
        raise ValueError("must be an IP address, such as 127.0.0.1 or ::1") from None
    return text


def boolean(text: str) -> bool:
    """
    Reads yes or no.
    """
    words = {"1": True, "true": True, "yes": True, "on": True}
    words |= {"": False, "0": False, "false": False, "no": False, "off": False}
    if text.lower() not in words:
        raise ValueError("must be yes or no")
    return words[text.lower()]


def origins(text: str) -> tuple[str, ...]:
    """
    Reads the origins that browsers may call from: `loopback`, `*`, `none`, or
    a list such as `https://a.example,https://b.example:8443`.
    """
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if found == ("none",):
        return ()
    for origin in found:
        if origin not in ("*", "loopback") and not re.fullmatch(
            r"[a-z][a-z0-9+.-]*://[^/\s,]+", origin
        ):
            raise ValueError("must be loopback, none, * or origins such as https://a.example")
    return found


def hosts(text: str) -> tuple[str, ...]:
    """
    Reads names and addresses of a server, with commas: `kiro.example,10.0.0.5`.
    A port behind one is ignored.
    """
    return tuple(_host(part.strip()) for part in text.split(",") if part.strip())


def _host(text: str) -> str:
    wrong = ValueError("must be names or addresses, such as kiro.example,10.0.0.5")
    try:
        return str(ip_address(text))
    except ValueError:
        pass
    try:
        name = urlsplit(f"//{text}").hostname or ""
    except ValueError:
        raise wrong from None
    if "/" in text or not re.fullmatch(r"[a-z0-9_.:-]+", name):
        raise wrong
    return name.removesuffix(".")


#: Reads how many workers an agent has.
workers_of_one = int_range(1, 512)


@frozen
class AgentCount:
    """
    An agent and its workers.

    Attributes:
        agent: `auto`, a name or a dialect file.
        workers: how many; 0 for as many as --workers says.
    """

    agent: str
    workers: int = 0


def agent_counts(text: str) -> tuple[AgentCount, ...]:
    """
    Reads agents, each with its number of workers or without: `kiro=2,q`.
    """
    found = tuple(_staffing(part.strip()) for part in text.split(",") if part.strip())
    if not found:
        raise ValueError("names no agent")
    return found


def _staffing(text: str) -> AgentCount:
    agent, equals, count = text.rpartition("=")
    if not equals or text.endswith(".toml"):
        return AgentCount(_absolute(text))
    if not agent:
        raise ValueError(f"{text}: names no agent")
    try:
        return AgentCount(_absolute(agent), workers_of_one(count))
    except ValueError as problem:
        raise ValueError(f"{text}: the number of workers {problem}") from None


def variables(text: str) -> tuple[str, ...]:
    """
    Reads a list of variables' names or shell patterns of names, each for every
    agent or, as in `kiro:GITHUB_TOKEN`, for one.
    """
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    for each in found:
        if not re.fullmatch(r"([a-z0-9][a-z0-9-]*:)?[A-Za-z0-9_*?\[\]!-]+", each):
            raise ValueError("must be names or patterns such as GITHUB_TOKEN, NPM_* or kiro:TOKEN")
        if each.rpartition(":")[2].startswith("KIROWORKERS_"):
            raise ValueError("the server's own variables are passed to no agent")
    return found


def _absolute(agent: str) -> str:
    """
    A dialect file by its whole path, since a server may run in another folder.
    """
    return str(Path(agent).expanduser().absolute()) if agent.endswith(".toml") else agent


def host_patterns(text: str) -> tuple[str, ...]:
    """
    Reads a list of hosts' names, addresses or shell patterns of them.
    """
    found = tuple(part.strip() for part in text.split(",") if part.strip())
    if not all(re.fullmatch(r"[A-Za-z0-9.:*?_-]+", each) for each in found):
        raise ValueError("must be hosts or patterns such as hooks.example.com,*.example.org")
    return found


def option(default: T, shown: str, read: Callable[[str], T], meaning: str) -> T:
    """
    A field of `Settings`: its default, how that default is shown, how a text
    is read, and what it means.
    """
    metadata = {"shown": shown, "read": read, "meaning": meaning}
    # attrs' own convention: a field is typed as what it will hold.
    return field(default=default, metadata=metadata)


@frozen(kw_only=True)
class Settings:
    """
    What the operator chose.  Durations are in seconds, sizes in bytes.
    """

    port: int = option(
        8080, "8080", int_range(0, 65535), "TCP port to listen on; 0 takes a free one."
    )
    interface: str = option(
        "127.0.0.1",
        "127.0.0.1",
        address,
        "Address to bind with --port.  Anything but loopback needs --token-file or --insecure.",
    )
    listen: str = option(
        "",
        "",
        str,
        "A Twisted endpoint string instead of --port and --interface, such as "
        "unix:/run/kiroworkers.sock or systemd:domain=INET:index=0.",
    )
    insecure: bool = option(
        False,
        "no",
        boolean,
        "Serve on an address that other machines can reach without --token-file: whoever "
        "reaches the port can ask.",
    )
    repo_path: Path | None = option(
        None, "the current folder", folder, "Folder in which the sessions run."
    )
    agent: tuple[AgentCount, ...] = option(
        (AgentCount("auto"),),
        "auto",
        agent_counts,
        "Who answers: kiro (by its version, kiro-classic or kiro-acp), kiro-tui, q, llm, "
        "codex, gemini, gemini-acp, opencode-acp, offline (built in, by rules), a dialect "
        "file (.toml), or auto: Kiro when kiro-cli is on PATH, else offline.  NAME=COUNT "
        "gives it so many workers.  Several, by the flag again or with commas, serve side "
        "by side, each with a queue of its own.",
    )
    tasks: Path | None = option(
        None,
        "",
        folder,
        "Folder of task files (.toml), served beside the built-in ones; one of the same name "
        "replaces a built-in.  Read again at SIGHUP.",
    )
    agent_command: str = option(
        "",
        "",
        str,
        "Any program that prints a prompt and reads a line, with its arguments, "
        "instead of --agent; with --agent acp, one that speaks ACP.",
    )
    prompt_pattern: str = option(
        "",
        "",
        str,
        "With --agent-command: a regular expression that its prompt matches, alone "
        "on the last line; ^> $ without.",
    )
    allow_tools: bool = option(
        False,
        "no",
        boolean,
        "Say yes, this once, each time the agent asks whether it may use a tool.  The "
        "prompt holds text of clients.",
    )
    pass_env: tuple[str, ...] = option(
        (),
        "",
        variables,
        "Variables of the server that agents get besides their own: names or patterns, with "
        "commas, each for every agent or, as in kiro:GITHUB_TOKEN, for the one of that name.",
    )
    workdir: str = option(
        "shared",
        "shared",
        choice("shared", "per-worker", "git-worktree"),
        "Where sessions run: in --repo-path (shared), each in an empty folder (per-worker) or "
        "each in a checkout of what is HEAD in --repo-path (git-worktree).",
    )
    state_dir: Path | None = option(
        None,
        "",
        new_folder,
        "Where jobs are kept, and folders of --workdir and of agents that need their own.  "
        "Without, those are temporary, and jobs are below $XDG_STATE_HOME/kiroworkers.",
    )
    token_file: Path | None = option(
        None,
        "",
        file,
        "Tokens that requests must bear, one a line: a name, its scopes (ask, watch, "
        "operate, with commas) and the token.",
    )
    workers: int = option(
        2, "2", workers_of_one, "Sessions kept warm, of each agent that has no COUNT."
    )
    max_workers: int = option(
        0,
        "0",
        int_range(0, 512),
        "Workers at most: more are started under load and end after it; 0 never starts more.",
    )
    min_spare: int = option(
        1,
        "1",
        int_range(0, 512),
        "With --max-workers: fewer idle workers than this, and more are started.",
    )
    max_spare: int = option(
        2,
        "2",
        int_range(0, 512),
        "With --max-workers: never fewer idle workers than this for a whole "
        "--check-interval, and those above it end.",
    )
    backlog: int = option(
        32,
        "32",
        int_range(0, 1_000_000),
        "Requests that may wait for a worker; 0 refuses at once when all are busy.",
    )
    queue_timeout: float = option(
        30.0, "30", seconds, "Longest wait for a worker; then 503 with Retry-After."
    )
    request_timeout: float = option(
        120.0,
        "120",
        seconds,
        "Deadline of a request, its wait included; then 504.  Keep it below your "
        "client's own time-out.",
    )
    max_jobs: int = option(
        1000,
        "1000",
        int_range(0, 1_000_000),
        "Jobs (Prefer: respond-async) that may be unfinished; one more gets 503.",
    )
    job_ttl: float = option(
        3600.0,
        "1h",
        seconds,
        "How long what a job came to, or what was said under an Idempotency-Key, is kept.",
    )
    callback_secret_file: Path | None = option(
        None,
        "",
        file,
        "A secret of 16 characters at least that callbacks are signed with; without, "
        "nobody is called back.",
    )
    callback_hosts: tuple[str, ...] = option(
        (),
        "",
        host_patterns,
        "The only hosts that are called back, wherever they are: names, addresses or patterns, "
        "with commas.  Without: any whose addresses are all public.",
    )
    reset: str = option(
        "clear",
        "clear",
        choice("clear", "recycle", "none"),
        "What keeps a request from earlier ones: clear (the agent forgets the "
        "conversation), recycle (a new process for each) or none.",
    )
    startup_timeout: float = option(60.0, "60", seconds, "From a session's start to its prompt.")
    cancel_timeout: float = option(
        10.0,
        "10",
        seconds,
        "For the prompt to come back after an interrupt or a clear; then the session is replaced.",
    )
    stop_timeout: float = option(5.0, "5", seconds, "From a session's SIGTERM to its SIGKILL.")
    check_interval: float = option(60.0, "60", seconds, "The health monitor's round.")
    idle_timeout: float = option(
        300.0,
        "300",
        seconds,
        "Renew a session idle for longer: one at a time, and only while another is ready.",
    )
    max_requests: int = option(
        50, "50", int_range(1), "Renew a session after so many answers, and up to a fifth more."
    )
    max_age: float = option(3600.0, "3600", seconds, "Renew a session that is older.")
    memory_max: int = option(
        2 * 1024**3,
        "2GiB",
        byte_size,
        "Renew a session that holds more memory, its children included; looked at "
        "every --check-interval.",
    )
    restart_delay: float = option(
        5.0,
        "5",
        seconds,
        "From a session's unexpected end to its successor's start.  It doubles while "
        "sessions end without an answer within --start-limit-interval.",
    )
    restart_max_delay: float = option(
        300.0,
        "300",
        seconds,
        "Longest such delay, and from one probe of a failed worker to the next.",
    )
    start_limit_burst: int = option(
        5, "5", int_range(1), "So many such ends in a row, and the worker has failed."
    )
    start_limit_interval: float = option(
        300.0, "300", seconds, "A session that lives for longer ends such a row."
    )
    graceful_timeout: float = option(
        130.0,
        "130",
        seconds,
        "After SIGTERM: how long requests that were taken may go on.",
    )
    allow_host: tuple[str, ...] = option(
        (),
        "",
        hosts,
        "What the server may be called in Host besides localhost, 127.0.0.1, ::1 and the address "
        "that was reached: names or addresses, with commas.  Without it, a server with "
        "--token-file or --insecure answers to any name.",
    )
    cors_origin: tuple[str, ...] = option(
        (),
        "none",
        origins,
        "Origins whose pages may call from a browser: none, loopback (localhost, 127.0.0.1 and "
        "::1 on any port), * (any), or a list with commas.  What pages of others POST, PUT or "
        "DELETE is refused.",
    )
    rate: int = option(
        0,
        "0",
        int_range(0, 1_000_000),
        "Requests a minute that a client (by its token, else by its address) may begin, then "
        "429 with Retry-After; a GET is not counted; 0 for any number.",
    )
    rate_burst: int = option(
        10, "10", int_range(1, 1_000_000), "With --rate: so many requests may come at once."
    )
    max_connections: int = option(
        1000, "1000", int_range(1), "Connections at most; one more gets 503 and is closed."
    )
    max_connections_per_address: int = option(
        100,
        "100",
        int_range(0),
        "Connections at most of one address, or of one /64 network of IPv6, but for those of "
        "this machine; 0 for any number.",
    )
    receive_timeout: float = option(
        30.0, "30", seconds, "From a request's first byte to its last; then 408."
    )
    max_body: int = option(
        1024**2, "1MiB", byte_size, "Largest request body; a larger one gets 413."
    )
    max_output: int = option(
        8 * 1024**2, "8MiB", byte_size, "Most that a session may print in one turn; then 502."
    )

    @classmethod
    def read(
        cls, flags: Mapping[str, str | None], environ: Mapping[str, str] | None = None
    ) -> Settings:
        """
        The settings that `flags` (by option name, without dashes in front; None
        where not given) and `environ` (default: this process's own) ask for.

        Raises:
            InvalidSetting: naming the flag or the variable as it was spelt.
        """
        environ = os.environ if environ is None else environ
        found: dict[str, Any] = {}
        for each in options():
            for spelt, text in (
                (each.flag, flags.get(each.flag.removeprefix("--"))),
                (each.variable, environ.get(each.variable)),
                (_PLAIN_NAMES.get(each.name, ""), environ.get(_PLAIN_NAMES.get(each.name, ""))),
            ):
                if text is not None:
                    try:
                        found[each.name] = each.read(text)
                    except ValueError as problem:
                        raise InvalidSetting(spelt, text, str(problem)) from None
                    break
        settings = cls(**found)
        settings._check()
        return settings

    def _check(self) -> None:
        """
        Raises:
            InvalidSetting: where two knobs contradict each other.
        """
        for each in self.agent:
            if 0 < self.max_workers < self.workers_of(each):
                said = f"--agent {each.agent}={each.workers}"
                if not each.workers:
                    said = f"--workers, {self.workers}"
                raise InvalidSetting("--max-workers", str(self.max_workers), f"is below {said}")
        if self.max_spare < self.min_spare:
            raise InvalidSetting(
                "--max-spare", str(self.max_spare), f"is below --min-spare, {self.min_spare}"
            )

    def workers_of(self, agent_counts: AgentCount) -> int:
        """
        How many workers the agent has.
        """
        return agent_counts.workers or self.workers

    @property
    def open_to_others(self) -> bool:
        """
        May other machines reach the server?
        """
        return self.insecure or self.token_file is not None

    @property
    def endpoint(self) -> str:
        """
        Where to listen, as a Twisted endpoint string.
        """
        if self.listen:
            return self.listen
        kind = "tcp6" if ":" in self.interface else "tcp"
        host = self.interface.replace(":", r"\:")
        # What may be connected at once may come at once: who finds no room among those
        # that are not accepted yet tries again after a second.
        return f"{kind}:{self.port}:interface={host}:backlog={self.max_connections}"


@frozen
class Option:
    """
    One row of the table, as `--help`, the environment and the docs need it.
    """

    name: str
    shown: str
    read: Callable[[str], Any]
    meaning: str

    @property
    def flag(self) -> str:
        return "--" + self.name.replace("_", "-")

    @property
    def variable(self) -> str:
        return "KIROWORKERS_" + self.name.upper()

    @property
    def variables(self) -> tuple[str, ...]:
        plain = _PLAIN_NAMES.get(self.name)
        return (self.variable, plain) if plain else (self.variable,)

    @property
    def is_boolean(self) -> bool:
        return self.read is boolean

    @property
    def is_repeatable(self) -> bool:
        return self.read is agent_counts


def options() -> tuple[Option, ...]:
    """
    The whole table, in the order of `Settings`.
    """
    return tuple(Option(name=each.name, **each.metadata) for each in fields(Settings))


def inherited_environment() -> dict[str, str]:
    """
    This process's environment, for the programs it starts.
    """
    return dict(os.environ)
