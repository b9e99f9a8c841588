"""
A proof whose server and agent are a function.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from attrs import field, frozen
from twisted.internet.task import Clock

from kiroworkers.model_server.reply import ModelReply
from kiroworkers.model_server.request import Message, ModelRequest
from kiroworkers.proof.http import Response
from kiroworkers.proof.program_log import ProgramLog
from kiroworkers.proof.proof import Proof, ProofOptions
from kiroworkers.proof.scripted_model import ScriptedModel
from kiroworkers.proof.setup import Setup


@frozen
class Turn:
    """
    Offer to an agent what it needs for one turn.

    Attributes:
        body: The body of the client's request.
        proof: The proof.
    """

    body: Mapping[str, str]
    proof: Proof

    def ask_model(self, *tools: str, text: str | None = None) -> ModelReply:
        """
        Send the prompt to the model, or `text` in its place.
        """
        prompt = json.dumps(self.body) if text is None else text
        message = Message("user", prompt)
        return self.proof.model.reply_to(ModelRequest("/v1/responses", (message,), tools))


#: Answers one request: returns the text of the answer, or a whole response.
AgentFunction = Callable[[Turn], str | Response]


def error(status: int, code: str) -> Response:
    """
    Return the response with an error.
    """
    return Response(status, {}, {"error": "the reason", "code": code}, 0.1)


@frozen(eq=False)
class FakeServer:
    """
    Answer requests with a function.
    """

    agent: AgentFunction
    proofs: list[Proof] = field(factory=list)
    log: ProgramLog = field(factory=ProgramLog)
    pids: tuple[int, ...] = ()

    @property
    def workers(self) -> list[str]:
        """
        Return the names of the workers.
        """
        return ["worker1", "worker2"]

    async def post(self, path: str, body: Any, headers: Mapping[str, str]) -> Response:
        """
        Answer a request.
        """
        answer = self.agent(Turn(body, self.proofs[0]))
        if isinstance(answer, Response):
            return answer
        text = answer.rpartition("```json\n")[2].partition("\n```")[0]
        return Response(200, {}, json.loads(text), 0.1)

    async def health(self) -> Mapping[str, Any]:
        """
        Return the processes of the workers.
        """
        return {"workers": {f"worker{pid}": {"pid": pid} for pid in self.pids}}


def fake_proof(agent: AgentFunction, root: Path, *, turns: int = 100, clock: Any = None) -> Proof:
    """
    Return a proof of `agent`, with its folders below `root`.
    """
    home, folder = root / "home", root / "folder"
    home.mkdir(parents=True)
    folder.mkdir()
    clock = Clock() if clock is None else clock
    server = FakeServer(agent)
    setup = Setup(root, home, folder, root / "state", root / "tasks", {})
    model = ScriptedModel(clock.seconds)
    options = ProofOptions(turns=turns)
    proof = Proof(clock, "loopback", setup, server, model, options)  # type: ignore[arg-type]
    server.proofs.append(proof)
    return proof
