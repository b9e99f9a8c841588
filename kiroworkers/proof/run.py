"""
Hold what the checks of one agent use: the server, the model, and new cases.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from secrets import token_hex
from typing import Any

from attrs import evolve, frozen
from twisted.internet.task import deferLater

from kiroworkers.proof.case import TASK_NAME, Case, Form, Problem, problem_with
from kiroworkers.proof.http import Response
from kiroworkers.proof.report import Level, Model
from kiroworkers.proof.scripted_model import Script, ScriptedModel, SeenRequest
from kiroworkers.proof.server_process import ServerProcess
from kiroworkers.proof.setup import Setup
from kiroworkers.tasks.task import ANSWER_LAYOUTS, AnswerLayout

#: How often a request is repeated that no worker could take, and the longest delay before it, in
#: seconds.
_MAX_REPEATS, _MAX_DELAY = 3, 30


#: The most turns that a request takes: two workers, each asked for a repair as well.
MAX_TURNS = 4


class TurnsSpent(Exception):
    """
    Raised when a check asks for more turns of the agent's own service than are allowed.
    """


@frozen
class ProofOptions:
    """
    Hold what the user chose.

    Attributes:
        turns: How many turns the check of memory takes.
        spend: How many turns of the agent's own service the whole proof may take.
    """

    turns: int = 100
    spend: int = 0


class ProofRun:
    """
    Give the checks what they need.

    Args:
        reactor: Runs everything.
        model_kind: The model that answers.
        setup: The folders and the environment.
        server: The server.
        model: The model, if it is the scripted one.  If not, it sees no request.
        options: What the user chose.
        layout: The form of JSON that the agent is asked for.
        new_id: Returns 16 random hexadecimal digits.

    Attributes:
        reactor: Runs everything.
        model_kind: The model that answers.
        setup: The folders and the environment.
        server: The server.
        model: The model.  Only with `model_kind` ``loopback`` it sees requests.
        options: What the user chose.
        layout: The form of JSON that the agent is asked for.
        cases: All cases so far.
        spent: How many turns of the agent were taken so far, repairs and retries included.
        repeats: How many requests were repeated so far because no worker could take them.
        ready_after: Seconds from the server's first start until all workers were ready.
    """

    def __init__(
        self,
        reactor: Any,
        model_kind: Model,
        setup: Setup,
        server: ServerProcess,
        model: ScriptedModel,
        options: ProofOptions,
        layout: AnswerLayout = "compact",
        new_id: Callable[[], str] = lambda: token_hex(8),
    ) -> None:
        self.reactor = reactor
        self.model_kind = model_kind
        self.setup = setup
        self.server = server
        self.model = model
        self.options = options
        self.layout = layout
        self.cases: list[Case] = []
        self.spent = 0
        self.repeats = 0
        self.ready_after = 0.0
        self._new_id = new_id

    def new_case(
        self,
        text: str | Callable[[str], str],
        script: Script | None = None,
        form: Form = Form.AS_ASKED,
    ) -> Case:
        """
        Return a new case, which the model knows from now on.

        Args:
            text: The text to copy, or a function that makes it from the identifier.
            script: Returns the reply to each of the agent's requests for the answer; by default
                a copy of the text.
            form: How the model writes the copy.
        """
        case_id = f"case-{self._new_id()}"
        case = Case(case_id, text if isinstance(text, str) else text(case_id), form)
        self.cases.append(case)
        self.model.add(case, script)
        return case

    async def prepare(self, cases: Iterable[Case]) -> None:
        """
        Make sure that the model answers `cases`, if they are asked one by one in this order.

        An agent that reads its model's answers from a file reads it when it starts, so this
        starts a new server.
        """
        if self.setup.answers is not None:
            layout = ANSWER_LAYOUTS[self.layout]
            answers = [[case.model_text(layout)] for case in cases]
            await self.server.stop()
            self.setup.answers.write_text(json.dumps(answers), encoding="utf-8")
            await self.server.start()

    async def ask(self, case: Case, timeout: float | None = None) -> Response:
        """
        Ask the server for the answer to `case`, and return its response.

        As a client should, it repeats a request that no worker could take, when the server says
        that it helps.  Cancelling hangs up.

        Args:
            case: The case.
            timeout: Seconds after which the server must give up; None for its own limit.

        Raises:
            TurnsSpent: If the agent's own service answers and no more turns are allowed.
        """
        if self.model_kind == "service" and self.spent + MAX_TURNS > self.options.spend:
            raise TurnsSpent(f"{self.spent} of {self.options.spend} turns of --spend are used")
        # It may take so many; what it did not take is given back.
        self.spent += MAX_TURNS
        headers = {} if timeout is None else {"X-Request-Timeout": f"{timeout:g}"}
        try:
            response = await self._send(case, headers)
            for _ in range(_MAX_REPEATS):
                delay = _retry_after(response)
                if delay is None:
                    break
                self.repeats += 1
                await deferLater(self.reactor, delay)
                response = await self._send(case, headers)
            self.spent -= MAX_TURNS - turns_of(response)
            return response
        finally:
            self.model.close(case)

    async def _send(self, case: Case, headers: Mapping[str, str]) -> Response:
        return await self.server.post(f"/kiro/{TASK_NAME}", case.request, headers)

    def problem(self, case: Case, response: Response) -> Problem | None:
        """
        Return what is wrong with the response to `case`; None if it is right.
        """
        problem = problem_with(case, response.code, response.body)
        if problem is None and self.model_kind == "loopback" and not self.model.was_asked(case):
            sentence = f"the answer to {case.id} is right, but its model was not asked"
            return Problem(sentence, Level.LOSSY, {"received": {"status": response.code}})
        if problem is not None and self.model_kind == "mock":
            # After a retry the agent takes the answer to the next case: that is no leak.
            return evolve(problem, level=Level.LOSSY)
        return problem

    async def running_worker(self) -> str:
        """
        Return the name of the worker that runs the only request.
        """
        requests = (await self.server.get("/operator/queue")).body["requests"]
        workers: list[str] = [request["worker"] for request in requests if request["worker"]]
        return workers[0]

    def leaks_since(self, number: int) -> list[SeenRequest]:
        """
        Return the model's requests from `number` on that hold another case's text.
        """
        return self.model.leaks_since(number)


def turns_of(response: Response) -> int:
    """
    Return how many turns of the agent a request has taken: more than one after a repair or a retry.

    For an error it is the most that a request can take, because the response does not say.
    """
    if response.code != 200:
        return MAX_TURNS
    attempts, repairs = (
        int(response.headers.get(f"x-kiroworkers-{name}", default))
        for name, default in (("attempts", "1"), ("repairs", "0"))
    )
    return attempts + repairs


def _retry_after(response: Response) -> float | None:
    """
    Return the seconds after which to repeat a request that no worker could take, or None.
    """
    text = response.headers.get("retry-after", "")
    # 502 if the agent was asked and could not answer.
    if response.code not in (502, 503) or not text.isdigit() or int(text) > _MAX_DELAY:
        return None
    return float(text)


def worker_of(response: Response) -> str | None:
    """
    Return the name of the worker that answered; None if the response names none.
    """
    return response.headers.get("x-kiroworkers-worker")
