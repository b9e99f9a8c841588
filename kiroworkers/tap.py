"""
Provide what twistd needs: the command line, and the service made from it.

Nothing is opened or spawned before the service starts, because twistd may fork (to run
in the background) between making the service and starting it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Sequence
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
from kiroworkers.settings import (
    GROUPS,
    EffectiveSettings,
    Settings,
    inherited_environment,
    options,
)
from kiroworkers.settings.help_text import help_text
from kiroworkers.settings.options import did_you_mean
from kiroworkers.telemetry.log_observer import log_observer
from kiroworkers.telemetry.log_writer import LogWriter
from kiroworkers.web.listener import require_loopback
from kiroworkers.web.tokens import read_tokens


class Options(UsageOptions):
    """
    Read the command line of ``twistd kiroworkers``, as the table of options defines it.

    Attributes:
        effective: The settings and their origins, once `parseOptions` has returned.
    """

    synopsis = "[options]"
    optFlags: ClassVar = [
        [flag.removeprefix("--"), None, option.summary]
        for option in options()
        if option.is_boolean
        for flag in (option.flag, option.opposite)
    ]
    optParameters: ClassVar = [
        [option.key, None, None, option.summary]
        for option in options()
        if not (option.is_boolean or option.is_repeatable)
    ]

    effective: EffectiveSettings

    @property
    def settings(self) -> Settings:
        """
        Return the settings, once `parseOptions` has returned.
        """
        return self.effective.settings

    def getUsage(self, width: int | None = None) -> str:
        """
        Return the help text without the line that ``--help`` begins with.
        """
        return f"\n{help_text(options(), GROUPS, width)}"

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

    # Most programs have this spelling as well.
    opt_h = UsageOptions.opt_help

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
            reason = explain(str(error), self.parent)
            if self.parent is None:
                raise UsageError(reason) from None
            # A runner of the server other than twistd says what it is called.
            program = getattr(self.parent, "program", "twistd kiroworkers")
            _exit(f"kiroworkers: {reason} (see {program} --help)", INVALID_OPTION)
        if self.parent is not None and not self.parent["chroot"]:
            _check_pidfile(self.parent["pidfile"])

    def parseArgs(self, *arguments: str) -> None:
        """
        Refuse arguments, because the server has only options.

        Raises:
            UsageError: If there is an argument.
        """
        if arguments:
            raise UsageError(f"{_quoted(arguments[0])}: unexpected argument")

    def postOptions(self) -> None:
        """
        Make the settings, and check whatever can be checked before the server starts.

        Raises:
            UsageError: If an option has an invalid value.
        """
        try:
            self.effective = EffectiveSettings.read(dict(self._texts()))
        except InvalidSetting as error:
            raise UsageError(str(error)) from None
        try:
            self._check()
        except InvalidSetting as error:
            raise UsageError(str(self.effective.explain(error))) from None

    def _texts(self) -> Iterator[tuple[str, str | None]]:
        """
        Yield the name and the text of each option; None for one that was not given.

        Raises:
            UsageError: If a flag and its opposite are given.
        """
        for option in options():
            if not option.is_boolean:
                yield option.key, self.get(option.key)
                continue
            is_on, is_off = self[option.key], self[option.opposite.removeprefix("--")]
            if is_on and is_off:
                raise UsageError(f"{option.flag}: contradicts {option.opposite}")
            yield option.key, "yes" if is_on else "no" if is_off else None

    def _check(self) -> None:
        """
        Check what depends on more than one option, and the file of tokens.

        Raises:
            InvalidSetting: If an option has an invalid value.
        """
        validate_agents(agent_specs(self.settings))
        if self.settings.token_file is not None:
            read_tokens(self.settings.token_file)
        if not (self.settings.listen or self.settings.open_to_others):
            require_loopback("--interface", self.settings.interface)


def explain(message: str, twistd: UsageOptions | None = None) -> str:
    """
    Return a message of Python's getopt as a sentence that begins with the flag.

    An unknown flag is followed by the one that is most like it.

        >>> explain("option --prot not recognized")
        '--prot: unknown option; did you mean --port?'

    Args:
        message: The message; one that is not of getopt is returned as it is.
        twistd: The options of twistd.
    """
    match = re.fullmatch(r"option (-\S.*?) (not .+|requires argument|must not .+)", message, re.S)
    if match is None:
        return message
    flag, problem = match.groups()
    match problem:
        case "not recognized" if twistd is not None and _has_flag(twistd, flag):
            return f"{flag}: is an option of twistd; those come first, as in twistd -n kiroworkers"
        case "not recognized":
            known = {name.removeprefix("--"): name for name in _flags()}
            return f"{_quoted(flag)}: unknown option{did_you_mean(flag.strip('-'), known)}"
        case "not a unique prefix":
            names = [name for name in _flags() if name.startswith(flag)]
            return f"{flag}: ambiguous option, can be {' or '.join(names)}"
        case "requires argument":
            return f"{flag}: needs a value"
    return f"{flag}: takes no value"


def _has_flag(options: UsageOptions, flag: str) -> bool:
    """
    Return whether `options` have a flag, such as ``-n`` or ``--logfile``.
    """
    if flag.startswith("--"):
        return flag.removeprefix("--") in {name.rstrip("=") for name in options.longOpt}
    return flag.removeprefix("-") in options.shortOpt.replace(":", "")


def _flags() -> Iterator[str]:
    """
    Yield every flag of the server.
    """
    for option in options():
        yield option.flag
        if option.is_boolean:
            yield option.opposite
    yield from ("--help", "--version")


def _quoted(text: str) -> str:
    return text if text.isprintable() else repr(text)


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
            log_writer,
            log_file,
            twistd["prefix"] if with_syslog else None,
            foreground=foreground,
            format=options.settings.log_format,
            level=options.settings.log_level,
            environment=inherited_environment(),
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
