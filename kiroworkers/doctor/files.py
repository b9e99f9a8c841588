"""
Check the files that options name.
"""

from __future__ import annotations

import stat
from collections.abc import Mapping, Sequence
from pathlib import Path

from kiroworkers.doctor.finding import Finding, failure, ok, warning
from kiroworkers.errors import InvalidSetting
from kiroworkers.jobs.service import read_secret
from kiroworkers.server import check_tasks as check_for_server
from kiroworkers.settings import Settings
from kiroworkers.tasks import BadTask, Catalogue, Task
from kiroworkers.web.tokens import read_tokens


def check_tokens(file: Path | None, open_to_others: bool) -> Finding:
    """
    Check the file of tokens.

    Args:
        file: The file of --token-file; None without the option.
        open_to_others: Whether other machines may reach the server.
    """
    if file is None:
        if open_to_others:
            return warning(
                "tokens",
                "none, with --insecure: anybody who can reach the port can send requests",
                "Set --token-file",
            )
        return ok("tokens", "none: every user of this machine may send requests")
    try:
        tokens = read_tokens(file)
    except InvalidSetting as error:
        return failure(
            "tokens",
            f"{file}: {error.reason}",
            "A line is a name, scopes (ask, watch, operate) and a token",
        )
    mode = file.stat().st_mode
    if mode & stat.S_IROTH:
        return warning("tokens", f"{file}: any user can read it", f"Run chmod o-r {file}")
    names = ", ".join(token.name for token in tokens)
    if not any(token.allows("operate") for token in tokens):
        return warning(
            "tokens",
            f"{file} has tokens for {names}, but none with the scope operate",
            "Add one, or nobody can pause, drain or restart workers",
        )
    return ok("tokens", f"{file}: {names}")


def check_secret(file: Path | None) -> Finding:
    """
    Check the file with the secret that callbacks are signed with.
    """
    if file is None:
        return ok("callbacks", "disabled (no --callback-secret-file)")
    try:
        read_secret(file)
    except InvalidSetting as error:
        return failure("callbacks", f"{file}: {error.reason}", "Write a longer secret into it")
    if file.stat().st_mode & stat.S_IROTH:
        return warning("callbacks", f"{file}: any user can read it", f"Run chmod o-r {file}")
    return ok("callbacks", f"signed with the secret in {file}")


def check_tasks(settings: Settings, agents: Sequence[str]) -> Finding:
    """
    Check the files of tasks, and the tables of the configuration file that are for tasks.

    Args:
        settings: The settings of the server.
        agents: The names of the agents that the server would run; empty if they are unknown.
    """

    def check(tasks: Mapping[str, Task]) -> None:
        wanted = [task.agent for task in tasks.values() if task.agent is not None]
        check_for_server(tasks, agents or wanted, settings.request_timeout)

    catalogue = Catalogue(settings.tasks, check, settings.task_defaults, settings.config)
    try:
        tasks = catalogue.read().tasks
    except BadTask as error:
        return failure("tasks", str(error), "Correct the file; kiroworkers task check tests tasks")
    return ok("tasks", ", ".join(tasks))
