"""
A server in memory whose agent can be a function, and proofs of it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias, cast

from attrs import frozen
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.model_server.reply import ModelReply
from kiroworkers.model_server.request import Message, ModelRequest
from kiroworkers.proof.case import Case
from kiroworkers.proof.http import Response
from kiroworkers.proof.program_log import ProgramLog
from kiroworkers.proof.report import Model
from kiroworkers.proof.run import ProofOptions, ProofRun
from kiroworkers.proof.scripted_model import ScriptedModel
from kiroworkers.proof.server_process import NotReady, ServerOptions, ServerProcess
from kiroworkers.proof.setup import Setup


def model_request(*texts: str, tools: Iterable[str] = ()) -> ModelRequest:
    """
    Return a request with messages of the user.
    """
    messages = tuple(Message("user", text) for text in texts)
    return ModelRequest("/v1/chat/completions", messages, tuple(tools))


@frozen
class Turn:
    """
    Offer to an agent what it needs for one turn.

    Attributes:
        body: The body of the client's request.
        proof: The proof.
    """

    body: Mapping[str, str]
    proof: ProofRun

    def ask_model(self, *tools: str, text: str | None = None) -> ModelReply:
        """
        Send the prompt to the model, or `text` in its place.
        """
        prompt = json.dumps(self.body) if text is None else text
        return self.proof.model.reply_to(model_request(prompt, tools=tools))


#: Answers one request: returns the text of the answer, or a whole response.
AgentFunction: TypeAlias = Callable[[Turn], str | Response]


def error(status: int, code: str) -> Response:
    """
    Return the response with an error.
    """
    return Response(status, {}, {"error": "the reason", "code": code}, 0.1)


class MemoryServer:
    """
    Take the place of a `ServerProcess`: note what is done with it, and answer requests.

    Its agent asks the model for each case, and answers with a copy, its workers in turn.

    Attributes:
        calls: What was done, in order.
        broken: Why it cannot start; empty if it can.
        answer: Returns the status and the body of the response to a case.
        history: Texts that the agent sends to its model before each prompt.
        states: The state of each worker.
        stubborn: Whether the agent goes on with the model when its turn is interrupted.
        deaf: Yields for each request whether it gets 504 before the model is asked.
        headers: Returns more headers of the response to a case.
        late_code: The status of the response at the deadline.
        refusals: The headers of the responses with 503 that the next requests get.
        asks: Whether the agent asks the model.
        answered: The worker of each answer so far.
        agent: Takes the place of all that and answers a body by itself; None for none.
    """

    def __init__(self, clock: Clock, model: ScriptedModel) -> None:
        self.log = ProgramLog()
        self.options = ServerOptions("an-agent")
        self.calls: list[str] = []
        self.broken = ""
        self.answer: Callable[[Case], tuple[int, Any]] = lambda case: (200, case.answer)
        self.history: list[str] = []
        self.states = {"worker1": "idle", "worker2": "idle"}
        self.stubborn = False
        self.deaf: Iterator[bool] = iter(())
        self.headers: Callable[[Case], Mapping[str, str]] = lambda case: {}
        self.late_code = 504
        self.refusals: list[Mapping[str, str]] = []
        self.asks = True
        self.answered: list[str] = []
        self.agent: Callable[[Mapping[str, str]], str | Response] | None = None
        self._clock = clock
        self._model = model
        self._turns = 0

    @property
    def workers(self) -> list[str]:
        return [*self.states]

    async def start(self) -> float:
        self.calls.append("start")
        if self.broken:
            raise NotReady(self.broken)
        return 1.5

    async def stop(self) -> None:
        self.calls.append("stop")

    async def kill(self) -> None:
        self.calls.append("kill")

    async def restart_worker(self, worker: str) -> None:
        self.calls.append(f"restart {worker}")

    async def wait_ready(self, workers: Sequence[str], since: int) -> None:
        self.calls.append(f"wait for {', '.join(workers)}")
        self.states.update(dict.fromkeys(workers, "idle"))

    async def health(self) -> Mapping[str, Any]:
        return {
            "workers": {
                name: {"state": state, "pid": number}
                for number, (name, state) in enumerate(self.states.items())
            }
        }

    async def post(
        self, path: str, body: Any, headers: Mapping[str, str] | None = None
    ) -> Response:
        self.calls.append(path)
        if self.agent is not None:
            said = self.agent(body)
            if isinstance(said, Response):
                return said
            text = said.rpartition("```json\n")[2].partition("\n```")[0]
            return Response(200, {}, json.loads(text), 0.1)
        case = Case(body["case"], body["text"])
        limit = float((headers or {}).get("X-Request-Timeout", "120"))
        if self.refusals:
            return Response(503, self.refusals.pop(0), {"code": "no_session"}, 0.0)
        if next(self.deaf, False):
            return Response(504, {}, {"code": "timed_out"}, limit)
        request = model_request(*self.history, case.id)
        if self.asks and self._model.reply_to(request).endless:
            return await self._wait(request, limit)
        code, answer = self.answer(case)
        idle = [name for name, state in self.states.items() if state == "idle"]
        self._turns += 1
        worker = idle[self._turns % len(idle)]
        self.answered.append(worker)
        headers = {"x-kiroworkers-worker": worker, **self.headers(case)}
        return Response(code, headers, answer, 0.5)

    async def get(self, path: str) -> Response:
        return Response(200, {}, {"requests": [{"worker": "worker1"}]}, 0.0)

    async def _wait(self, request: ModelRequest, limit: float) -> Response:
        """
        Wait until the client hangs up or the time is over, then leave the model.
        """
        ended: Deferred[None] = Deferred()
        timer = self._clock.callLater(limit, ended.callback, None)
        try:
            await ended
        finally:
            if timer.active():
                timer.cancel()
            if not self.stubborn:
                self._clock.callLater(0.1, self._model.note_abandoned, request)
        return Response(self.late_code, {}, {"code": "timed_out"}, limit)


def fake_proof(
    agent: AgentFunction, root: Path, *, turns: int = 100, clock: Any = None
) -> ProofRun:
    """
    Return a proof of `agent`, with its folders below `root`.
    """
    home, folder = root / "home", root / "folder"
    home.mkdir(parents=True)
    folder.mkdir()
    clock = Clock() if clock is None else clock
    model = ScriptedModel(clock.seconds)
    server = MemoryServer(clock, model)
    proof = ProofRun(
        clock,
        "loopback",
        Setup(root, home, folder, root / "state", root / "tasks", {}),
        cast(ServerProcess, server),
        model,
        ProofOptions(turns=turns),
    )
    server.agent = lambda body: agent(Turn(body, proof))
    return proof


class ProofTestCase(SynchronousTestCase):
    """
    Make checks with a server in memory.

    Attributes:
        clock: The time of proofs.
        model: Their model.
        server: Their server.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.model = ScriptedModel(self.clock.seconds)
        self.server = MemoryServer(self.clock, self.model)

    def new_proof(self, kind: Model = "loopback", options: ProofOptions | None = None) -> ProofRun:
        """
        Return a proof with answers of that kind of model.
        """
        root = Path("/proof")
        return ProofRun(
            self.clock,
            kind,
            Setup(root, root, root, root, root, {}),
            cast(ServerProcess, self.server),
            self.model,
            options or ProofOptions(),
        )
