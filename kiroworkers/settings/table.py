"""
Define every option of the server: its name, default, type and help text, in one table.

The table is the class `Settings`.  The command line's options, the names of the
environment variables, the keys of a configuration file and docs/settings.rst are all made
from it::

    >>> Settings.read({"workers": "3"}, {"PORT": "9000"}).port
    9000

A flag takes precedence over `KIROWORKERS_<NAME>`, which takes precedence over `PORT`
and `REPO_PATH`, which take precedence over the configuration file, which takes precedence
over the default.

No other module of the server reads the environment of its process.  (The commands in
`kiroworkers.cli`, the offline agent, the supervisor of an agent and the program that makes
git checkouts run in processes of their own and read theirs.)
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Any

from attrs import field, fields, frozen

from kiroworkers.errors import InvalidSetting
from kiroworkers.settings.config_file import ConfigFile, InvalidConfig, load_config
from kiroworkers.settings.option_types import (
    AgentCount,
    address,
    agent_counts,
    any_text,
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
    origins,
    proxies,
    seconds,
    seconds_or_zero,
    variables,
    word,
    worker_count,
)
from kiroworkers.settings.options import PREFIX, Option, option

#: Seconds for which a server behind a proxy accepts requests after SIGTERM, by default.
_LAME_DUCK = 3.0

#: What the names of the offline agent's variables begin with.
_OFFLINE_PREFIX = "KIROWORKERS_OFFLINE_"

#: The groups of options, in the order in which they are shown, with their titles.
GROUPS: Mapping[str, str] = {
    "server": "Server",
    "agents": "Agents",
    "tasks": "Tasks",
    "pool": "Workers",
    "requests": "Requests",
    "jobs": "Jobs and callbacks",
    "cluster": "Several servers",
    "sessions": "Sessions",
    "tools": "Tools of agents",
    "limits": "Limits for clients",
    "access": "Access",
    "observability": "Observability",
}

#: Variables of the commands and of the tests, which a server may inherit.
_FOREIGN_VARIABLES = (
    "KIROWORKERS_EXAMPLES",
    "KIROWORKERS_HAPROXY",
    "KIROWORKERS_LONG",
    "KIROWORKERS_NODE_MODULES",
    "KIROWORKERS_NPM",
    "KIROWORKERS_PAGES",
    "KIROWORKERS_POSTGRES",
    "KIROWORKERS_PROMTOOL",
    "KIROWORKERS_RACING_VALUES",
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

    config: Path | None = option(
        None,
        "",
        file,
        "Configuration file (TOML). Each table is a group of options, each key the name of a "
        "flag. Relative paths in it begin at its folder. [tasks.NAME] has default values for "
        "the input fields of a task. Read at the start only.",
        group="server",
    )
    port: int = option(
        8080,
        "8080",
        int_range(0, 65535),
        "TCP port to listen on; 0 picks a free port.",
        group="server",
        value_name="PORT",
    )
    interface: str = option(
        "127.0.0.1",
        "127.0.0.1",
        address,
        "IP address to listen on. Any address but loopback needs --token-file or --insecure.",
        group="server",
    )
    listen: str = option(
        "",
        "",
        any_text,
        "Twisted endpoint to listen on. It replaces --port and --interface. Examples are "
        "unix:/run/kiroworkers.sock and systemd:domain=INET:index=0. The permissions of a Unix "
        "socket are 660 unless the string has another :mode=.",
        group="server",
        value_name="ENDPOINT",
    )
    state_dir: Path | None = option(
        None,
        "",
        new_folder,
        "Folder for jobs and sessions' own files. It must belong to the server's user, and not "
        "be writable by every user. Without it, jobs are stored below "
        "$XDG_STATE_HOME/kiroworkers, and the folders that --workdir and some agents need are "
        "temporary.",
        group="server",
    )
    graceful_timeout: float = option(
        130.0,
        "130",
        seconds,
        "Time to finish accepted requests after SIGTERM.",
        group="server",
    )
    lame_duck: float | None = option(
        None,
        "",
        seconds_or_zero,
        "Time to accept more requests after SIGTERM. GET /ready answers 503 at "
        "once, so a load balancer stops sending requests before the server refuses them. Without "
        "it, 3 seconds with --trusted-proxy and 0 otherwise.",
        group="server",
    )
    agent: tuple[AgentCount, ...] = option(
        (AgentCount("auto"),),
        "auto",
        agent_counts,
        "Agents that answer, such as kiro or kiro=3,codex. The names are kiro (kiro-classic, "
        "kiro-acp or kiro-acp-v3, depending on its version), kiro-tui, q, claude, copilot, "
        "codex, gemini, gemini-acp, opencode, llm, acp (with --agent-command), offline (built "
        "in, answers by rules) and paths of dialect files (.toml); auto means kiro if kiro-cli "
        "is on PATH, otherwise offline. NAME=COUNT sets the agent's number of workers. To run "
        "several agents side by side, each with its own queue, repeat the option or separate "
        "them with commas.",
        group="agents",
        is_repeatable=True,
    )
    agent_command: str = option(
        "",
        "",
        any_text,
        "Program to run as the agent, with its arguments. It replaces --agent. It can be any "
        "program that prints a prompt and reads a line; with --agent acp, one that speaks ACP.",
        group="agents",
        value_name="COMMAND",
    )
    prompt_pattern: str = option(
        "",
        "",
        any_text,
        "Regular expression of the prompt of --agent-command. It must match all of the last "
        "line. Without this option it is ^> $.",
        group="agents",
        value_name="REGEX",
    )
    model: str = option(
        "",
        "",
        word,
        "Model that answers. The task or the client may choose another. The name is the agent's "
        "own. Without this option, the agent chooses.",
        group="agents",
    )
    effort: str = option(
        "",
        "",
        word,
        "Reasoning effort of the model. The name of the level is the agent's own. Without this "
        "option, the agent chooses.",
        group="agents",
        value_name="LEVEL",
    )
    models: tuple[str, ...] = option(
        (),
        "",
        model_patterns,
        "Models that clients may choose. They are names or patterns. Clients choose with "
        "X-Model, or as AGENT/MODEL in the OpenAI API. Without this option, they may choose "
        "none.",
        group="agents",
    )
    kiro_agent: str = option(
        "",
        "",
        any_text,
        "Agent within Kiro that sessions run. It is passed as kiro-cli --agent. The name "
        "minimal stands for an agent without tools, MCP servers or steering, in a separate "
        "KIRO_HOME for each session. Without this option, sessions run the user's default "
        "agent.",
        group="agents",
        value_name="NAME",
    )
    pass_env: tuple[str, ...] = option(
        (),
        "",
        variables,
        "Environment variables to pass to agents. They are added to those of the agents' "
        "dialects. Each is a name or a pattern. A prefix, as in kiro:GITHUB_TOKEN, passes one "
        "to that agent only.",
        group="agents",
    )
    repo_path: Path | None = option(
        None,
        "the current folder",
        folder,
        "Folder in which sessions run.",
        group="agents",
    )
    workdir: str = option(
        "shared",
        "shared",
        choice("shared", "per-worker", "git-worktree"),
        "Where sessions run. With shared, all run in --repo-path; with per-worker, each in an "
        "empty folder; with git-worktree, each in a checkout of the HEAD of --repo-path.",
        group="agents",
    )
    tasks: Path | None = option(
        None,
        "",
        folder,
        "Folder of task files (.toml). They are served besides the built-in tasks; one with the "
        "name of a built-in task replaces it. Reloaded on SIGHUP.",
        group="tasks",
    )
    strict_input: bool = option(
        False,
        "no",
        boolean,
        "Refuse requests with fields unknown to the task. Without this option, such fields are "
        "ignored and named in the header X-Kiroworkers-Ignored.",
        group="tasks",
        is_boolean=True,
    )
    workers: int = option(
        2,
        "2",
        worker_count,
        "Number of warm sessions of each agent. A COUNT in --agent takes precedence.",
        group="pool",
    )
    max_workers: int = option(
        0,
        "0",
        int_range(0, 512),
        "Upper limit of autoscaling, per agent; 0 disables it. More workers are started under "
        "load and stopped after it.",
        group="pool",
    )
    min_spare: int = option(
        1,
        "1",
        int_range(0, 512),
        "Start workers while fewer than this many are idle. Used with --max-workers.",
        group="pool",
    )
    max_spare: int = option(
        2,
        "2",
        int_range(0, 512),
        "Stop idle workers beyond this many. Used with --max-workers. They are stopped once "
        "they were idle for a whole --check-interval.",
        group="pool",
    )
    check_interval: float = option(
        60.0,
        "60",
        seconds,
        "Time between health checks.",
        group="pool",
    )
    restart_delay: float = option(
        5.0,
        "5",
        seconds,
        "Delay before an ended session is restarted. It applies to sessions that ended "
        "unexpectedly, and doubles while they end without an answer within "
        "--start-limit-interval.",
        group="pool",
    )
    restart_max_delay: float = option(
        300.0,
        "300",
        seconds,
        "Upper limit of the restart delay. A failed worker is restarted at this interval.",
        group="pool",
    )
    start_limit_burst: int = option(
        5,
        "5",
        int_range(1),
        "Failed starts in a row until a worker counts as failed.",
        group="pool",
    )
    start_limit_interval: float = option(
        300.0,
        "300",
        seconds,
        "A session that ends sooner than this failed to start. One that has given an answer has "
        "started, however soon it ends.",
        group="pool",
    )
    backlog: int = option(
        32,
        "32",
        int_range(0, 1_000_000),
        "Maximum number of waiting requests; more get 503. With 0, requests get 503 as soon as "
        "all workers are busy.",
        group="requests",
    )
    queue_timeout: float = option(
        30.0,
        "30",
        seconds,
        "Longest wait for a worker; then a request gets 503. The response has Retry-After.",
        group="requests",
    )
    request_timeout: float = option(
        120.0,
        "120",
        seconds,
        "Deadline of a request; then it gets 504. The wait for a worker counts as well. Keep it "
        "below your client's own timeout.",
        group="requests",
    )
    receive_timeout: float = option(
        30.0,
        "30",
        seconds,
        "Longest time to receive a request; then it gets 408. It is measured from the first "
        "byte to the last.",
        group="requests",
    )
    max_body: int = option(
        1024**2,
        "1MiB",
        byte_size,
        "Maximum size of a request body; larger ones get 413.",
        group="requests",
    )
    max_output: int = option(
        8 * 1024**2,
        "8MiB",
        byte_size,
        "Maximum output of a turn; with more, it fails. The request then gets 502.",
        group="requests",
    )
    max_jobs: int = option(
        1000,
        "1000",
        int_range(0, 1_000_000),
        "Maximum number of unfinished jobs; more get 503. Jobs are requests with Prefer: "
        "respond-async.",
        group="jobs",
    )
    max_job_bytes: int = option(
        1024**3,
        "1GiB",
        byte_size,
        "Maximum size of all stored jobs; more get 503. The inputs of unfinished jobs count, "
        "and the results of the others.",
        group="jobs",
    )
    max_job_bytes_per_client: int = option(
        256 * 1024**2,
        "256MiB",
        byte_size,
        "Maximum size of a client's stored jobs; more get 503.",
        group="jobs",
    )
    job_ttl: float = option(
        3600.0,
        "1h",
        seconds,
        "How long results of jobs are kept. Idempotency records are kept as long.",
        group="jobs",
    )
    callback_secret_file: Path | None = option(
        None,
        "",
        file,
        "File with the secret that signs callbacks. It has at least 16 characters. Without this "
        "option, callbacks are disabled.",
        group="jobs",
    )
    callback_hosts: tuple[str, ...] = option(
        (),
        "",
        host_patterns,
        "Hosts that callbacks may go to. They are names, addresses or patterns, and may be "
        "private. Without this option, callbacks may go to any host whose addresses are all "
        "public.",
        group="jobs",
    )
    database_file: Path | None = option(
        None,
        "",
        file,
        "File with the address of a PostgreSQL database. It begins with postgresql://. All "
        "servers with the same database share jobs, idempotency keys, outages and rates. It "
        "replaces the embedded database, and needs kiroworkers[postgres]. PGPASSFILE and the "
        "other PG variables are honored.",
        group="cluster",
    )
    lease: int = option(
        15,
        "15",
        int_range(3, 600),
        "Time within which other servers take over jobs, in seconds. They take those of a server "
        "that died, hangs or has lost the database. It must be the same on all servers.",
        group="cluster",
        value_name="SECONDS",
    )
    server_name: str = option(
        "",
        "",
        word,
        "Name of this server, which no other one has. A server that is "
        "restarted with the same name continues its request history. Without it, the names of "
        "the machine and of the endpoint.",
        group="cluster",
    )
    account: str = option(
        "",
        "",
        word,
        "Name of the account that the agents use. An outage of the account, such "
        "as throttling, pauses all servers that name the same one, and one of them finds out when "
        "it is over.",
        group="cluster",
    )
    reset: str = option(
        "clear",
        "clear",
        choice("clear", "recycle", "none"),
        "What isolates a request from earlier ones. With clear, the agent clears its "
        "conversation; with recycle, each request gets a new process; with none, the "
        "conversation continues.",
        group="sessions",
    )
    canary: bool = option(
        False,
        "no",
        boolean,
        "Test each new version of an agent before it serves. Its sessions serve only after one "
        "of them has returned a test text unaltered; sessions of the earlier version are kept "
        "until then. Each new version costs one turn.",
        group="sessions",
        is_boolean=True,
    )
    startup_timeout: float = option(
        60.0,
        "60",
        seconds,
        "Longest time from a session's start to its prompt.",
        group="sessions",
    )
    cancel_timeout: float = option(
        10.0,
        "10",
        seconds,
        "Longest time for an interrupt to take effect. If the prompt does not return within "
        "this time after an interrupt or a clear, the session is replaced.",
        group="sessions",
    )
    stop_timeout: float = option(
        5.0,
        "5",
        seconds,
        "Time between SIGTERM and SIGKILL for a session.",
        group="sessions",
    )
    idle_timeout: float = option(
        300.0,
        "300",
        seconds,
        "Replace a session that was idle for longer. Sessions are replaced one at a time, and "
        "only while another is ready.",
        group="sessions",
    )
    max_requests: int = option(
        50,
        "50",
        int_range(1),
        "Replace a session after this many answers. Up to a fifth more are added at random, so "
        "that sessions are not replaced all at once.",
        group="sessions",
    )
    max_age: float = option(
        3600.0,
        "3600",
        seconds,
        "Replace a session that is older than this.",
        group="sessions",
    )
    memory_max: int = option(
        2 * 1024**3,
        "2GiB",
        byte_size,
        "Replace a session that uses more memory. Its child processes count as well. The memory "
        "is measured every --check-interval.",
        group="sessions",
    )
    tools: str = option(
        "deny",
        "deny",
        choice("deny", "ask", "allow"),
        "What happens when an agent asks to use a tool. With deny, it may not; with ask, "
        "operators decide at /operator/approvals, and a use that nobody decides on is denied at "
        "the request's deadline; with allow, it may, for that one use. Keep in mind that "
        "prompts contain text from clients.",
        group="tools",
    )
    allow_tools: bool = option(
        False,
        "no",
        boolean,
        "The same as --tools allow.",
        group="tools",
        is_boolean=True,
    )
    rate: int = option(
        0,
        "0",
        int_range(0, 1_000_000),
        "Requests per minute and client; 0 means no limit. A client is known by its token, "
        "otherwise by its address. More requests get 429 with Retry-After. GET requests do not "
        "count.",
        group="limits",
    )
    rate_burst: int = option(
        10,
        "10",
        int_range(1, 1_000_000),
        "Requests that a client may send at once. Used with --rate.",
        group="limits",
    )
    anonymous_rate: int = option(
        300,
        "300",
        int_range(0, 1_000_000),
        "Requests per minute without a token; 0: no limit. Used with --token-file. Requests "
        "without a valid token are counted for each address (IPv6: per /64 network), and a "
        "tenth of them may come at once; more get 429 with Retry-After, after a second. A file of "
        "the page at / counts as a tenth of a request. /ready is delayed but never refused.",
        group="limits",
    )
    max_connections: int = option(
        1000,
        "1000",
        int_range(1),
        "Maximum number of open connections; more get 503. Then they are closed.",
        group="limits",
    )
    max_connections_per_address: int = option(
        100,
        "100",
        int_range(0),
        "Open connections per address; 0 means no limit. IPv6 addresses count per /64 network. "
        "Connections from this machine and from a --trusted-proxy do not count.",
        group="limits",
    )
    insecure: bool = option(
        False,
        "no",
        boolean,
        "Serve other machines without --token-file. Anybody who can reach the port can send "
        "requests.",
        group="access",
        is_boolean=True,
    )
    token_file: Path | None = option(
        None,
        "",
        file,
        "File of tokens; each request must have one. Each line has a name, scopes (ask, watch, "
        "operate; comma-separated) and a token. Reloaded on SIGHUP.",
        group="access",
    )
    allow_host: tuple[str, ...] = option(
        (),
        "",
        hosts,
        "Further names for the Host header of requests. Accepted are localhost, 127.0.0.1, ::1, "
        "the address that the client connected to, and these names or addresses. Without this "
        "option, a server with --token-file or --insecure accepts any name.",
        group="access",
    )
    cors_origin: tuple[str, ...] = option(
        (),
        "none",
        origins,
        "Origins whose pages may call the server. They are none, loopback (localhost, 127.0.0.1 "
        "and ::1 on any port), * (any), or a list. POST, PUT and DELETE requests from pages of "
        "other origins are rejected.",
        group="access",
    )
    trusted_proxy: tuple[str, ...] = option(
        (),
        "",
        proxies,
        "Proxies whose headers name the client. The headers are X-Forwarded-For and Forwarded; "
        "X-Forwarded-Proto and X-Forwarded-Host name the address that browsers show. Proxies are "
        "addresses or networks, and unix stands for those that connect to a UNIX domain socket. "
        "Repeat the option or separate them with commas. Without it, these headers are not read, "
        "and all clients of a proxy count as one.",
        group="access",
        is_repeatable=True,
    )
    log_format: str = option(
        "text",
        "text",
        choice("text", "json"),
        "Format of the log. JSON has one object per line.",
        group="observability",
    )
    log_level: str = option(
        "info",
        "info",
        choice("debug", "info", "warn", "error"),
        "Least severe level that is logged.",
        group="observability",
    )
    log_prompts: bool = option(
        False,
        "no",
        boolean,
        "Log prompts and answers. Without it, neither is in the log.",
        group="observability",
        is_boolean=True,
    )
    slow_request: float = option(
        0.0,
        "",
        seconds,
        "Duration of a request from which it is in the slow log. The entry has its phases and "
        "what the agent last showed. Without it, there is no slow log.",
        group="observability",
    )
    history: int = option(
        1000,
        "1000",
        int_range(0, 100_000),
        "Number of requests that GET /requests lists.",
        group="observability",
    )
    history_age: float = option(
        86400.0,
        "86400",
        seconds,
        "Retention of the request history.",
        group="observability",
    )
    record: bool = option(
        False,
        "no",
        boolean,
        "Record the terminals and messages of all sessions. The recordings are in --state-dir; "
        "they contain prompts and answers.",
        group="observability",
        is_boolean=True,
    )
    record_max: int = option(
        256 * 1024 * 1024,
        "256MiB",
        byte_size,
        "Size of all recordings. The oldest are deleted first. Used with --record.",
        group="observability",
    )
    otlp_endpoint: str = option(
        "",
        "",
        any_text,
        "URL of an OpenTelemetry collector that gets traces. An example is "
        "http://127.0.0.1:4318 (OTLP over HTTP). Needs kiroworkers[otel].",
        group="observability",
        value_name="URL",
    )
    trace_content: bool = option(
        False,
        "no",
        boolean,
        "Put prompts and answers into traces. Used with --otlp-endpoint.",
        group="observability",
        is_boolean=True,
    )
    #: Default values of input fields by task, from [tasks.NAME] of the configuration file.
    task_defaults: Mapping[str, Mapping[str, Any]] = field(factory=dict)

    @classmethod
    def read(
        cls, flags: Mapping[str, str | None], environ: Mapping[str, str] | None = None
    ) -> Settings:
        """
        Return the settings that the command line, the environment and the file ask for.

        Args:
            flags: Texts by option name, without the leading dashes; None for an option that
                was not given.
            environ: The environment; this process's own by default.

        Raises:
            InvalidSetting: If a text or the configuration file is not valid.  It names the
                flag or the variable as the operator wrote it.
        """
        return EffectiveSettings.read(flags, environ).settings

    def check_consistency(self) -> None:
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
    def lame_duck_time(self) -> float:
        """
        Return the seconds for which requests are accepted after SIGTERM.
        """
        if self.lame_duck is None:
            return _LAME_DUCK if self.trusted_proxy else 0.0
        return self.lame_duck

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
class GivenValue:
    """
    Hold the value that the operator gave an option.

    Attributes:
        text: The value as it would be written on the command line; its paths are absolute.
        value: The value that was read from it.
        origin: Where it comes from: a flag, a variable or a line of the file.
        spelling: The flag or the variable; empty if it comes from the file.
        written: The text of the flag or the variable, as it was written.
    """

    text: str
    value: Any
    origin: str
    spelling: str = ""
    written: str = ""

    @property
    def is_flag(self) -> bool:
        """
        Return whether the value comes from a flag.
        """
        return self.spelling.startswith("--")


@frozen
class EffectiveSettings:
    """
    Hold the settings, and where each of them comes from.

    Attributes:
        settings: The settings.
        given: The values that the operator gave, by the options' names; the other options
            have their defaults.
    """

    settings: Settings
    given: Mapping[str, GivenValue]

    @classmethod
    def read(
        cls, flags: Mapping[str, str | None], environ: Mapping[str, str] | None = None
    ) -> EffectiveSettings:
        """
        Return what `Settings.read` returns, and where it comes from.

        Args:
            flags: Texts by option name, without the leading dashes; None for an option that
                was not given.
            environ: The environment; this process's own by default.

        Raises:
            InvalidSetting: If a text or the configuration file is not valid.
        """
        environ = os.environ if environ is None else environ
        given: dict[str, GivenValue] = {}
        content = ConfigFile({}, {})
        # The first option names the configuration file, which the others may come from.
        for row in options():
            value = _given(row, flags, environ) or _from_file(row, content, given)
            if value is not None:
                given[row.name] = value
                if row.name == "config":
                    content = _load(value)
        _merge_tools(given)
        values = {name: value.value for name, value in given.items()}
        settings = Settings(**values, task_defaults=content.task_defaults)
        effective = cls(settings, given)
        try:
            settings.check_consistency()
        except InvalidSetting as error:
            raise effective.explain(error) from None
        return effective

    def explain(self, error: InvalidSetting) -> InvalidSetting:
        """
        Return `error`, which names a flag, with the variable or the line that set the option.
        """
        return InvalidSetting(
            error.name, error.value, error.reason + _set_elsewhere(self.given, error.name)
        )


def _given(
    row: Option, flags: Mapping[str, str | None], environ: Mapping[str, str]
) -> GivenValue | None:
    """
    Return the value that a flag or an environment variable gives an option, or None.
    """
    texts = {row.flag: flags.get(row.key)}
    texts |= {variable: environ.get(variable) for variable in row.variables}
    for spelling, text in texts.items():
        if text is not None:
            kind = "flag" if spelling == row.flag else "environment variable"
            try:
                absolute, value = row.type.anchor(text, Path()), row.type(text)
            except ValueError as error:
                raise InvalidSetting(spelling, text, str(error)) from None
            if kind == "flag" and value is False:
                spelling = row.opposite
            return GivenValue(absolute, value, f"{kind} {spelling}", spelling, text)
    return None


def _from_file(
    row: Option, content: ConfigFile, given: Mapping[str, GivenValue]
) -> GivenValue | None:
    """
    Return the value that the configuration file gives an option, or None.
    """
    found = content.values.get(row.name)
    if found is None:
        return None
    place = f" line {found.line}" if found.line else ""
    return GivenValue(found.text, found.value, f"{given['config'].text}{place}")


def _load(config: GivenValue) -> ConfigFile:
    """
    Return the content of the configuration file.
    """
    try:
        return load_config(config.value, options())
    except InvalidConfig as error:
        raise InvalidSetting(config.spelling, config.written, str(error)) from None


def _set_elsewhere(given: Mapping[str, GivenValue], *flags: str) -> str:
    """
    Return where options are set that are not set by flags, for the end of a message.

    Args:
        given: The values that the operator gave.
        flags: The flags that the message names.
    """
    values = {flag: given.get(flag.removeprefix("--").replace("-", "_")) for flag in flags}
    places = [
        f"{flag} is set by {value.origin}"
        for flag, value in values.items()
        if value is not None and not value.is_flag
    ]
    return f" ({', '.join(places)})" if places else ""


def _merge_tools(given: dict[str, GivenValue]) -> None:
    """
    Let --allow-tools be --tools allow.  Only explicit values can contradict each other.
    """
    alias, tools = given.get("allow_tools"), given.get("tools")
    if alias is None:
        return
    # `allow-tools = false` in a file says no more than the default.
    contradicts = alias.value or alias.is_flag
    if contradicts and tools is not None and (tools.value == "allow") != alias.value:
        flag = "--allow-tools" if alias.value else "--no-allow-tools"
        places = _set_elsewhere(given, "--tools", "--allow-tools")
        raise InvalidSetting("--tools", tools.text, f"contradicts {flag}{places}")
    if alias.value:
        given["tools"] = GivenValue("allow", "allow", alias.origin)


@cache
def options() -> tuple[Option, ...]:
    """
    Return the whole table, in the order of `Settings`.
    """
    return tuple(Option(name=row.name, **row.metadata) for row in fields(Settings) if row.metadata)


def unknown_variables(names: Iterable[str]) -> Iterator[tuple[str, str | None]]:
    """
    Yield the variables that look like the server's and are not.

    Args:
        names: The names of the variables in the environment.

    Yields:
        The name of the variable, and that of the server's own variable that is most like
        it; None if no name is.
    """
    own = [option.name.upper() for option in options()]
    for name in sorted(names):
        rest = name.removeprefix(PREFIX)
        known = rest in own or name in _FOREIGN_VARIABLES or name.startswith(_OFFLINE_PREFIX)
        if name.startswith(PREFIX) and not known:
            nearest = get_close_matches(rest, own, 1)
            yield name, PREFIX + nearest[0] if nearest else None


def inherited_environment() -> dict[str, str]:
    """
    Return a copy of this process's environment.
    """
    return dict(os.environ)
