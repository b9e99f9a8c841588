"""
Tests for `kiroworkers.web.errors`: every failure of the catalogue is provoked over HTTP.

The server is a whole one in memory, from its connections to its agents.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import chain, count, repeat
from pathlib import Path
from typing import Any, TypeAlias

import treq
from attrs import frozen
from jsonschema import Draft202012Validator
from klein import Klein
from twisted.internet import reactor
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IAddress
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.logger import Logger, capturedLogs, eventAsText
from twisted.trial.unittest import SynchronousTestCase, TestCase
from twisted.web.client import ResponseFailed
from twisted.web.iweb import IRequest

from kiroworkers.agents import Agent
from kiroworkers.classic import drawing as classic
from kiroworkers.conversations import load_dialect
from kiroworkers.errors import (
    CATALOGUE,
    ErrorCode,
    FailureCode,
    FailureKind,
    RequestTimedOut,
    StorageUnavailable,
)
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.pool.approvals import Approvals
from kiroworkers.tasks import builtin_tasks
from kiroworkers.telemetry.observers import RequestObserver, RequestObservers
from kiroworkers.telemetry.recording_folder import RecordingInUse
from kiroworkers.telemetry.recordings import Recordings
from kiroworkers.testing import MemoryKiro, MemoryReactor
from kiroworkers.web.app import Application
from kiroworkers.web.auth import Authorizer
from kiroworkers.web.connection_limits import ConnectionLimiter
from kiroworkers.web.error_formats import FORMATS, OWN_FORMAT, error_format
from kiroworkers.web.errors import handle_failures
from kiroworkers.web.limits import RequestLimits
from kiroworkers.web.openapi.failures import schema_name
from kiroworkers.web.openapi.schemas import ref
from kiroworkers.web.rate_limiter import RateLimiter
from kiroworkers.web.recorded_request import AccessLog
from kiroworkers.web.routing import routes_of
from kiroworkers.web.site import ApiSite
from kiroworkers.web.tokens import read_tokens
from tests import fakekiro
from tests.conversations.terminal.test_screen import BUSY, ECHO, IDLE, SPINNER, TYPED, drawn
from tests.jobs.support import InlineExecutor, job_service_in
from tests.memory import DiesAtStart, MemoryAcp, MemoryLine, dispatcher_in

STORY = "/kiro/generate-story"
CHAT = "/v1/chat/completions"

#: A request of MCP.
PING = {"jsonrpc": "2.0", "id": 1, "method": "ping"}

#: The token that `MemoryServer` accepts if it requires tokens.
TOKEN = "a-token-of-the-tests"

MAX_BODY = 20_000
RECEIVE_TIMEOUT = 10


class BusyRecordings(Recordings):
    """
    Recordings that are all being written.
    """

    def delete(self, name: str) -> Deferred[bool]:
        """
        Refuse to delete a recording.
        """
        return fail(RecordingInUse(name))


class ScriptedAcp(MemoryAcp):
    """
    An agent that speaks ACP and reacts to each prompt as the test says.

    Args:
        react: Called with the agent when it has received a prompt.
    """

    def __init__(self, react: Callable[[ScriptedAcp], None]) -> None:
        super().__init__()
        self._react = react

    def receive(self, data: bytes) -> None:
        prompts = len(self.typed)
        super().receive(data)
        if len(self.typed) > prompts:
            self._react(self)

    def stop_turn(self, reason: str) -> None:
        """
        End the turn for `reason`.
        """
        self._send(id=self._prompt, result={"stopReason": reason})

    def use_tool(self, kind: str) -> None:
        """
        Run a tool without asking.
        """
        self.update(sessionUpdate="tool_call", toolCallId="t1", title="A tool", kind=kind)
        self.update(sessionUpdate="tool_call_update", toolCallId="t1", status="completed")

    def update(self, **update: Any) -> None:
        """
        Send an update of the session.
        """
        params = {"sessionId": f"s{self.session}", "update": update}
        self._send(method="session/update", params=params)

    def fail_turn(self, message: str) -> None:
        """
        Answer the prompt with an error.
        """
        self._send(id=self._prompt, error={"code": -32603, "message": message})


class ErasingTui(MemoryKiro):
    """
    A full-screen Kiro that erases a part of its first answer.
    """

    def begin(self) -> None:
        self.process.deliver(drawn(*IDLE))

    def receive(self, data: bytes) -> None:
        if self.typed:
            return
        self.typed.append(data.decode())
        self.process.deliver(drawn(*TYPED))
        self.process.deliver(drawn(*ECHO, *SPINNER, *BUSY))
        self.process.deliver(b"\x1b[2J\x1b[H" + drawn('{"title": "old"}', "new", *IDLE))


class Wordy(MemoryKiro):
    """
    A Kiro that prints `words` and a prompt instead of an answer.
    """

    def __init__(self, words: str) -> None:
        super().__init__(self._print_words)
        self._words = words

    def _print_words(self, prompt: str) -> None:
        self.print(f"{classic.SPINNER_GONE}{self._words}\n\n")
        self.show_prompt()


class Denied(MemoryKiro):
    """
    A Kiro that asks to use a tool, and answers with one word.
    """

    def __init__(self) -> None:
        super().__init__(lambda prompt: self.ask_approval())


class Mortal(MemoryKiro):
    """
    A Kiro that exits at each prompt.
    """

    def __init__(self) -> None:
        super().__init__(lambda prompt: self.process.end(1))


def silent() -> MemoryKiro:
    """
    Return a Kiro that never answers.
    """
    return MemoryKiro(lambda prompt: None)


def useful() -> MemoryKiro:
    """
    Return a Kiro that answers every prompt.
    """
    return MemoryKiro(fakekiro.answer_text)


@frozen
class Response:
    """
    Hold the first response on a connection.

    Attributes:
        request: The method and the path that were asked for.
        status: The status.
        headers: The headers, by their names in lower case.
        content: The body as it was sent.
        cookie: The header Set-Cookie as it was sent; None without one.
    """

    request: tuple[str, str]
    status: int
    headers: Mapping[str, str]
    content: bytes
    cookie: str | None = None

    @property
    def error(self) -> Any:
        """
        The error: the body, its member ``error`` in OpenAI's format, or the data in JSON-RPC's.
        """
        error = self.body["error"]
        return error.get("data", error) if isinstance(error, dict) else self.body

    @property
    def body(self) -> Any:
        """
        The body, or the data of the last event.
        """
        events = re.findall(rb"^data: (\{.*\})$", self.content, re.M)
        return json.loads(events[-1] if events else self.content)


class MemoryServer:
    """
    A server with one worker.

    Args:
        program: Returns the agent's program.
        dialect: The agent's dialect.
        scopes: The scopes of the only token; none if no token is required.
        rate: Whether a client may send only one request a minute.
        connections: The most connections.
        flags: Settings of the jobs.
        models: Patterns of the models that clients may choose.
        strict_input: Whether requests with unknown fields are refused.
        observers: Observers of the requests.
        recordings: The recordings of sessions.
        **dispatcher: Options of `dispatcher_in`.
    """

    def __init__(
        self,
        program: Callable[[], MemoryKiro] = useful,
        dialect: str = "kiro-classic",
        scopes: str = "",
        rate: bool = False,
        connections: int = 100,
        flags: Mapping[str, Any] | None = None,
        models: tuple[str, ...] = (),
        strict_input: bool = False,
        observers: Sequence[RequestObserver] = (),
        recordings: Recordings | None = None,
        **dispatcher: Any,
    ) -> None:
        self.reactor = MemoryReactor(program)
        session = {"dialect": dialect, **dispatcher.pop("session", {})}
        numbers = count(1)
        approvals = Approvals(self.reactor, lambda: f"approval{next(numbers)}")
        options = {"workers": 1, "session": session, "approvals": approvals, **dispatcher}
        self.dispatcher = dispatcher_in(self.reactor, **options)
        agent = Agent(load_dialect(dialect), "chosen", "/bin/kiro", (), {})
        group = AgentGroup(agent, self.dispatcher, models)
        groups, self.tasks = AgentGroups([group]), {**builtin_tasks()}
        limiter = RateLimiter(self.reactor, 1, 1) if rate else None
        self.authorizer = authorizer = Authorizer(rate_limiter=limiter)
        if scopes:
            file = Path("tokens")
            file.write_text(f"ann {scopes} {TOKEN}\n")
            authorizer.tokens = tuple(read_tokens(file))
        self.executor = InlineExecutor()
        self.job_service = jobs = job_service_in(
            self.reactor, groups, self.tasks, executor=self.executor, **(flags or {})
        )
        self.application = application = Application(
            self.reactor,
            groups,
            self.tasks,
            authorizer,
            jobs,
            approvals=approvals,
            strict_input=strict_input,
            recordings=recordings,
        )
        limits = RequestLimits(MAX_BODY, RECEIVE_TIMEOUT)
        self.observers = RequestObservers(self.reactor, observers)
        access_log = AccessLog(self.reactor, on_event=self.observers)
        self.site = site = ApiSite(
            self.reactor, application.resource(), limits, access_log=access_log
        )
        self._connections: Any = ConnectionLimiter(site, connections, 0)
        self.dispatcher.startService()
        self.settle()

    def settle(self, seconds: float = 2) -> None:
        """
        Let time pass, and everything happen that is due.
        """
        self.reactor.pump([0.1] * round(seconds * 10))

    def send(
        self, data: bytes, peer: str = "127.0.0.1", host: IAddress | None = None
    ) -> Callable[[], Response]:
        """
        Send `data` on a new connection, and return a function that returns the response.
        """
        transport = StringTransport(host, IPv4Address("TCP", peer, 1))
        protocol = self._connections.buildProtocol(transport.getPeer())
        protocol.makeConnection(transport)
        protocol.dataReceived(data)
        method, path = [*data.decode("latin-1").split(), "", ""][:2]

        def response() -> Response:
            head, _, content = transport.value().partition(b"\r\n\r\n")
            status_line, *lines = head.decode("latin-1").split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            # Its value is not the same in lower case.
            given = dict(line.split(": ", 1) for line in lines)
            status, cookie = int(status_line.split()[1]), given.get("Set-Cookie")
            return Response((method, path), status, headers, content, cookie)

        return response

    def begin(
        self, method: str, path: str, body: Any = None, peer: str = "127.0.0.1", **headers: str
    ) -> Callable[[], Response]:
        """
        Send a request, and return a function that returns the response.

        Args:
            method: The method.
            path: The path.
            body: What to send: bytes, or a value to send as JSON.
            peer: The client's address.
            **headers: Headers, with underscores for dashes; an empty one is left out.
        """
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        defaults = {"Host": "localhost", "Content_Type": "application/json"}
        defaults["Content_Length"] = str(len(content))
        lines = {**defaults, **headers}
        head = "".join(
            f"{name.replace('_', '-')}: {value}\r\n" for name, value in lines.items() if value
        )
        return self.send(f"{method} {path} HTTP/1.1\r\n{head}\r\n".encode() + content, peer)

    def request(self, method: str, path: str, body: Any = None, **options: Any) -> Response:
        """
        Send a request, and return the response that comes within a moment.
        """
        response = self.begin(method, path, body, **options)
        self.settle()
        return response()

    def story(self, idea: str = "An idea", **options: Any) -> Response:
        """
        Ask for a story.
        """
        return self.request("POST", STORY, {"idea": idea}, **options)


Provocation: TypeAlias = Callable[[], Response]

#: How to provoke each failure.
PROVOCATIONS: dict[FailureCode, Provocation] = {}


def provokes(code: FailureCode) -> Callable[[Provocation], Provocation]:
    """
    Return a decorator for a function that returns a response with the error `code`.
    """

    def add(provocation: Provocation) -> Provocation:
        PROVOCATIONS[code] = provocation
        return provocation

    return add


#: How to provoke each failure after a prompt was sent, if it has another status then.
IN_A_TURN: dict[FailureCode, Provocation] = {}


def provokes_in_a_turn(code: FailureCode) -> Callable[[Provocation], Provocation]:
    """
    Return a decorator for a function that returns a response with `code` to a request in a turn.
    """

    def add(provocation: Provocation) -> Provocation:
        IN_A_TURN[code] = provocation
        return provocation

    return add


@provokes(ErrorCode.INVALID_JSON)
def _() -> Response:
    return MemoryServer().request("POST", STORY, b"{")


@provokes(ErrorCode.INVALID_INPUT)
def _() -> Response:
    return MemoryServer().request("POST", STORY, {})


@provokes(ErrorCode.INVALID_MESSAGE)
def _() -> Response:
    return MemoryServer().request("POST", "/mcp", [])


@provokes(ErrorCode.UNSUPPORTED_REVISION)
def _() -> Response:
    return MemoryServer().request("POST", "/mcp", PING, MCP_Protocol_Version="1999-01-01")


@provokes(ErrorCode.UNKNOWN_METHOD)
def _() -> Response:
    revision = "2026-07-28"
    meta = {
        "io.modelcontextprotocol/protocolVersion": revision,
        "io.modelcontextprotocol/clientCapabilities": {},
    }
    body = {**PING, "params": {"_meta": meta}}
    headers = {"MCP_Protocol_Version": revision, "Mcp_Method": "ping"}
    return MemoryServer().request("POST", "/mcp", body, **headers)


@provokes(ErrorCode.UNKNOWN_SESSION)
def _() -> Response:
    return MemoryServer().request("POST", "/mcp", PING, Mcp_Session_Id="none")


@provokes(ErrorCode.NOT_ACCEPTABLE)
def _() -> Response:
    return MemoryServer().request("POST", "/mcp", PING, Accept="text/html")


@provokes(ErrorCode.BAD_REQUEST)
def _() -> Response:
    return MemoryServer().send(b"nonsense\r\n\r\n")()


@provokes(ErrorCode.UNSUPPORTED_ENCODING)
def _() -> Response:
    return MemoryServer().request("POST", STORY, b"\x1f\x8b", Content_Encoding="gzip")


@provokes(ErrorCode.EXPECTATION_FAILED)
def _() -> Response:
    return MemoryServer().story(Expect="200-ok")


@provokes(ErrorCode.BAD_HOST)
def _() -> Response:
    return MemoryServer().request("GET", "/health", Host="")


@provokes(ErrorCode.BAD_PATH)
def _() -> Response:
    return MemoryServer().request("GET", "/jobs/%ff")


@provokes(ErrorCode.NO_TOKEN)
def _() -> Response:
    return MemoryServer(scopes="ask").story()


@provokes(ErrorCode.WRONG_TOKEN)
def _() -> Response:
    return MemoryServer(scopes="ask").story(Authorization="Bearer another")


@provokes(ErrorCode.WRONG_SCOPE)
def _() -> Response:
    return MemoryServer(scopes="watch").story(Authorization=f"Bearer {TOKEN}")


@provokes(ErrorCode.OPERATORS_ONLY)
def _() -> Response:
    return MemoryServer().request("POST", "/operator/pause", peer="192.0.2.1")


@provokes(ErrorCode.WRONG_HOST)
def _() -> Response:
    return MemoryServer().request("GET", "/health", Host="host.example")


@provokes(ErrorCode.WRONG_ORIGIN)
def _() -> Response:
    return MemoryServer().story(Origin="http://page.example")


@provokes(ErrorCode.NOT_FOUND)
def _() -> Response:
    return MemoryServer().request("GET", "/nowhere")


@provokes(ErrorCode.UNKNOWN_TASK)
def _() -> Response:
    return MemoryServer().request("POST", "/kiro/write-poem", {})


@provokes(ErrorCode.UNKNOWN_JOB)
def _() -> Response:
    return MemoryServer().request("GET", "/jobs/1")


@provokes(ErrorCode.UNKNOWN_REQUEST)
def _() -> Response:
    return MemoryServer().request("GET", "/requests/1")


@provokes(ErrorCode.UPGRADE_REQUIRED)
def _() -> Response:
    return MemoryServer().request("GET", "/terminal?worker=worker1")


@provokes(ErrorCode.UNKNOWN_APPROVAL)
def _() -> Response:
    return MemoryServer().request("POST", "/operator/approvals/x", {"decision": "deny"})


@provokes(ErrorCode.UNKNOWN_RECORDING)
def _() -> Response:
    return MemoryServer().request("GET", "/recordings/20260115T093012Z-worker1-1.cast")


@provokes(ErrorCode.RECORDING_IN_USE)
def _() -> Response:
    recordings = BusyRecordings(Clock(), 0, enabled=False)
    return MemoryServer(recordings=recordings).request("DELETE", "/recordings/1.cast")


@provokes(ErrorCode.UNKNOWN_MODEL)
def _() -> Response:
    return MemoryServer().story(X_Model="gpt-5")


@provokes(ErrorCode.UNKNOWN_WORKER)
def _() -> Response:
    return MemoryServer().request("POST", "/operator/workers/worker9/drain")


@provokes(ErrorCode.MODEL_NOT_FOUND)
def _() -> Response:
    return MemoryServer().request("GET", "/v1/models/another")


@provokes(ErrorCode.WRONG_METHOD)
def _() -> Response:
    return MemoryServer().request("DELETE", "/health")


@provokes(ErrorCode.TOO_SLOW)
def _() -> Response:
    server = MemoryServer()
    response = server.send(f"POST {STORY} HTTP/1.1\r\n".encode())
    server.settle(RECEIVE_TIMEOUT + 1)
    return response()


@provokes(ErrorCode.IDEMPOTENCY_MISMATCH)
def _() -> Response:
    server = MemoryServer()
    server.story(Idempotency_Key="a")
    return server.story("Another idea", Idempotency_Key="a")


@provokes(ErrorCode.TOO_LARGE)
def _() -> Response:
    return MemoryServer().story("x" * MAX_BODY)


@provokes(ErrorCode.PROMPT_TOO_LONG)
def _() -> Response:
    return MemoryServer(MemoryLine, "generic").story("x" * 5000)


@provokes(ErrorCode.PATH_TOO_LONG)
def _() -> Response:
    return MemoryServer().request("GET", "/jobs/" + "x" * 20_000)


@provokes(ErrorCode.NOT_JSON)
def _() -> Response:
    return MemoryServer().story(Content_Type="text/plain")


@provokes(ErrorCode.RATE_LIMITED)
def _() -> Response:
    server = MemoryServer(rate=True)
    server.story()
    return server.story()


@provokes(ErrorCode.HEADERS_TOO_LARGE)
def _() -> Response:
    return MemoryServer().story(X_Agent="x" * 20_000)


@provokes(ErrorCode.FAULT)
def _() -> Response:
    server = MemoryServer()

    def submit(*arguments: object) -> None:
        raise ZeroDivisionError

    server.dispatcher.submit = submit  # type: ignore[assignment, method-assign]
    return server.story()


@provokes(ErrorCode.ANSWER_UNFIT)
def _() -> Response:
    return MemoryServer(lambda: MemoryKiro(lambda prompt: "I would rather not.")).story()


@provokes(ErrorCode.OUTPUT_TOO_LONG)
def _() -> Response:
    session = {"max_output": 10_000}
    return MemoryServer(
        lambda: MemoryKiro(lambda prompt: "word " * 10_000), session=session
    ).story()


@provokes(ErrorCode.SESSION_LOST)
def _() -> Response:
    server = MemoryServer(Mortal, workers=2)
    return server.story()


@provokes(ErrorCode.TAKEN_BACK)
def _() -> Response:
    agents: list[ScriptedAcp] = []

    def react(agent: ScriptedAcp) -> None:
        agents.append(agent)
        agent.chunk('{"reply": "One' if len(agents) == 1 else '{"reply": "Two"}')
        agent.end_turn()

    server = MemoryServer(lambda: ScriptedAcp(react), "acp", workers=2)
    messages = [{"role": "user", "content": "Hello"}]
    body = {"model": "default", "messages": messages, "stream": True}
    return server.request("POST", CHAT, body)


@provokes(ErrorCode.ALL_WORKERS_BUSY)
def _() -> Response:
    server = MemoryServer(silent, backlog=0)
    server.begin("POST", STORY, {"idea": "x"})
    return server.story()


@provokes(ErrorCode.NO_SESSION)
def _() -> Response:
    server = MemoryServer(DiesAtStart, workers=2)
    server.settle(120)
    return server.story()


@provokes_in_a_turn(ErrorCode.NO_SESSION)
def _() -> Response:
    programs = chain([Mortal], repeat(DiesAtStart))
    server = MemoryServer(lambda: next(programs)())
    response = server.begin("POST", STORY, {"idea": "x"})
    server.settle(90)
    return response()


@provokes_in_a_turn(ErrorCode.SHUTTING_DOWN)
def _() -> Response:
    server = MemoryServer(silent)
    response = server.begin("POST", STORY, {"idea": "x"})
    server.settle()
    server.dispatcher.stopService()
    return response()


@provokes(ErrorCode.NO_TIME_LEFT)
def _() -> Response:
    server = MemoryServer(silent)
    for _ in range(5):
        server.begin("POST", STORY, {"idea": "x"})
        server.settle()
        for program in server.reactor.programs:
            program.say(fakekiro.answer_text(program.typed[-1]) or "")
        server.settle()
    return server.story(X_Request_Timeout="1")


@provokes(ErrorCode.TOO_MANY_JOBS)
def _() -> Response:
    server = MemoryServer(silent, flags={"max-jobs": "1"})
    server.story(Prefer="respond-async")
    return server.story(Prefer="respond-async")


@provokes(ErrorCode.JOBS_TOO_LARGE)
def _() -> Response:
    server = MemoryServer(flags={"max-job-bytes": "10"})
    return server.story(Prefer="respond-async")


@provokes(ErrorCode.STORAGE_UNAVAILABLE)
def _() -> Response:
    server = MemoryServer()
    server.executor.error = OSError(28, "No space left on device")
    return server.story(Prefer="respond-async")


@provokes_in_a_turn(ErrorCode.STORAGE_UNAVAILABLE)
def _() -> Response:
    # A database that is shared may have stored the job although its answer was lost.
    server = MemoryServer()
    error = StorageUnavailable("the database cannot be reached", 1, perhaps_begun=True)
    store: Any = server.job_service.store
    store.add = lambda *job: fail(error)
    return server.story(Prefer="respond-async")


@provokes(ErrorCode.TOO_MANY_CONNECTIONS)
def _() -> Response:
    server = MemoryServer(connections=1)
    server.send(b"")
    return server.story()


@provokes(ErrorCode.SHUTTING_DOWN)
def _() -> Response:
    server = MemoryServer()
    server.dispatcher.stopService()
    return server.story()


@provokes(ErrorCode.TIMED_OUT)
def _() -> Response:
    return MemoryServer(silent).story(X_Request_Timeout="1")


@provokes(FailureKind.UNREADABLE)
def _() -> Response:
    return MemoryServer(ErasingTui, "kiro-tui").story()


@provokes(FailureKind.APPROVAL_DENIED)
def _() -> Response:
    return MemoryServer(Denied).story()


def _words(kind: FailureKind, words: str) -> None:
    """
    Provoke `kind` with the words that Kiro prints.

    If it affects all sessions, the next request meets it before its turn.
    """

    def turn() -> Response:
        return MemoryServer(lambda: Wordy(words)).story()

    if not kind.affects_all_sessions:
        provokes(kind)(turn)
        return
    provokes_in_a_turn(kind)(turn)

    @provokes(kind)
    def _() -> Response:
        server = MemoryServer(lambda: Wordy(words))
        server.story()
        return server.story()


_words(FailureKind.LOGIN_REQUIRED, "You are not logged in")
_words(FailureKind.LOGIN_EXPIRED, "Your login session has expired")
_words(FailureKind.OUT_OF_CREDITS, "Monthly request limit reached")
_words(FailureKind.THROTTLED, "Request quota exceeded")
_words(FailureKind.SUSPENDED, "Due to suspicious activity, we are imposing temporary limits")
_words(FailureKind.CONTEXT_FULL, "Your conversation is too large to continue")
_words(FailureKind.MODEL_GONE, "Model 'x' does not exist")
_words(FailureKind.NETWORK, "dispatch failure (timeout)")


def _stop_reason(kind: FailureKind) -> None:
    """
    Provoke `kind` with the stop reason of the same name.
    """

    @provokes(kind)
    def _() -> Response:
        return MemoryServer(lambda: ScriptedAcp(lambda acp: acp.stop_turn(kind)), "acp").story()


_stop_reason(FailureKind.REFUSAL)
_stop_reason(FailureKind.MAX_TOKENS)
_stop_reason(FailureKind.MAX_TURN_REQUESTS)
_stop_reason(FailureKind.CANCELLED)


@provokes(FailureKind.AGENT_ERROR)
def _() -> Response:
    return MemoryServer(lambda: ScriptedAcp(lambda acp: acp.fail_turn("No")), "acp").story()


@provokes(FailureKind.STREAM_TIMEOUT)
def _() -> Response:
    words = "The stream timed out receiving the response after 300000ms"
    return MemoryServer(lambda: ScriptedAcp(lambda acp: acp.fail_turn(words)), "kiro-acp").story()


@provokes(FailureKind.TOOL_INTERRUPTED)
def _() -> Response:
    words = "Tool uses were interrupted, waiting for the next user prompt"
    server = MemoryServer(lambda: ScriptedAcp(lambda acp: acp.chunk(words)), "kiro-acp")
    response = server.begin("POST", STORY, {"idea": "An idea"})
    # The agent says nothing more.
    server.settle(60)
    return response()


@provokes(FailureKind.TOOL_NOT_PERMITTED)
def _() -> Response:
    return MemoryServer(lambda: ScriptedAcp(lambda acp: acp.use_tool("edit")), "acp").story()


def documented_codes(document: Any, prefix: str) -> set[tuple[int, str]]:
    """
    Return the statuses and the codes of the responses whose names are `prefix` and a status.
    """
    names = re.compile(rf"{prefix and prefix + '-'}(\d+)-\d+")
    return {
        (int(match[1]), code)
        for name, response in document["components"]["responses"].items()
        if (match := names.fullmatch(name)) is not None
        for code in re.findall(r"`(\w+)`: ", response["description"])
    }


class CatalogueTests(SynchronousTestCase):
    """
    Tests that the catalogue, the documentation and the responses agree.
    """

    def setUp(self) -> None:
        server = MemoryServer(scopes="ask")
        self.document = json.loads(server.request("GET", "/openapi.json").content)

    def test_table(self) -> None:
        """
        There is a provocation for each failure of the catalogue, and for nothing else.
        """
        self.assertEqual({*PROVOCATIONS}, {*CATALOGUE})

    def test_provoked(self) -> None:
        """
        Each failure has its status and its code, and `Retry-After` if asking again helps;
        the route declares it, and it fits its schema.
        """
        for code in CATALOGUE:
            response = PROVOCATIONS[code]()
            self.assertEqual(response.error["code"], code, response)
            if code is not ErrorCode.TAKEN_BACK:
                # That one ends a stream that began with 200.
                self.assertEqual(response.status, code.status, code)
            seconds = response.error.get("retryAfter")
            self.assertEqual(seconds is not None, code.retryable, code)
            self.assertEqual(response.headers.get("retry-after"), seconds and str(seconds), code)
            if isinstance(code.retry_after, int):
                self.assertEqual(seconds, code.retry_after, code)
            self.assert_route_declares(response, code)
            self.assert_fits(response, code)

    def test_in_a_turn(self) -> None:
        """
        After a prompt was sent, what is 503 otherwise is 502, and nothing else changes.
        """
        changing = {code for code in CATALOGUE if code.statuses == (502, 503)}
        self.assertEqual({*IN_A_TURN}, changing)
        for code, provocation in IN_A_TURN.items():
            response, refusal = provocation(), PROVOCATIONS[code]()
            self.assertEqual((response.status, response.error["code"]), (502, code), response)
            self.assertEqual({*response.error}, {*refusal.error}, code)
            seconds = response.error["retryAfter"]
            self.assertEqual(response.headers["retry-after"], str(seconds), code)
            self.assert_route_declares(response, code)
            self.assert_fits(response, code)

    def test_documented(self) -> None:
        """
        The document has the codes that routes declare under their statuses, and no others.
        """
        for form in (OWN_FORMAT, *FORMATS.values()):
            expected = {
                (status, str(code))
                for declared in routes_of(Application.app)
                if declared.tag is not None and error_format(declared.path) == form
                for code in declared.failures
                for status in code.statuses
                if status not in declared.responses
            }
            self.assertEqual(documented_codes(self.document, form.name), expected, form.name)

    def assert_fits(self, response: Response, code: FailureCode) -> None:
        """
        Assert that the body of the failure `code` has the fields that the document describes.
        """
        schemas = self.document["components"]["schemas"]
        form = error_format(response.request[1])
        name = form.schema or schema_name(code)
        Draft202012Validator({**self.document, **ref(name)}).validate(response.body)
        if form.schema is None:
            self.assertLessEqual({*response.body}, {*schemas[name]["properties"]}, code)

    def assert_route_declares(self, response: Response, code: FailureCode) -> None:
        """
        Assert that the route that was asked for, if it is one, declares `code`.
        """
        method, path = response.request
        for route in routes_of(Application.app):
            pattern = re.sub(r"\\{\w+\\}", "[^/]+", re.escape(route.path))
            # A bug can be anywhere.
            if route.method == method and re.fullmatch(pattern, path) and code != ErrorCode.FAULT:
                self.assertIn(code, route.failures, (method, path))


class ProtocolTests(SynchronousTestCase):
    """
    Tests for the status of a failure in a turn, however it reaches the client.
    """

    def throttled(self) -> MemoryServer:
        """
        Return a server whose agent is throttled at the first prompt.
        """
        return MemoryServer(lambda: Wordy("Request quota exceeded"))

    def test_stream(self) -> None:
        """
        The event of a stream has the status of a response.
        """
        server = self.throttled()
        for status in (502, 503):
            response = server.story(Accept="text/event-stream")
            self.assertEqual(response.status, 200)
            self.assertEqual(
                (response.body["status"], response.body["code"]), (status, "throttled")
            )

    def test_keyed(self) -> None:
        """
        An idempotency key does not change the status.
        """
        server = self.throttled()
        for status in (502, 503):
            response = server.story(Idempotency_Key="a")
            self.assertEqual((response.status, response.body["code"]), (status, "throttled"))

    def test_chats(self) -> None:
        """
        Clients of OpenAI's and Anthropic's APIs get 502, in the format of 503, and may repeat it.
        """
        messages = [{"role": "user", "content": "Hello"}]
        body = {"model": "default", "messages": messages}
        for path, more, headers in (
            (CHAT, {}, {}),
            (CHAT, {"stream": True}, {}),
            ("/v1/responses", {"messages": None, "input": "Hello"}, {}),
            ("/v1/messages", {"max_tokens": 9}, {"Anthropic_Version": "2023-06-01"}),
        ):
            given = {name: value for name, value in {**body, **more}.items() if value is not None}
            server = self.throttled()
            first, second = (server.request("POST", path, given, **headers) for _ in range(2))
            self.assertEqual((first.status, second.status), (502, 503), path)
            for response in (first, second):
                self.assertIn("retry-after", response.headers)
                self.assertNotIn("x-should-retry", response.headers)
                self.assertEqual(response.body["error"]["type"], second.body["error"]["type"])

    def test_tool(self) -> None:
        """
        A tool call of MCP that fails is a result, whether a prompt was sent or not.
        """
        server, revision = self.throttled(), "2026-07-28"
        meta = {
            "io.modelcontextprotocol/protocolVersion": revision,
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        params = {"name": "generate-story", "arguments": {"idea": "An idea"}, "_meta": meta}
        call = {**PING, "method": "tools/call", "params": params}
        headers = {"MCP_Protocol_Version": revision, "Mcp_Method": "tools/call"}
        for _ in range(2):
            response = server.request("POST", "/mcp", call, Mcp_Name=params["name"], **headers)
            self.assertEqual((response.status, response.body["result"]["isError"]), (200, True))

    def test_job(self) -> None:
        """
        The error of a job that has been run has the status 502.
        """
        server = self.throttled()
        # The words may be the client's own, so the job is given up in the end.
        response = server.story("Request quota exceeded", Prefer="respond-async")
        server.settle(1000)
        job = server.request("GET", response.body["location"]).body
        self.assertEqual((job["state"], job["error"]["code"]), ("failed", "throttled"), job)
        events = server.request("GET", f"{job['location']}/events")
        self.assertEqual((job["error"]["status"], events.body["status"]), (502, 502))


class BegunTests(TestCase):
    """
    Tests for failures after a part of the response was sent.
    """

    async def test_aborted(self) -> None:
        """
        The connection is aborted, nothing more is sent, and the failure is logged.
        """

        class Routes:
            app = Klein()

            @app.route("/")
            async def begin(self, request: IRequest) -> None:
                request.write(b"one")
                await received
                raise RequestTimedOut(5)

        received: Deferred[None] = Deferred()

        handle_failures(Routes.app, Logger())
        limits = RequestLimits(MAX_BODY, RECEIVE_TIMEOUT)
        site = ApiSite(Clock(), Routes().app.resource(), limits)
        listening: Any = reactor
        port = listening.listenTCP(0, site, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        with capturedLogs() as events:
            response = await treq.get(f"http://127.0.0.1:{port.getHost().port}/", persistent=False)
            content: list[bytes] = []
            collected = treq.collect(response, content.append)
            received.callback(None)
            with self.assertRaises(ResponseFailed):
                await collected
        self.assertEqual((response.code, b"".join(content)), (200, b"one"))
        self.assertIn("timed_out", "".join(map(eventAsText, events)))
