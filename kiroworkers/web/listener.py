"""
Listen on the server's port, and refuse to expose an unprotected server to other machines.
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

#: The permissions of a Unix socket: its owner and its group may connect.
_SOCKET_MODE = "660"


class Listener(Service):
    """
    Listen on the configured endpoint before anything else starts.

    If that is impossible, `privilegedStartService` raises `CannotStart` with a message
    of one line.

    Args:
        reactor: Provides the endpoint.
        settings: Name the endpoint, and whether other machines may reach it.
        factory: Builds the protocol of each connection.
    """

    _log = Logger()

    def __init__(self, reactor: Any, settings: Settings, factory: IProtocolFactory) -> None:
        self._reactor = reactor
        self._settings = settings
        self._factory = factory
        self._port: IListeningPort | None = None

    def privilegedStartService(self) -> None:
        """
        Start to listen, while the process still has its privileges.

        Raises:
            CannotStart: The endpoint is invalid or in use, or other machines can reach it
                although clients need no token.
        """
        description = with_socket_mode(self._settings.endpoint)
        try:
            endpoint = serverFromString(self._reactor, description)
        except (ValueError, TypeError, KeyError, IndexError) as error:
            raise CannotStart(f"kiroworkers: --listen {description}: {error}") from None
        listening = endpoint.listen(self._factory)
        failures: list[Failure] = []
        listening.addCallbacks(self._on_listening, failures.append)
        if failures:
            reason = getattr(failures[0].value, "socketError", failures[0].value)
            raise CannotStart(f"kiroworkers: cannot listen on {description}: {reason}")
        if self._port is None:
            raise CannotStart(
                f"kiroworkers: --listen {description}: it did not start listening at once"
            )
        host = getattr(self._port.getHost(), "host", None)
        if host is not None and not self._settings.open_to_others:
            try:
                require_loopback("--listen", host)
            except InvalidSetting as error:
                self._port.stopListening()
                raise CannotStart(f"kiroworkers: {error}") from None

    def stopService(self) -> Deferred[None]:
        """
        Stop listening.

        Returns:
            A Deferred that fires with None when the port is closed.
        """
        super().stopService()
        port, self._port = self._port, None
        if port is None:
            return succeed(None)
        return maybeDeferred(port.stopListening).addCallback(lambda _: None)

    def _on_listening(self, port: IListeningPort) -> None:
        self._port = port
        address = port.getHost()
        self._log.info(
            "listening on {address}",
            address=address,
            host=getattr(address, "host", None),
            port=getattr(address, "port", None),
        )


def with_socket_mode(endpoint: str) -> str:
    """
    Return `endpoint`, with permissions if it is a Unix socket without any.

    Twisted's default lets every user of the machine connect.
    """
    if endpoint.startswith("unix:") and ":mode=" not in endpoint:
        return f"{endpoint}:mode={_SOCKET_MODE}"
    return endpoint


def require_loopback(name: str, host: str) -> None:
    """
    Check that only this machine can reach `host`.

    Args:
        name: The option that `host` comes from, for the error message.
        host: An IP address, with or without a zone.

    Raises:
        InvalidSetting: Other machines can reach `host`.
    """
    if not ip_address(host.partition("%")[0]).is_loopback:
        raise InvalidSetting(
            name,
            host,
            "other machines can reach this address, and clients need no token; "
            "bind a loopback address, set --token-file, or pass --insecure",
        )
