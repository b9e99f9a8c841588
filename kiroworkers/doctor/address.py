"""
Check the address that the server would listen on.
"""

from __future__ import annotations

import errno
import json
import socket
import time
from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.internet.protocol import Factory, Protocol

from kiroworkers.doctor.finding import Finding, failure, ok, skipped, warning
from kiroworkers.errors import CannotStart, InvalidSetting
from kiroworkers.settings import Settings
from kiroworkers.web.listener import Listener, require_loopback

#: Seconds within which whatever listens on the port must say what it is.
_TIMEOUT = 3.0

#: The length of the longest answer that is read, in bytes.
_MAX_ANSWER = 1024**2

_NAME = "address"


def check_address(
    settings: Settings, is_server: Callable[[str, int], bool] | None = None
) -> Finding:
    """
    Check that the server can listen on --interface and --port.

    Args:
        settings: Name the address.
        is_server: Returns whether a kiroworkers server listens on a host and port; by default
            it asks whatever listens there.
    """
    host, port = settings.interface, settings.port
    if not settings.open_to_others:
        try:
            require_loopback("--interface", host)
        except InvalidSetting as error:
            return failure(_NAME, f"{host}: {error.reason}", "")
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            probe.listen(1)
    except OSError as error:
        return _explain(error, host, port, shown, is_server or is_kiroworkers)
    return ok(_NAME, f"{shown} is free" if port else f"{host}, any free port")


def _explain(
    error: OSError, host: str, port: int, shown: str, is_server: Callable[[str, int], bool]
) -> Finding:
    """
    Return the finding for a failed attempt to listen.
    """
    match error.errno:
        case errno.EADDRINUSE if is_server(host, port):
            return warning(
                _NAME,
                f"a kiroworkers server already listens on {shown}, so another one cannot",
                "If that is not the server you are looking at, choose another --port",
            )
        case errno.EADDRINUSE:
            return failure(
                _NAME,
                f"another program listens on {shown}",
                f"Find it with ss -ltnp 'sport = :{port}', or choose another --port",
            )
        case errno.EACCES:
            return failure(
                _NAME,
                f"{shown}: {error.strerror}",
                "Choose a --port from 1024, and put a reverse proxy before it",
            )
        case _:
            advice = "Choose an address of this machine with --interface"
            return failure(_NAME, f"{shown}: {error.strerror}", advice)


async def check_endpoint(reactor: Any, settings: Settings) -> Finding:
    """
    Check that the server can listen on the endpoint of --listen, by listening for a moment.

    Args:
        reactor: Provides the endpoint.
        settings: Name the endpoint.
    """
    endpoint = settings.listen
    kind, _, rest = endpoint.partition(":")
    if kind == "systemd":
        return skipped(_NAME, f"--listen {endpoint}: only systemd has the socket")
    listener = Listener(reactor, settings, Factory.forProtocol(Protocol))
    try:
        listener.privilegedStartService()
    except (CannotStart, OSError) as error:
        path = rest.removeprefix("address=").partition(":")[0]
        if kind == "unix" and _is_ready(partial(_connect_to_path, path)):
            return warning(
                _NAME,
                f"a kiroworkers server already listens on {path}, so another one cannot",
                "If that is not the server you are looking at, choose another path with --listen",
            )
        reason = str(error).removeprefix("kiroworkers: ")
        return failure(_NAME, reason, "Correct --listen, or choose another endpoint")
    await listener.stopService()
    return ok(_NAME, f"{endpoint} is free")


def is_kiroworkers(host: str, port: int, timeout: float = _TIMEOUT) -> bool:
    """
    Return whether a kiroworkers server listens on `host` and `port`.

    Args:
        host: The IP address that is listened on.
        port: The port.
        timeout: The number of seconds after which the answer is no.
    """
    any_address = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    address = (any_address.get(host, host), port)
    return _is_ready(lambda timeout: socket.create_connection(address, timeout), timeout)


def _connect_to_path(path: str, timeout: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX)
    try:
        connection.settimeout(timeout)
        connection.connect(path)
    except OSError:
        connection.close()
        raise
    return connection


def _is_ready(connect: Callable[[float], socket.socket], timeout: float = _TIMEOUT) -> bool:
    """
    Return whether what `connect` connects to answers ``GET /ready`` as a server does.
    """
    deadline = time.monotonic() + timeout
    try:
        with connect(timeout) as connection:
            answer = _get_ready(connection, deadline)
        body = json.loads(answer.partition(b"\r\n\r\n")[2])
    except (OSError, ValueError):
        return False
    return isinstance(body, dict) and {"ready", "workers", "agents"} <= body.keys()


def _get_ready(connection: socket.socket, deadline: float) -> bytes:
    """
    Return the whole answer to ``GET /ready``.

    Raises:
        OSError: If there is none before `deadline`.
    """
    answer = b""
    connection.sendall(b"GET /ready HTTP/1.0\r\nHost: localhost\r\n\r\n")
    while len(answer) < _MAX_ANSWER:
        # A listener that sends a byte now and then must not keep this command for ever.
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise TimeoutError
        connection.settimeout(remaining)
        received = connection.recv(65536)
        if not received:
            break
        answer += received
    return answer
