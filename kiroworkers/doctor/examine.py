"""
Make all checks, one after the other.
"""

from __future__ import annotations

import getpass
import os
import resource
import shutil
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import psutil
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.threads import deferToThreadPool

from kiroworkers.agents import Agent, AgentSpec, isolate_env
from kiroworkers.assembly import agent_specs
from kiroworkers.conversations import BadDialect
from kiroworkers.doctor import address, agents, database, files, limits, machine, state
from kiroworkers.doctor.finding import Finding, failure, ok, skipped, warning
from kiroworkers.jobs.paths import default_state_dir
from kiroworkers.settings import Settings, unknown_variables

_T = TypeVar("_T")

#: The checks that need valid options, for when there are none.
_NEED_OPTIONS = (
    "agent",
    "session",
    "address",
    "state folder",
    "disk",
    "database",
    "tokens",
    "tasks",
    "open files",
    "memory",
)


class Examination:
    """
    Make all checks.

    Args:
        reactor: Runs agents.
        settings: The settings to check; None if the options are not valid.
        problem: Why the server would refuse the options; None if it would not.
        may_start: Whether to start a session of each agent.
        environ: The environment of this process.
    """

    def __init__(
        self,
        reactor: Any,
        settings: Settings | None,
        problem: str | None,
        may_start: bool,
        environ: Mapping[str, str],
    ) -> None:
        self._reactor = reactor
        self._settings = settings
        self._problem = problem
        self._may_start = may_start
        self._environ = environ
        self._commands = agents.AgentCommands()
        # What the checks have said so far, and the names of the agents.
        self._details: list[str] = []
        self._names: list[str] = []

    async def findings(self) -> AsyncIterator[Finding]:
        """
        Yield the finding of each check as soon as it is made.

        A check that crashes is a finding as well.
        """
        for check, run in self._machine_checks().items():
            yield self._note(_guarded(check, run))
        if self._settings is None:
            yield failure("options", self._problem or "they are not valid", "Correct the option")
            for check in _NEED_OPTIONS:
                yield skipped(check, "needs valid options")
            return
        async for finding in self._agent_findings(self._settings):
            yield self._note(finding)
        yield self._note(await self._check_address(self._settings))
        for check, run in self._server_checks(self._settings).items():
            yield self._note(_guarded(check, run))
        yield self._check_options(self._settings)

    def _note(self, finding: Finding) -> Finding:
        self._details.append(finding.detail)
        return finding

    def _check_options(self, settings: Settings) -> Finding:
        """
        Report a problem with the options that no other check has reported.
        """
        source = f"with the file {settings.config}" if settings.config else "no configuration file"
        problem = self._problem
        # Other checks have the reason without the option, or the option's name.
        reported = problem is not None and any(
            problem in detail or problem.rpartition(": ")[2] in detail for detail in self._details
        )
        if problem is not None and not reported:
            return failure("options", problem, "Correct the option")
        unknown = [
            name + (f" (did you mean {nearest}?)" if nearest else "")
            for name, nearest in unknown_variables(self._environ)
        ]
        if unknown:
            detail = f"unknown variables: {', '.join(unknown)}"
            return warning("options", detail, "Correct or unset them")
        return ok("options", f"all values are valid; {source}")

    def _machine_checks(self) -> Mapping[str, Callable[[], Finding]]:
        environ = self._environ
        return {
            "python": machine.check_python,
            "user": lambda: machine.check_user(os.geteuid(), _user_name()),
            "clock": lambda: machine.check_clock(time.time()),
            "locale": lambda: machine.check_locale(environ, sys.getfilesystemencoding()),
            "temporary files": lambda: machine.check_temporary_folder(_free),
            "proxy": lambda: machine.check_proxies(environ),
        }

    def _server_checks(self, settings: Settings) -> Mapping[str, Callable[[], Finding]]:
        sessions = _most_sessions(settings)
        folder = self._state_folder(settings)
        files_soft, files_hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        processes, _ = resource.getrlimit(resource.RLIMIT_NPROC)
        uid = os.geteuid()
        # A missing agent has been reported; it must not make tasks look wrong as well.
        names = self._names if len(self._names) == len(settings.agent) else []
        return {
            "folder": lambda: machine.check_folder(
                settings.repo_path or Path.cwd(),
                settings.workdir,
                shutil.which("git", path=self._environ.get("PATH", os.defpath)),
            ),
            "tokens": lambda: files.check_tokens(settings.token_file, settings.open_to_others),
            "callbacks": lambda: files.check_secret(settings.callback_secret_file),
            "tasks": lambda: files.check_tasks(settings, names),
            "state folder": lambda: state.check_state_folder(
                folder, settings.state_dir is not None
            ),
            "disk": lambda: state.check_disk(folder, settings.max_job_bytes, _free),
            "file system": lambda: state.check_file_system(
                folder, Path("/proc/self/mounts").read_text()
            ),
            "database": lambda: database.check_database(settings.database_file),
            "open files": lambda: limits.check_open_files(
                files_soft, files_hard, settings.max_connections, sessions
            ),
            "processes": lambda: limits.check_processes(
                processes, _count_threads(uid), sessions, uid
            ),
            "memory": lambda: _check_memory(sessions, settings.memory_max),
            "terminals": lambda: limits.check_terminals(sessions),
        }

    async def _check_address(self, settings: Settings) -> Finding:
        if settings.listen:
            return await _guarded_async("address", address.check_endpoint(self._reactor, settings))
        return _guarded("address", partial(address.check_address, settings))

    def _state_folder(self, settings: Settings) -> Path | None:
        if settings.state_dir is not None:
            return settings.state_dir
        port = settings.port if not settings.listen else -1
        return default_state_dir(self._environ, settings.endpoint, port)

    async def _agent_findings(self, settings: Settings) -> AsyncIterator[Finding]:
        """
        Yield the findings about each agent of --agent.
        """
        specs: list[AgentSpec] = agent_specs(settings)
        with suppress(BadDialect):
            # The dialect file that is invalid is reported below.
            specs = isolate_env(specs)
        for number, spec in enumerate(specs):
            finding, agent = await self._choose(spec)
            yield finding
            if agent is None:
                continue
            self._names.append(agent.name)
            yield _guarded(
                f"proof {agent.name}",
                partial(agents.check_proof, agent, self._state_folder(settings)),
            )
            login = agents.check_logged_in(self._reactor, agent, _user_name())
            yield await _guarded_async(f"login {agent.name}", login)
            check = f"session {agent.name}"
            if self._may_start:
                started = agents.check_start(
                    self._reactor, settings, number, agent.name, self._commands.get_output
                )
                yield await _guarded_async(check, started)
            else:
                yield skipped(check, "--no-start")

    async def _choose(self, spec: AgentSpec) -> tuple[Finding, Agent | None]:
        # In a thread: the agent's program may take many seconds to say its version.
        choose = partial(agents.check_agent, spec, self._environ, self._commands.get_output)
        try:
            return await self._in_thread(choose)
        except CancelledError:
            # The process ends only after its threads.
            self._commands.stop()
            raise
        except Exception as error:
            # The server's own message names the option, which may be another one.
            detail = self._problem or f"--agent {spec.agent}: {_reason(error)}"
            return failure("agent", detail, "Correct the option"), None

    def _in_thread(self, call: Callable[[], _T]) -> Deferred[_T]:
        return deferToThreadPool(self._reactor, self._reactor.getThreadPool(), call)


def _guarded(check: str, run: Callable[[], Finding]) -> Finding:
    """
    Return the finding of a check, or that the check crashed.
    """
    try:
        return run()
    except Exception as error:
        return _crashed(check, error)


async def _guarded_async(check: str, running: Awaitable[Finding]) -> Finding:
    """
    Return the finding of a check that takes time, or that the check crashed.
    """
    try:
        return await running
    except CancelledError:
        raise
    except Exception as error:
        return _crashed(check, error)


def _crashed(check: str, error: Exception) -> Finding:
    return failure(
        check, f"cannot be checked: {_reason(error)}", "If the reason is not clear, report a bug"
    )


def _reason(error: Exception) -> str:
    text = str(error).removeprefix("kiroworkers: ")
    return text or type(error).__name__


def _most_sessions(settings: Settings) -> int:
    """
    Return how many sessions may run at the same time: each agent's, and one that takes over.
    """
    return sum(
        max(settings.workers_of(agent), settings.max_workers) + 1 for agent in settings.agent
    )


def _check_memory(sessions: int, memory_max: int) -> Finding:
    memory, limit = psutil.virtual_memory(), limits.cgroup_limit()
    total = memory.total if limit is None else min(memory.total, limit)
    return limits.check_memory(min(memory.available, total), total, sessions, memory_max)


def _count_threads(uid: int) -> int:
    """
    Return how many processes and threads the user `uid` has.
    """
    count = 0
    for process in psutil.process_iter(["uids", "num_threads"]):
        if process.info["uids"] is not None and process.info["uids"].real == uid:
            count += process.info["num_threads"] or 1
    return count


def _free(path: Path) -> int:
    return shutil.disk_usage(path).free


def _user_name() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return str(os.geteuid())
