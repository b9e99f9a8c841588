"""
Provide what twistd needs: the command line, and the service made from it.

Nothing is opened or spawned before the service starts, because twistd may fork (to run
in the background) between making the service and starting it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar, NoReturn

from twisted.application.service import IService
from twisted.logger import ILogObserver
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from kiroworkers import __version__
from kiroworkers.agents import validate_agents
from kiroworkers.assembly import agent_specs
from kiroworkers.clocks import make_monotonic
from kiroworkers.errors import InvalidSetting
from kiroworkers.exit_status import CANNOT_START, INVALID_OPTION
from kiroworkers.process.container_init import run_below_init
from kiroworkers.server import Server
from kiroworkers.settings import Option, Settings, options
from kiroworkers.telemetry.log_observer import log_observer
from kiroworkers.telemetry.log_writer import LogWriter
from kiroworkers.web.listener import require_loopback
from kiroworkers.web.tokens import read_tokens


def _help(option: Option) -> str:
    default = f" [default: {option.default_text}]" if option.default_text else ""
    return option.help_text + default


class Options(UsageOptions):
    """
    Read the command line of ``twistd kiroworkers``, as the table of options defines it.

    Attributes:
        settings: The settings, once `parseOptions` has returned.
    """

    synopsis = "[options]"
    longdesc = (
        "Keeps sessions of a terminal AI agent warm and serves them over HTTP as typed JSON: "
        "GET /health, /ready and /kiro, POST /kiro/generate-story, /kiro/generate-test and "
        "/kiro/analyze-invest; GET /docs describes them all. Every option is also an environment "
        "variable, KIROWORKERS_<NAME>; PORT and REPO_PATH work too. A flag takes precedence over "
        "a variable. Durations are in seconds, or have the unit s, m or h; sizes are in bytes, "
        "or have the unit k, m or g."
    )
    optFlags: ClassVar = [
        [option.flag.removeprefix("--"), None, option.help_text]
        for option in options()
        if option.is_boolean
    ]
    optParameters: ClassVar = [
        [option.flag.removeprefix("--"), None, None, _help(option)]
        for option in options()
        if not (option.is_boolean or option.is_repeatable)
    ]

    settings: Settings

    def opt_agent(self, text: str) -> None:
        """
        Add agents to those of an earlier --agent.
        """
        self._append("agent", text)

    def opt_trusted_proxy(self, text: str) -> None:
        """
        Add proxies to those of an earlier --trusted-proxy.
        """
        self._append("trusted-proxy", text)

    def _append(self, name: str, text: str) -> None:
        self[name] = f"{self[name]},{text}" if name in self else text

    # The docstring of such a method is the help text of its option.
    opt_agent.__doc__, opt_trusted_proxy.__doc__ = (
        _help(option) for option in options() if option.is_repeatable
    )

    def opt_version(self) -> None:
        """
        Print the version of kiroworkers and exit.
        """
        print(f"kiroworkers {__version__}")
        raise SystemExit(0)

    def parseOptions(self, options: Sequence[str] | None = None) -> None:
        """
        Read the command line.

        Args:
            options: The arguments; by default those of this process.

        Raises:
            UsageError: If an option is unknown or has an invalid value.
            SystemExit: Instead of `UsageError` if run by twistd, which would print its
                whole help text to standard output; or if twistd cannot run here.
        """
        if self.parent is not None:
            _check_folder()
        try:
            super().parseOptions(options)
        except UsageError as error:
            if self.parent is None:
                raise
            usage = f"{self.getSynopsis()} (see --help)"
            _exit(f"{usage}\nkiroworkers: {error}", INVALID_OPTION)
        if self.parent is not None and not self.parent["chroot"]:
            _check_pidfile(self.parent["pidfile"])

    def postOptions(self) -> None:
        """
        Make the settings, and check whatever can be checked before the server starts.

        Raises:
            UsageError: If an option has an invalid value.
        """
        flags = {
            name: ("yes" if value else None) if isinstance(value, int) else value
            for name, value in self.items()
        }
        try:
            self.settings = Settings.read(flags)
            validate_agents(agent_specs(self.settings))
            if self.settings.token_file is not None:
                read_tokens(self.settings.token_file)
            if not (self.settings.listen or self.settings.open_to_others):
                require_loopback("--interface", self.settings.interface)
        except InvalidSetting as error:
            raise UsageError(str(error)) from None


def _check_folder() -> None:
    """
    Check that the current folder exists, because twistd needs it.
    """
    try:
        os.getcwd()
    except OSError as error:
        _exit(f"kiroworkers: cannot use the current folder: {error.strerror}", CANNOT_START)


def _check_pidfile(pidfile: str) -> None:
    """
    Check that twistd will be able to write `pidfile`, unless it is empty.
    """
    path = Path(pidfile).absolute()
    if pidfile and not os.access(path if path.exists() else path.parent, os.W_OK):
        _exit(f"kiroworkers: --pidfile {pidfile}: the file cannot be written", CANNOT_START)


def _exit(message: str, status: int) -> NoReturn:
    print(message, file=sys.stderr)
    raise SystemExit(status)


class _LoggingServer(Server):
    """
    Tell twistd where to log as soon as it adopts the server.

    Args:
        observer: What twistd logs to, unless the operator has given it a --logger.
        *arguments: Those of `Server`.
        **keywords: Those of `Server`.
    """

    def __init__(self, observer: ILogObserver, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self._observer = observer

    def setServiceParent(self, parent: Any) -> None:
        """
        Become a part of `parent`, which is twistd's application.
        """
        parent.setComponent(ILogObserver, self._observer)
        super().setServiceParent(parent)


def makeService(options: Options) -> IService:
    """
    Return a server for the options of a twistd command line; it is not started yet.

    Raises:
        SystemExit: If the log file cannot be opened.
    """
    run_below_init()
    # Imported only here, so that twistd's --reactor can install another one.
    from twisted.internet import reactor

    make_monotonic(reactor)
    twistd: Any = options.parent
    foreground = bool(twistd["nodaemon"] or twistd["debug"])
    log_file, with_syslog = twistd["logfile"] or "", bool(twistd["syslog"])
    log_writer = LogWriter()
    try:
        observer = log_observer(
            log_writer, log_file, twistd["prefix"] if with_syslog else None, foreground=foreground
        )
    except (OSError, ValueError) as error:
        _exit(f"kiroworkers: --logfile: {error}", CANNOT_START)
    return _LoggingServer(
        observer,
        reactor,
        options.settings,
        log_writer,
        logs_to_stdout=foreground and log_file in ("", "-") and not with_syslog,
        user=(twistd["uid"], twistd["gid"]),
    )
