"""
Where the server listens, and who may reach it there.
"""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.endpoints import serverFromString
from twisted.internet.interfaces import IListeningPort, IProtocolFactory
from twisted.logger import Logger
from twisted.python.failure import Failure

from kiroworkers.errors import CannotStart, InvalidSetting
from kiroworkers.settings import Settings


class Listener(Service):
    """
    Listens before anything else starts, or says in one line why it cannot.
    """

    _log = Logger()

    def __init__(self, reactor: Any, settings: Settings, door: IProtocolFactory) -> None:
        self._reactor = reactor
        self._settings = settings
        self._door = door
        self._port: IListeningPort | None = None

    def privilegedStartService(self) -> None:
        description = self._settings.endpoint
        try:
            endpoint = serverFromString(self._reactor, description)
        except (ValueError, TypeError, KeyError, IndexError) as problem:
            raise CannotStart(f"kiroworkers: --listen {description}: {problem}") from None
        listening = endpoint.listen(self._door)
        failed: list[Failure] = []
        listening.addCallbacks(self._listens, failed.append)
        if failed:
            why = getattr(failed[0].value, "socketError", failed[0].value)
            raise CannotStart(f"kiroworkers: cannot listen on {description}: {why}")
        if self._port is None:
            raise CannotStart(f"kiroworkers: --listen {description}: did not listen at once")
        host = getattr(self._port.getHost(), "host", None)
        if host is not None and not self._settings.open_to_others:
            try:
                refuse_others("--listen", host)
            except InvalidSetting as problem:
                self._port.stopListening()
                raise CannotStart(f"kiroworkers: {problem}") from None

    def stopService(self) -> Deferred[None]:
        super().stopService()
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        return maybeDeferred(port.stopListening).addCallback(lambda _: None)

    def _listens(self, port: IListeningPort) -> None:
        self._port = port
        self._log.info("listening on {where}", where=port.getHost())


def refuse_others(name: str, host: str) -> None:
    """
    Raises:
        InvalidSetting: when other machines can reach `host`.
    """
    if not ip_address(host.partition("%")[0]).is_loopback:
        raise InvalidSetting(
            name,
            host,
            "other machines can reach it, and nobody is asked who they are; "
            "bind a loopback address, give --token-file, or say --insecure",
        )
