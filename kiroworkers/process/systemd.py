"""
Tell systemd, or another service manager, what state the server is in.

The protocol is that of ``sd_notify(3)``: each message is one datagram of lines
``VARIABLE=value`` to the Unix socket that the variable ``NOTIFY_SOCKET`` names::

    READY=1                             the server serves, or has finished a reload
    RELOADING=1 and MONOTONIC_USEC=…    a reload has begun
    STOPPING=1                          the server is stopping
    STATUS=…                            a line for "systemctl status"
    WATCHDOG=1                          the event loop is alive

The server is ready once it listens and its first session has shown a prompt, or has failed to:
a server that nobody is logged in to runs, reports it in ``/ready``, and recovers after the
login, so systemd must not end it.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping

from attrs import frozen
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

#: Seconds after which a message is sent again that the service manager had no room for.
_RETRY_DELAY = 0.1

#: Seconds for which changes are collected before the status is sent.
_STATUS_DELAY = 0.25

#: The longest status, in characters.
_MAX_STATUS = 500


@frozen
class ServiceState:
    """
    Hold what the service manager is told about the server.

    Attributes:
        started: Whether the first session has become ready, or has failed to.
        status: The state in words, on one line.
    """

    started: bool
    status: str


def socket_address(text: str) -> str | bytes | None:
    """
    Return the address of the socket that ``NOTIFY_SOCKET`` names; None if it cannot be used.

    Args:
        text: The absolute path of the socket, or ``@`` and the name of an abstract socket.
    """
    if text.startswith("@") and len(text) > 1:
        return b"\0" + text[1:].encode("utf-8", "surrogateescape")
    return text if text.startswith("/") else None


def watchdog_interval(environment: Mapping[str, str], pid: int) -> float | None:
    """
    Return how often to send ``WATCHDOG=1``, in seconds; None if nobody waits for it.

    It is half of the time after which the service manager regards the server as hung.

    Args:
        environment: The server's environment.
        pid: The server's process id.
    """
    limit = environment.get("WATCHDOG_USEC", "")
    addressee = environment.get("WATCHDOG_PID", str(pid))
    if addressee != str(pid) or not (limit.isascii() and limit.isdecimal()) or int(limit) == 0:
        return None
    return int(limit) / 1_000_000 / 2


class ServiceManager:
    """
    Send the states of the server to the service manager; do nothing if there is none.

    Args:
        clock: Schedules messages.
        environment: The server's environment, which names the socket.
        pid: The server's process id.
        state: Returns the state of the server.
        monotonic: Returns the time of ``CLOCK_MONOTONIC``, in seconds.
    """

    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        environment: Mapping[str, str],
        pid: int,
        state: Callable[[], ServiceState],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._clock = clock
        self._state = state
        self._monotonic = monotonic
        self._address: str | bytes | None = None
        self._interval: float | None = None
        self._socket: socket.socket | None = None
        self._watchdog: LoopingCall | None = None
        self._unsent: list[str] = []
        self._retry: IDelayedCall | None = None
        self._update: IDelayedCall | None = None
        self._last_status = self._last_error = ""
        self._started = self._stopping = False
        name = environment.get("NOTIFY_SOCKET", "")
        if name:
            self._address = socket_address(name)
            self._interval = watchdog_interval(environment, pid)
            if self._address is None:
                self._log.warn("NOTIFY_SOCKET {name}: not a Unix socket; not used", name=name)

    def start(self) -> None:
        """
        Begin to send the state; call it when the server listens.
        """
        if self._address is None:
            return
        try:
            # Kept open, because a server that has run out of descriptors is alive as well.
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        except OSError as error:
            self._log_error(error)
            return
        if self._interval is not None:
            self._watchdog = LoopingCall(self._beat)
            self._watchdog.clock = self._clock
            self._watchdog.start(self._interval)
        self.changed()

    def changed(self) -> None:
        """
        Send the state soon, because it may have changed.
        """
        if self._socket is not None and self._update is None and not self._stopping:
            # A session that has failed to start, which is enough, may soon be starting again.
            delay = _STATUS_DELAY if self._started else 0
            self._update = self._clock.callLater(delay, self._send_state)

    def set_reloading(self, reloading: bool) -> None:
        """
        Report the beginning or the end of a reload.
        """
        if self._stopping or not self._started:
            return
        if reloading:
            self._send(f"RELOADING=1\nMONOTONIC_USEC={int(self._monotonic() * 1_000_000)}")
        else:
            self._send("READY=1")

    def stopping(self) -> None:
        """
        Report that the server is stopping.
        """
        if self._socket is not None and not self._stopping:
            self._stopping = True
            self._send("STOPPING=1\nSTATUS=Finishing accepted requests")

    def stop(self) -> None:
        """
        Send nothing any more; call it last, because a stop may hang as well.
        """
        if self._watchdog is not None and self._watchdog.running:
            self._watchdog.stop()
        for call in (self._retry, self._update):
            if call is not None:
                call.cancel()
        self._retry = self._update = None
        self._stopping = True
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _beat(self) -> None:
        self._send("WATCHDOG=1")
        # What operators do to a pool changes no session.
        self.changed()

    def _send_state(self) -> None:
        self._update = None
        if self._stopping:
            return
        state = self._state()
        lines = []
        if state.started and not self._started:
            self._started = True
            lines.append("READY=1")
        status = " ".join(state.status.split())[:_MAX_STATUS]
        if status != self._last_status:
            self._last_status = status
            lines.append(f"STATUS={status}")
        if lines:
            self._send("\n".join(lines))

    def _send(self, message: str) -> None:
        if "STATUS=" in message:
            # Only the latest one matters.
            self._unsent = [text for text in self._unsent if not text.startswith("STATUS=")]
        self._unsent.append(message)
        if self._retry is None:
            self._send_all()

    def _send_all(self) -> None:
        self._retry = None
        assert self._socket and self._address, "nothing is sent before `start` and after `stop`"
        try:
            while self._unsent:
                self._socket.sendto(self._unsent[0].encode("utf-8", "replace"), self._address)
                del self._unsent[0]
        except BlockingIOError:
            # A ready server that systemd never heard of would be ended; a missed beat would not.
            self._unsent = [text for text in self._unsent if text != "WATCHDOG=1"]
            if self._unsent:
                self._retry = self._clock.callLater(_RETRY_DELAY, self._send_all)
        except OSError as error:
            self._unsent.clear()
            self._log_error(error)

    def _log_error(self, error: OSError) -> None:
        # Once, and not with each beat.
        if str(error) != self._last_error:
            self._last_error = str(error)
            self._log.warn("cannot notify the service manager: {error}", error=error)
