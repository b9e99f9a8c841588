"""
Define every option of the server: its name, default, type and help text, in one table.

The table is the class `Settings`.  The command line's options, the names of the
environment variables and the list in README.rst are all made from it::

    >>> Settings.read({"workers": "3"}, {"PORT": "9000"}).port
    9000

A flag takes precedence over `KIROWORKERS_<NAME>`, which takes precedence over `PORT`
and `REPO_PATH`, which take precedence over the default.

No other module of the server reads the environment of its process.  (The commands in
`kiroworkers.cli`, the offline agent, the supervisor of an agent and the program that makes
git checkouts run in processes of their own and read theirs.)
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from attrs import fields, frozen

from kiroworkers.errors import InvalidSetting
from kiroworkers.option_types import (
    AgentCount,
    address,
    agent_counts,
    boolean,
    byte_size,
    choice,
    file,
    folder,
    host_patterns,
    hosts,
    int_range,
    model_patterns,
    new_folder,
    option,
    origins,
    proxies,
    seconds,
    variables,
    word,
    worker_count,
)

#: Well-known names of two variables, accepted besides KIROWORKERS_PORT and
#: KIROWORKERS_REPO_PATH.
_SHORT_VARIABLES = {"port": "PORT", "repo_path": "REPO_PATH"}

#: What the names of the server's variables begin with, and those of the offline agent's.
_PREFIX, _OFFLINE_PREFIX = "KIROWORKERS_", "KIROWORKERS_OFFLINE_"

#: Variables of the commands and of the tests, which a server may inherit.
_FOREIGN_VARIABLES = (
    "KIROWORKERS_CHECK_CALLBACKS",
    "KIROWORKERS_NPM",
    "KIROWORKERS_RECORDINGS",
    "KIROWORKERS_TOKEN",
    "KIROWORKERS_URL",
)


@frozen(kw_only=True)
class Settings:
    """
    Hold what the operator configured.

    Durations are in seconds, sizes in bytes.  The help text of each option says what it
    does.
    """

    port: int = option(
        8080, "8080", int_range(0, 65535), "TCP port to listen on; 0 picks a free port."
    )
    interface: str = option(
        "127.0.0.1",
        "127.0.0.1",
        address,
        "IP address to bind together with --port. Any address but loopback needs --token-file "
        "or --insecure.",
    )
    listen: str = option(
        "",
        "",
        str,
        "Twisted endpoint string to listen on instead of --port and --interface, such as "
        "unix:/run/kiroworkers.sock or systemd:domain=INET:index=0. The permissions of a Unix "
        "socket are 660 unless the string has another :mode=.",
    )
    insecure: bool = option(
        False,
        "no",
        boolean,
        "Serve on an address that other machines can reach without --token-file: anybody who "
        "can reach the port can send requests.",
        is_boolean=True,
    )
    repo_path: Path | None = option(
        None, "the current folder", folder, "Folder in which the agents' sessions run."
    )
    agent: tuple[AgentCount, ...] = option(
        (AgentCount("auto"),),
        "auto",
        agent_counts,
        "Agent that answers: kiro (kiro-classic, kiro-acp or kiro-acp-v3, depending on its "
        "version), kiro-tui, q, claude, copilot, codex, gemini, gemini-acp, opencode, llm, acp "
        "(with --agent-command), offline (built in, answers by rules), a dialect file (.toml), or "
        "auto: Kiro if kiro-cli is on PATH, otherwise offline. NAME=COUNT sets the agent's number "
        "of workers. To run several agents side by side, each with its own queue, repeat the "
        "option or separate them with commas.",
        is_repeatable=True,
    )
    tasks: Path | None = option(
        None,
        "",
        folder,
        "Folder of task files (.toml) to serve in addition to the built-in tasks. A task with "
        "the name of a built-in task replaces it. Reloaded on SIGHUP.",
    )
    agent_command: str = option(
        "",
        "",
        str,
        "Program to run instead of --agent, with its arguments: any program that prints a "
        "prompt and reads a line. With --agent acp, a program that speaks ACP.",
    )
    prompt_pattern: str = option(
        "",
        "",
        str,
        "With --agent-command: regular expression that matches the program's prompt, alone on "
        "the last line. Without this option it is ^> $.",
    )
    tools: str = option(
        "deny",
        "deny",
        choice("deny", "ask", "allow"),
        "What happens when an agent asks to use a tool: deny, ask (operators decide at "
        "/operator/approvals; without a decision, the use is denied at the request's deadline) or "
        "allow (for that one use). Keep in mind that prompts contain text from clients.",
    )
    allow_tools: bool = option(False, "no", boolean, "The same as --tools allow.", is_boolean=True)
    model: str = option(
        "",
        "",
        word,
        "Model that answers unless the task or the client chooses another; the name is the agent's "
        "own. Without this option, the agent's default.",
    )
    effort: str = option(
        "",
        "",
        word,
        "Reasoning effort of the model; the name of the level is the agent's own. Without this "
        "option, the agent's default.",
    )
    models: tuple[str, ...] = option(
        (),
        "",
        model_patterns,
        "Models that clients may choose with X-Model, or as AGENT/MODEL in the OpenAI API: "
        "comma-separated names or patterns. Without this option, clients may choose none.",
    )
    kiro_agent: str = option(
        "",
        "",
        str,
        "Agent within Kiro (kiro-cli --agent) that its sessions run: a name, or minimal for an "
        "agent without tools, MCP servers or steering, in a separate KIRO_HOME for each session. "
        "Without this option, the user's default agent.",
    )
    pass_env: tuple[str, ...] = option(
        (),
        "",
        variables,
        "Environment variables that agents inherit from the server in addition to those of "
        "their dialect: comma-separated names or patterns. A prefix, as in kiro:GITHUB_TOKEN, "
        "passes one to that agent only.",
    )
    workdir: str = option(
        "shared",
        "shared",
        choice("shared", "per-worker", "git-worktree"),
        "Where sessions run: in --repo-path (shared), each in an empty folder (per-worker), or "
        "each in a checkout of the HEAD of --repo-path (git-worktree).",
    )
    state_dir: Path | None = option(
        None,
        "",
        new_folder,
        "Folder for jobs, and for the folders that --workdir and some agents need. It must "
        "belong to the server's user, and not be writable by every user. Without it, those "
        "folders are temporary and jobs are stored below $XDG_STATE_HOME/kiroworkers.",
    )
    token_file: Path | None = option(
        None,
        "",
        file,
        "File of tokens; each request must then carry one of them. Each line has a name, "
        "scopes (ask, watch, operate; comma-separated) and a token. Reloaded on SIGHUP.",
    )
    workers: int = option(
        2, "2", worker_count, "Number of warm sessions of each agent that has no COUNT of its own."
    )
    max_workers: int = option(
        0,
        "0",
        int_range(0, 512),
        "Maximum number of workers of each agent: more are started under load and stopped after "
        "it. 0 disables autoscaling.",
    )
    min_spare: int = option(
        1,
        "1",
        int_range(0, 512),
        "With --max-workers: start workers while fewer than this many are idle.",
    )
    max_spare: int = option(
        2,
        "2",
        int_range(0, 512),
        "With --max-workers: number of workers that may stay idle for a whole --check-interval; "
        "any more are stopped.",
    )
    backlog: int = option(
        32,
        "32",
        int_range(0, 1_000_000),
        "Maximum number of requests that wait for a worker. With 0, requests get 503 as soon "
        "as all workers are busy.",
    )
    queue_timeout: float = option(
        30.0,
        "30",
        seconds,
        "Longest time that a request waits for a worker (seconds); after that it gets 503 with "
        "Retry-After.",
    )
    request_timeout: float = option(
        120.0,
        "120",
        seconds,
        "Deadline of a request, including its wait (seconds); after that it gets 504. Keep it "
        "below your client's own timeout.",
    )
    max_jobs: int = option(
        1000,
        "1000",
        int_range(0, 1_000_000),
        "Maximum number of unfinished jobs (Prefer: respond-async); one more gets 503.",
    )
    max_job_bytes: int = option(
        1024**3,
        "1GiB",
        byte_size,
        "Maximum size of all stored jobs: the inputs of unfinished ones and the results of the "
        "others; one more gets 503.",
    )
    max_job_bytes_per_client: int = option(
        256 * 1024**2,
        "256MiB",
        byte_size,
        "Maximum size of the stored jobs of one client; one more gets 503.",
    )
    job_ttl: float = option(
        3600.0, "1h", seconds, "Retention of job results and idempotency records (seconds)."
    )
    callback_secret_file: Path | None = option(
        None,
        "",
        file,
        "File with the secret that callbacks are signed with, at least 16 characters long. "
        "Without it, callbacks are disabled.",
    )
    callback_hosts: tuple[str, ...] = option(
        (),
        "",
        host_patterns,
        "Hosts that callbacks may go to, private ones included: comma-separated names, "
        "addresses or patterns. Without it, callbacks may go to any host whose addresses are "
        "all public.",
    )
    reset: str = option(
        "clear",
        "clear",
        choice("clear", "recycle", "none"),
        "What isolates a request from earlier ones: clear (the agent clears its conversation), "
        "recycle (each request gets a new process) or none (the conversation continues).",
    )
    canary: bool = option(
        False,
        "no",
        boolean,
        "Let sessions of a new version of an agent serve only after one of them has returned a "
        "test text unaltered; sessions of the earlier version are kept until then. Each new "
        "version costs one turn.",
        is_boolean=True,
    )
    startup_timeout: float = option(
        60.0, "60", seconds, "Longest time from the start of a session to its prompt (seconds)."
    )
    cancel_timeout: float = option(
        10.0,
        "10",
        seconds,
        "Longest time for the prompt to return after an interrupt or a clear (seconds); after "
        "that the session is replaced.",
    )
    stop_timeout: float = option(
        5.0, "5", seconds, "Time between SIGTERM and SIGKILL when a session is stopped (seconds)."
    )
    check_interval: float = option(60.0, "60", seconds, "Interval between health checks (seconds).")
    idle_timeout: float = option(
        300.0,
        "300",
        seconds,
        "Replace a session that has been idle for longer than this (seconds); one at a time, "
        "and only while another is ready.",
    )
    max_requests: int = option(
        50,
        "50",
        int_range(1),
        "Replace a session after this many answers, plus up to a fifth more at random.",
    )
    max_age: float = option(
        3600.0, "3600", seconds, "Replace a session that is older than this (seconds)."
    )
    memory_max: int = option(
        2 * 1024**3,
        "2GiB",
        byte_size,
        "Replace a session that uses more memory than this, including its child processes; "
        "measured every --check-interval.",
    )
    restart_delay: float = option(
        5.0,
        "5",
        seconds,
        "Delay before a session that ended unexpectedly is restarted (seconds). It doubles "
        "while sessions end without an answer within --start-limit-interval.",
    )
    restart_max_delay: float = option(
        300.0,
        "300",
        seconds,
        "Upper limit of the restart delay, and interval between the restarts of a failed worker "
        "(seconds).",
    )
    start_limit_burst: int = option(
        5,
        "5",
        int_range(1),
        "Number of failed starts in a row after which a worker counts as failed.",
    )
    start_limit_interval: float = option(
        300.0,
        "300",
        seconds,
        "A session that ends without an answer sooner than this (seconds) is a failed start.",
    )
    graceful_timeout: float = option(
        130.0,
        "130",
        seconds,
        "Time after SIGTERM in which accepted requests may finish (seconds).",
    )
    allow_host: tuple[str, ...] = option(
        (),
        "",
        hosts,
        "Names that the Host header may give the server besides localhost, 127.0.0.1, ::1 and "
        "the address that the client connected to: comma-separated names or addresses. Without "
        "it, a server with --token-file or --insecure accepts any name.",
    )
    cors_origin: tuple[str, ...] = option(
        (),
        "none",
        origins,
        "Origins whose pages may call the server from a browser: none, loopback (localhost, "
        "127.0.0.1 and ::1 on any port), * (any), or a comma-separated list. POST, PUT and "
        "DELETE requests from pages of other origins are rejected.",
    )
    rate: int = option(
        0,
        "0",
        int_range(0, 1_000_000),
        "Maximum number of requests per minute and client (by its token, otherwise by its "
        "address); more get 429 with Retry-After. GET requests do not count. 0 means no limit.",
    )
    rate_burst: int = option(
        10,
        "10",
        int_range(1, 1_000_000),
        "With --rate: number of requests that a client may send at once.",
    )
    anonymous_rate: int = option(
        300,
        "300",
        int_range(0, 1_000_000),
        "With --token-file: maximum number of requests without a valid token per minute and "
        "address (IPv6: per /64 network), a tenth of them at once; more get 429 with Retry-After, "
        "after a second. /ready is delayed but never refused. 0 means no limit.",
    )
    trusted_proxy: tuple[str, ...] = option(
        (),
        "",
        proxies,
        "Proxies whose X-Forwarded-For or Forwarded header names the client: addresses or "
        "networks, and unix for those that connect to a UNIX domain socket. Repeat the option or "
        "separate them with commas. Without it, these headers are not read, and all clients of a "
        "proxy count as one.",
        is_repeatable=True,
    )
    max_connections: int = option(
        1000,
        "1000",
        int_range(1),
        "Maximum number of open connections; one more gets 503 and is closed.",
    )
    max_connections_per_address: int = option(
        100,
        "100",
        int_range(0),
        "Maximum number of open connections per address (IPv6: per /64 network), except those "
        "from this machine and from a --trusted-proxy. 0 means no limit.",
    )
    receive_timeout: float = option(
        30.0,
        "30",
        seconds,
        "Longest time from a request's first byte to its last (seconds); after that it gets 408.",
    )
    max_body: int = option(
        1024**2, "1MiB", byte_size, "Maximum size of a request body; a larger one gets 413."
    )
    max_output: int = option(
        8 * 1024**2,
        "8MiB",
        byte_size,
        "Maximum output of a session in one turn; with more, the request gets 502.",
    )

    @classmethod
    def read(
        cls, flags: Mapping[str, str | None], environ: Mapping[str, str] | None = None
    ) -> Settings:
        """
        Return the settings that the command line and the environment ask for.

        Args:
            flags: Texts by option name, without the leading dashes; None for an option that
                was not given.
            environ: The environment; this process's own by default.

        Raises:
            InvalidSetting: If a text is not valid.  It names the flag or the variable as the
                operator wrote it.
        """
        environ = os.environ if environ is None else environ
        values: dict[str, Any] = {}
        for row in options():
            texts = {row.flag: flags.get(row.flag.removeprefix("--"))}
            texts |= {variable: environ.get(variable) for variable in row.variables}
            for spelling, text in texts.items():
                if text is not None:
                    try:
                        values[row.name] = row.read(text)
                    except ValueError as error:
                        raise InvalidSetting(spelling, text, str(error)) from None
                    break
        # Only explicit values can contradict each other.
        if values.get("allow_tools") and values.get("tools", "allow") != "allow":
            raise InvalidSetting("--tools", values["tools"], "contradicts --allow-tools")
        settings = cls(**values)
        settings._check_consistency()
        return settings

    def _check_consistency(self) -> None:
        """
        Check that the options do not contradict each other.

        Raises:
            InvalidSetting: If two of them do.
        """
        for agent in self.agent:
            if 0 < self.max_workers < self.workers_of(agent):
                minimum = f"--agent {agent.agent}={agent.workers}"
                if not agent.workers:
                    minimum = f"--workers, {self.workers}"
                raise InvalidSetting("--max-workers", str(self.max_workers), f"is below {minimum}")
        if self.max_spare < self.min_spare:
            raise InvalidSetting(
                "--max-spare", str(self.max_spare), f"is below --min-spare, {self.min_spare}"
            )

    def workers_of(self, agent: AgentCount) -> int:
        """
        Return the number of workers that `agent` starts with.
        """
        return agent.workers or self.workers

    @property
    def tool_policy(self) -> str:
        """
        Return what happens when an agent asks to use a tool: deny, ask or allow.
        """
        return "allow" if self.allow_tools else self.tools

    @property
    def open_to_others(self) -> bool:
        """
        Return whether the operator allows an address that other machines can reach.
        """
        return self.insecure or self.token_file is not None

    @property
    def endpoint(self) -> str:
        """
        Return the Twisted endpoint string to listen on.
        """
        if self.listen:
            return self.listen
        kind = "tcp6" if ":" in self.interface else "tcp"
        host = self.interface.replace(":", r"\:")
        # All allowed connections may arrive at once.  One that finds the kernel's queue of
        # connections full is retried only after a second.
        return f"{kind}:{self.port}:interface={host}:backlog={self.max_connections}"


@frozen
class Option:
    """
    Hold one row of the table, as ``--help``, the environment and README.rst need it.

    Attributes:
        name: The name of the field of `Settings`.
        default_text: The default as the operator would write it; empty to show none.
        read: The reader of the option's text, which raises `ValueError`.
        help_text: What the option does, in sentences for the operator.
        is_boolean: Whether the flag stands alone, without a value.
        is_repeatable: Whether the flag may be given more than once.
    """

    name: str
    default_text: str
    read: Callable[[str], Any]
    help_text: str
    is_boolean: bool
    is_repeatable: bool

    @property
    def flag(self) -> str:
        """
        Return the flag, such as ``--queue-timeout``.
        """
        return "--" + self.name.replace("_", "-")

    @property
    def variables(self) -> tuple[str, ...]:
        """
        Return the names of the environment variables, in order of precedence.
        """
        variable = _PREFIX + self.name.upper()
        short = _SHORT_VARIABLES.get(self.name)
        return (variable, short) if short else (variable,)


def options() -> tuple[Option, ...]:
    """
    Return the whole table, in the order of `Settings`.
    """
    return tuple(Option(name=row.name, **row.metadata) for row in fields(Settings))


def unknown_variables(names: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """
    Yield the variables that look like the server's and are not.

    Args:
        names: The names of the variables in the environment.

    Yields:
        The name of the variable, and that of the server's own variable that is most like
        it; None if no name is.
    """
    own = {option.name.upper() for option in options()}
    for name in sorted(names):
        rest = name.removeprefix(_PREFIX)
        known = rest in own or name in _FOREIGN_VARIABLES or name.startswith(_OFFLINE_PREFIX)
        if name.startswith(_PREFIX) and not known:
            nearest = get_close_matches(rest, own, 1)
            yield name, _PREFIX + nearest[0] if nearest else None


def inherited_environment() -> dict[str, str]:
    """
    Return a copy of this process's environment.
    """
    return dict(os.environ)
