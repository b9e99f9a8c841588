"""
Serve a model: read the requests of agents, and write answers in the protocol of each.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any
from urllib.parse import unquote

from twisted.internet.interfaces import IListeningPort, IReactorTime
from twisted.logger import Logger
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Site

from kiroworkers.model_server.body import read_body
from kiroworkers.model_server.content import BadRequest, Json, all_text, messages_of
from kiroworkers.model_server.protocols import describe_models, find_endpoint
from kiroworkers.model_server.reply import ModelReply
from kiroworkers.model_server.request import ModelRequest
from kiroworkers.model_server.writing import to_json

#: The length of the chunks in which a stream is sent, in bytes.  As with a real service, they
#: end anywhere: between two bytes of a character, or in the middle of an event.
_CHUNK = 1021

#: How many refusals are kept.
_MAX_REFUSALS = 100


def _ignore(request: ModelRequest) -> None:
    pass


class ModelServer(Resource):
    """
    Answer the requests of agents to their model.

    Args:
        clock: Schedules the answers that begin after a pause.
        answer: Returns the answer to a request.
        on_abandoned: Called with a request whose agent hung up before its answer ended.
        on_request: Called with every request that has a body, before `answer`; also with those
            that get no answer: counts of tokens, unknown paths, and bodies that cannot be read.

    Attributes:
        refusals: The last requests that were refused, each as ``POST /path: reason``.
    """

    isLeaf = True
    _log = Logger()

    def __init__(
        self,
        clock: IReactorTime,
        answer: Callable[[ModelRequest], ModelReply],
        on_abandoned: Callable[[ModelRequest], object] = _ignore,
        on_request: Callable[[ModelRequest], object] = _ignore,
    ) -> None:
        super().__init__()
        self.refusals: deque[str] = deque(maxlen=_MAX_REFUSALS)
        self._clock = clock
        self._answer = answer
        self._on_abandoned = on_abandoned
        self._on_request = on_request
        self._numbers = count(1)

    def render(self, request: Any) -> Any:
        """
        Answer a request, now or later.
        """
        path = unquote(request.path.decode("utf-8", "replace")).rstrip("/")
        try:
            match request.method:
                case b"POST":
                    return self._post(request, path)
                case b"HEAD":
                    # Agents send it to see whether the service can be reached.
                    return b""
                case b"GET":
                    return _json(request, _get(path))
            raise BadRequest("The method is not supported", 405)
        except BadRequest as error:
            self.refusals.append(f"{request.method.decode('latin-1')} {path}: {error}")
            request.setResponseCode(error.status)
            return _json(request, _error_body(error))
        except Exception:
            self._log.failure("A request to the model server failed")
            request.setResponseCode(500)
            return _json(request, _error_body(BadRequest("Internal error", 500)))

    def _post(self, request: Any, path: str) -> Any:
        data = request.content.read()
        encoding = (request.getHeader(b"content-encoding") or b"").decode("latin-1")
        endpoint = find_endpoint(path)
        try:
            if endpoint is None:
                raise BadRequest("The path is not known", 404)
            model_request = endpoint.read(path, read_body(data, encoding))
        except BadRequest:
            self._on_request(ModelRequest(path, messages_of("other", _any_text(data, encoding))))
            raise
        self._on_request(model_request)
        if endpoint.writer is None:
            return _json(request, endpoint.count)
        reply = self._answer(model_request)
        writer = endpoint.writer(model_request.model, next(self._numbers))
        send: Callable[[], None]
        if model_request.stream:
            send = partial(_send_stream, request, b"".join(writer.stream(reply)), reply.endless)
        elif reply.endless:
            send = _send_nothing
        else:
            send = partial(_send, request, to_json(writer.body(reply)))
        self._send_later(request, model_request, reply.pause, send)
        return NOT_DONE_YET

    def _send_later(
        self,
        request: Any,
        model_request: ModelRequest,
        pause: float,
        send: Callable[[], None],
    ) -> None:
        pending = self._clock.callLater(pause, send) if pause else None

        def abandon(_: object) -> None:
            if pending is not None and pending.active():
                pending.cancel()
            self._on_abandoned(model_request)

        request.notifyFinish().addErrback(abandon)
        if pending is None:
            send()


def _any_text(data: bytes, encoding: str) -> str:
    """
    Return the texts in the body of a request that cannot be read, or the body as it is.
    """
    try:
        return all_text(read_body(data, encoding))
    except BadRequest:
        return data.decode("utf-8", "replace")


def _get(path: str) -> Json:
    # Some agents ask for the root to see whether the service can be reached.
    body = {} if path in ("", "/v1", "/v1beta") else describe_models(path)
    if body is None:
        raise BadRequest("The path is not known", 404)
    return body


def _json(request: Any, body: Json) -> bytes:
    request.setHeader(b"content-type", b"application/json")
    return to_json(body)


def _send(request: Any, body: bytes) -> None:
    request.setHeader(b"content-type", b"application/json")
    request.setHeader(b"content-length", b"%d" % len(body))
    request.write(body)
    request.finish()


def _send_stream(request: Any, events: bytes, endless: bool) -> None:
    request.setHeader(b"content-type", b"text/event-stream")
    request.setHeader(b"cache-control", b"no-cache")
    for start in range(0, len(events), _CHUNK):
        request.write(events[start : start + _CHUNK])
    if not endless:
        request.finish()


def _send_nothing() -> None:
    pass


def _error_body(error: BadRequest) -> Json:
    """
    Return the body of a response to a bad request, in the forms of all protocols.
    """
    message = str(error)
    details = {"message": message, "type": "invalid_request_error", "code": error.code}
    return {"type": "error", "error": details}


def serve(
    reactor: Any,
    answer: Callable[[ModelRequest], ModelReply],
    on_abandoned: Callable[[ModelRequest], object] = _ignore,
    on_request: Callable[[ModelRequest], object] = _ignore,
) -> IListeningPort:
    """
    Serve a model on a free port of 127.0.0.1, and return the port.

    Its address is ``http://127.0.0.1:N`` with N from ``getHost().port``.  When it stops
    listening, the connections of agents remain until the agents exit.

    Args:
        reactor: Listens, and schedules answers.
        answer: Returns the answer to a request.
        on_abandoned: Called with a request whose agent hung up before its answer ended.
        on_request: Called with every request, as by `ModelServer`.
    """
    # An agent may keep a connection for longer than Twisted's default, and use it in the moment
    # in which the server closes it.
    site = Site(ModelServer(reactor, answer, on_abandoned, on_request), timeout=None)
    site.noisy = False
    port: IListeningPort = reactor.listenTCP(0, site, interface="127.0.0.1")
    return port
