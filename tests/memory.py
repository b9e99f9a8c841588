"""
Sessions, workers and dispatchers in memory, shared by the tests.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, field, frozen
from twisted.internet.defer import Deferred, succeed

from kiroworkers.agents import Agent
from kiroworkers.conversations import AgentFailure, Conversation, load_dialect, new_conversation
from kiroworkers.errors import AnswerSchemaMismatch
from kiroworkers.pool.agent_groups import AgentGroup
from kiroworkers.pool.autoscaling import AutoscalePolicy
from kiroworkers.pool.backoff import BackoffPolicy
from kiroworkers.pool.circuit_breaker import LoginPolicy
from kiroworkers.pool.dispatcher import Dispatcher, QueuePolicy, RequestOptions
from kiroworkers.pool.progress import OnProgress
from kiroworkers.pool.recycling import RecyclePolicy
from kiroworkers.pool.worker import Supervisor, Worker
from kiroworkers.process.agent_process import AgentProcess, Command, start
from kiroworkers.session.end_cause import EndCause, EndReason
from kiroworkers.session.session import Session, SessionTimeouts
from kiroworkers.session.turn import Reply
from kiroworkers.tasks import ParsedAnswer
from kiroworkers.testing import MemoryKiro, MemoryReactor

LIMITS = SessionTimeouts(startup=60, cancel=10, stop=5)

RESTARTS = BackoffPolicy(delay=5, max_delay=300, burst=5, stable_after=300)

#: Nothing is recycled, unless a test says so.
RECYCLING = RecyclePolicy(max_requests=10**6, jitter=0, max_age=1e9, memory_max=10**15)

COMMAND = Command("/bin/kiro", ("chat",), {}, Path("/"), (50, 1000))


class MemoryLine(MemoryKiro):
    """
    A program that prints a prompt and reads lines; the test writes the answers.
    """

    def begin(self) -> None:
        self.print("Hello\n> ")

    def receive(self, data: bytes) -> None:
        self.typed.append(data.decode().removesuffix("\r"))

    def say(self, text: str) -> None:
        self.print(f"{text}\n> ")


class MemoryAcp(MemoryKiro):
    """
    An agent that speaks ACP and ends a turn only when the test says so.

    Attributes:
        session: The number of the protocol's session in use, from 1.
        accepts_images: Whether it says that it accepts images.
        images: The base64 text of the images in each prompt.
    """

    accepts_images = False
    session = 0
    _opened = 0

    def begin(self) -> None:
        """
        Wait for a request.
        """
        self.images: list[list[str]] = []

    def receive(self, data: bytes) -> None:
        for line in data.splitlines():
            self._serve(json.loads(line))

    def chunk(self, text: str) -> None:
        """
        Send a piece of an answer.
        """
        content = {"type": "text", "text": text}
        update = {"sessionUpdate": "agent_message_chunk", "content": content}
        params = {"sessionId": f"s{self.session}", "update": update}
        self._send(method="session/update", params=params)

    def end_turn(self) -> None:
        """
        Respond to the prompt.
        """
        self._send(id=self._prompt, result={"stopReason": "end_turn"})

    def _serve(self, message: Any) -> None:
        match message:
            case {"method": "initialize", "id": id}:
                capabilities: dict[str, Any] = {"sessionCapabilities": {"close": {}}}
                if self.accepts_images:
                    capabilities["promptCapabilities"] = {"image": True}
                result = {"protocolVersion": 1, "agentCapabilities": capabilities}
                self._send(id=id, result=result)
            case {"method": "session/new", "id": id}:
                # The next session is opened while this one is still used.
                self._opened += 1
                self.session = self.session or self._opened
                self._send(id=id, result={"sessionId": f"s{self._opened}"})
            case {"method": "session/close", "id": id}:
                self.session += 1
                self._send(id=id, result={})
            case {"method": "session/prompt", "id": id, "params": params}:
                self._prompt = id
                self.session = int(params["sessionId"].removeprefix("s"))
                text, *images = params["prompt"]
                self.images.append([image["data"] for image in images])
                self.typed.append(text["text"])

    def _send(self, **message: Any) -> None:
        self.print(json.dumps({"jsonrpc": "2.0", **message}) + "\n")


class DiesAtStart(MemoryKiro):
    """
    A Kiro CLI that exits before it shows a prompt.
    """

    def begin(self) -> None:
        self.print("cannot open the display\n")
        self.process.reactor.callLater(0, self.process.end, 1)


class LoggedOut(MemoryKiro):
    """
    A Kiro CLI without a logged-in user.
    """

    def begin(self) -> None:
        self.print("You are not logged in, please log in with kiro-cli login\n")
        self.process.reactor.callLater(0, self.process.end, 1)


@frozen
class MemoryJournal:
    """
    A journal that holds one answer, or none, or is still being read.
    """

    text: str | Deferred[str | None] | None

    def mark_prompt(self, prompt: str) -> str:
        return f"{prompt} #1"

    def find_answer(self, prompt: str) -> Deferred[str | None]:
        return self.text if isinstance(self.text, Deferred) else succeed(self.text)


def new_session_in(
    reactor: MemoryReactor,
    max_output: int = 100_000,
    dialect: str = "kiro-classic",
    make_conversation: Callable[[], Conversation] | None = None,
    **changes: Any,
) -> Callable[[str, Callable[[], None], Callable[[str], None]], Session]:
    """
    Return a factory of sessions whose programs run in `reactor`.

    Args:
        reactor: Runs the programs.
        max_output: The limit of a turn's output, in bytes.
        dialect: The name of the dialect.
        make_conversation: Makes each session's conversation, instead of the dialect.
        **changes: Further arguments of `Session`.
    """

    def launch(process: AgentProcess) -> None:
        start(reactor, process, COMMAND)

    def new_session(
        name: str, on_idle: Callable[[], None], on_gone: Callable[[str], None]
    ) -> Session:
        conversation = (
            new_conversation(load_dialect(dialect), max_output)
            if make_conversation is None
            else make_conversation()
        )
        return Session(name, reactor, conversation, launch, LIMITS, on_idle, on_gone, **changes)

    return new_session


def why(sentence: str) -> EndReason:
    """
    Return a reason for the end of a session, with some cause.
    """
    return EndReason(EndCause.OPERATOR, sentence)


@define
class MemorySupervisor:
    """
    A supervisor that records what its workers report.

    Attributes:
        idle: The name of a worker, each time that it became idle.
        due: The reasons why a worker was due for a restart.
        failures: The failures of sessions.
        has_memory: Whether there is memory for a second session.
        affects_all: Whether failures affect every session.
        may_start: Whether sessions may start.
        ends: Why sessions have ended.
    """

    idle: list[str] = field(factory=list)
    due: list[str] = field(factory=list)
    failures: list[AgentFailure] = field(factory=list)
    has_memory: bool = False
    affects_all: bool = False
    may_start: bool = True
    ends: list[EndCause] = field(factory=list)

    def worker_idle(self, worker: Worker) -> None:
        self.idle.append(worker.name)

    def worker_due(self, worker: Worker, reason: str) -> None:
        self.due.append(reason)

    def session_failed(self, worker: Worker, failure: AgentFailure, at_start: bool) -> bool:
        self.failures.append(failure)
        return self.affects_all

    def may_start_session(self, worker: Worker) -> bool:
        return self.may_start

    def has_memory_for_successor(self, worker: Worker) -> bool:
        return self.has_memory

    def session_started(self, worker: Worker) -> None:
        """
        Ignore that a session starts.
        """

    def session_ended(self, worker: Worker, cause: EndCause) -> None:
        """
        Remember why a session has ended.
        """
        self.ends.append(cause)

    def sessions_changed(self, worker: Worker) -> None:
        pass


def new_worker_in(
    reactor: MemoryReactor,
    restarts: BackoffPolicy = RESTARTS,
    recycling: RecyclePolicy = RECYCLING,
    **session: Any,
) -> Callable[[str, Supervisor], Worker]:
    """
    Return a factory of workers whose programs run in `reactor`.
    """
    new_session = new_session_in(reactor, **session)
    rng = random.Random(1)

    def new_worker(name: str, supervisor: Supervisor) -> Worker:
        return Worker(name, reactor, rng, new_session, restarts, recycling, supervisor)

    return new_worker


def dispatcher_in(reactor: MemoryReactor, **changes: Any) -> Dispatcher:
    """
    Return a dispatcher with two workers whose programs run in `reactor`.

    Args:
        reactor: Runs the programs.
        **changes: Options that differ from the defaults below.
    """
    options = {
        "workers": 2,
        "max_workers": 0,
        "min_spare": 1,
        "max_spare": 2,
        "backlog": 32,
        "queue_timeout": 30.0,
        "request_timeout": 120.0,
        "restarts": RESTARTS,
        "recycling": RECYCLING,
        "login": LoginPolicy(),
        "has_free_memory": lambda size: True,
        "session": {},
        "name_prefix": "worker",
        "agent_problem": lambda: None,
        "approvals": None,
        "agent": "kiro",
        "versions": None,
        "shared_outage": None,
        **changes,
    }
    new_worker = new_worker_in(
        reactor, options["restarts"], options["recycling"], **options["session"]
    )
    scale = AutoscalePolicy(
        options["workers"],
        max(options["workers"], options["max_workers"]),
        options["min_spare"],
        options["max_spare"],
    )
    policy = QueuePolicy(options["backlog"], options["queue_timeout"], options["request_timeout"])
    return Dispatcher(
        reactor,
        new_worker,
        scale,
        policy,
        options["login"],
        options["has_free_memory"],
        options["name_prefix"],
        options["agent_problem"],
        options["approvals"],
        options["agent"],
        options["versions"],
        options["shared_outage"],
    )


@frozen
class FirstReply:
    """
    The first reply to a request, and who gave it.
    """

    reply: Reply
    worker: str
    attempts: int


def submit_to(
    dispatcher: Dispatcher,
    prompt: str,
    options: RequestOptions | None = None,
    on_progress: OnProgress | None = None,
) -> Deferred[FirstReply]:
    """
    Submit a request that ends with its first reply, whatever that is.
    """

    async def run() -> FirstReply:
        request = dispatcher.submit(prompt, options, on_progress)
        try:
            reply = await request.reply
            assert request.worker is not None
            return FirstReply(reply, request.worker.name, request.attempts)
        finally:
            dispatcher.end(request)

    return Deferred.fromCoroutine(run())


@frozen
class FakeSearch:
    """
    A search for an answer that calls a function.
    """

    find: Callable[[], ParsedAnswer]
    is_cheap: bool = True

    def run(self) -> None:
        """
        Nothing: the function is called in this process.
        """

    def result(self, outcome: None) -> ParsedAnswer:
        return self.find()

    def failure(self, reason: str) -> Exception:
        return AnswerSchemaMismatch(reason)


def group_of(dispatcher: Dispatcher) -> AgentGroup:
    """
    Return a group whose requests `dispatcher` serves.
    """
    agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {}, "kiro")
    return AgentGroup(agent, dispatcher)


def results_of(deferred: Deferred[Any]) -> list[Any]:
    """
    Return a list that gets the result of `deferred`, an exception for a failure.
    """
    results: list[Any] = []
    deferred.addCallbacks(results.append, lambda failure: results.append(failure.value))
    return results
