"""
Show operators what workers do right now: their terminals, or their messages, over a WebSocket.
"""

from __future__ import annotations

from twisted.internet.interfaces import IReactorTime
from twisted.web.iweb import IRequest
from wsproto.frame_protocol import CloseReason

from kiroworkers.errors import ErrorCode, InvalidInput
from kiroworkers.pool.agent_groups import AgentGroups
from kiroworkers.telemetry.live_terminals import LiveTerminals
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.errors import HttpError
from kiroworkers.web.frames import text_frame
from kiroworkers.web.websocket import WebSocket


def new_live_terminals(clock: IReactorTime) -> LiveTerminals:
    """
    Return live terminals whose messages are encoded for WebSockets.
    """
    return LiveTerminals(clock, text_frame)


class TerminalHandler:
    """
    Answer the requests that follow a worker.

    Args:
        clock: Times the pings.
        groups: The agents with their workers.
        terminals: What the workers show.
    """

    def __init__(self, clock: IReactorTime, groups: AgentGroups, terminals: LiveTerminals) -> None:
        self._clock = clock
        self._groups = groups
        self._terminals = terminals
        self._sockets: set[WebSocket] = set()

    async def follow(self, request: IRequest, authorizer: Authorizer) -> None:
        """
        Send what the worker that ``?worker=NAME`` names shows, until the client leaves.

        Args:
            request: The request, which is authorized.
            authorizer: Knows whether its client still may operate the server later.

        Raises:
            InvalidInput: The query does not name one worker.
            HttpError: The worker does not exist, or the request is no handshake.
        """
        name = self._queried_worker(request)
        socket = WebSocket(self._clock, request, lambda: authorizer.allows(request, "operate"))
        self._sockets.add(socket)
        watching = self._terminals.watch(name, socket)
        socket.on_resume = watching.resume
        try:
            await socket.wait_until_closed()
        finally:
            self._sockets.discard(socket)
            watching.stop()

    def stop(self) -> None:
        """
        Close all WebSockets, because the server stops.
        """
        for socket in [*self._sockets]:
            socket.close_now(CloseReason.GOING_AWAY, "the server stops")

    def _queried_worker(self, request: IRequest) -> str:
        names = request.args.get(b"worker", [])
        if len(names) != 1:
            raise InvalidInput("worker", "name one worker in the query: ?worker=NAME")
        name: str = names[0].decode("utf-8", "replace")
        if any(group.dispatcher.find_worker(name) is not None for group in self._groups):
            return name
        raise HttpError(ErrorCode.UNKNOWN_WORKER, f"Worker {name!r} not found")
