"""
What twistd asks for: the command line, and the service that it makes.

The only module that imports the reactor.  Nothing is opened or spawned before
the service starts, because twistd may fork (to run in the background) between
making it and starting it.
"""

from __future__ import annotations

from typing import ClassVar

from twisted.application.service import IService
from twisted.python.usage import Options as UsageOptions
from twisted.python.usage import UsageError

from kiroworkers.agents import validate_agents
from kiroworkers.assembly import wanted_agents
from kiroworkers.errors import InvalidSetting
from kiroworkers.server import Server
from kiroworkers.settings import Option, Settings, options
from kiroworkers.web.listener import refuse_others
from kiroworkers.web.tokens import read_tokens


def _help(knob: Option) -> str:
    return knob.meaning + (f" [default: {knob.shown}]" if knob.shown else "")


class Options(UsageOptions):
    """
    The command line of ``twistd kiroworkers``, made from the table of knobs.
    """

    synopsis = "[options]"
    longdesc = (
        "Keeps sessions of a terminal AI agent warm and serves them as typed JSON: "
        "GET /health, /ready and /kiro, POST /kiro/generate-story, /kiro/generate-test and "
        "/kiro/analyze-invest.  Every option is also an environment variable, "
        "KIROWORKERS_<NAME>; PORT and REPO_PATH work too; a flag beats a variable.  Durations are "
        "in seconds, or with s, m or h; sizes in bytes, or with k, m or g."
    )
    optFlags: ClassVar = [
        [each.flag.removeprefix("--"), None, each.meaning] for each in options() if each.is_boolean
    ]
    optParameters: ClassVar = [
        [each.flag.removeprefix("--"), None, None, _help(each)]
        for each in options()
        if not (each.is_boolean or each.is_repeatable)
    ]

    settings: Settings

    def opt_agent(self, text: str) -> None:
        self["agent"] = f"{self['agent']},{text}" if "agent" in self else text

    opt_agent.__doc__ = next(_help(each) for each in options() if each.is_repeatable)

    def postOptions(self) -> None:
        flags = {
            name: ("yes" if value else None) if isinstance(value, int) else value
            for name, value in self.items()
        }
        try:
            self.settings = Settings.read(flags)
            validate_agents(wanted_agents(self.settings))
            if self.settings.token_file is not None:
                read_tokens(self.settings.token_file)
            if not (self.settings.listen or self.settings.open_to_others):
                refuse_others("--interface", self.settings.interface)
        except InvalidSetting as problem:
            raise UsageError(str(problem)) from None


def makeService(options: Options) -> IService:
    """
    The server that `options` ask for.
    """
    from twisted.internet import reactor

    return Server(reactor, options.settings)
