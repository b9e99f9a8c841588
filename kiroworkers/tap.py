"""
Provide what twistd needs: the command line, and the service made from it.

Nothing is opened or spawned before the service starts, because twistd may fork (to run
in the background) between making the service and starting it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from twisted.application.service import IService
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from kiroworkers import __version__
from kiroworkers.agents import validate_agents
from kiroworkers.assembly import agent_specs
from kiroworkers.errors import InvalidSetting
from kiroworkers.server import Server
from kiroworkers.settings import Option, Settings, options
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
        self["agent"] = f"{self['agent']},{text}" if "agent" in self else text

    # The docstring of such a method is the help text of its option.
    opt_agent.__doc__ = next(_help(option) for option in options() if option.is_repeatable)

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
                whole help text to standard output.
        """
        try:
            super().parseOptions(options)
        except UsageError as error:
            if self.parent is None:
                raise
            usage = f"{self.getSynopsis()} (see --help)"
            raise SystemExit(f"{usage}\nkiroworkers: {error}") from None

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


def makeService(options: Options) -> IService:
    """
    Return the server that `options` ask for, not started yet.
    """
    # Imported only here, so that twistd's --reactor can install another one.
    from twisted.internet import reactor

    return Server(reactor, options.settings)
