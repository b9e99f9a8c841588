"""
A server in memory, and the base class of tests with a `Proof` of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.model_server.request import Message, ModelRequest
from kiroworkers.proof.case import Case
from kiroworkers.proof.http import Response
from kiroworkers.proof.program_log import ProgramLog
from kiroworkers.proof.proof import Proof, ProofOptions
from kiroworkers.proof.report import Model
from kiroworkers.proof.scripted_model import ScriptedModel
from kiroworkers.proof.server_process import NotReady, ServerOptions, ServerProcess
from kiroworkers.proof.setup import Setup


def model_request(*texts: str, tools: Iterable[str] = ()) -> ModelRequest:
    """
    Return a request with messages of the user.
    """
    messages = tuple(Message("user", text) for text in texts)
    return ModelRequest("/v1/chat/completions", messages, tuple(tools))


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
        case = Case(body["case"], body["text"])
        limit = float((headers or {}).get("X-Request-Timeout", "120"))
        if self.refusals:
            return Response(503, self.refusals.pop(0), {"code": "no_session"}, 0.0)
        if next(self.deaf, False):
            return Response(504, {}, {"code": "timed_out"}, limit)
        request = model_request(*self.history, case.id)
        if self._model.reply_to(request).endless:
            return await self._wait(request, limit)
        code, answer = self.answer(case)
        idle = [name for name, state in self.states.items() if state == "idle"]
        self._turns += 1
        worker = idle[self._turns % len(idle)]
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

    def new_proof(self, kind: Model = "loopback", options: ProofOptions | None = None) -> Proof:
        """
        Return a proof with answers of that kind of model.
        """
        root = Path("/proof")
        return Proof(
            self.clock,
            kind,
            Setup(root, root, root, root, root, {}),
            cast(ServerProcess, self.server),
            self.model,
            options or ProofOptions(),
        )
