"""
A model on loopback, for tests with real agents.

It answers a prompt as the stand-ins for agents do, through `kiroworkers.model_server`.

Agents add text of their own to a prompt (reminders, the environment), and also ask for
other things than answers (titles, the next speaker).  The prompt is the last message of
the user that looks like one of kiroworkers; a request without one is answered with a
few words.  A prompt may contain::

    [[silent]]    begin an answer and never end it
    [[tool]]      first call a tool: a command that creates the file ``pwned``

To try an agent by hand, run ``python -m tests.modelserver PORT``: it prints the port and
each request.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from twisted.internet.defer import DeferredQueue
from twisted.web.server import Site

from kiroworkers.model_server import ModelReply, ModelRequest, ModelServer, ToolCall
from tests.fakeline import answer_line

#: Matches only in prompts of kiroworkers.
_PROMPT = re.compile(r"\bTask: [\w-]+|\[\[\w+")
#: Matches only in requests for a title, or for a summary of an earlier session, in a system message
#: or a user's.
_TITLE = re.compile(
    r"\btitle generator\b|\bGenerate a title\b|\bconcise title\b|\bSummary \(max \d+ chars\)",
    re.IGNORECASE,
)

#: The command of `[[tool]]`, and the tools that run one, each with its arguments.
_COMMAND = "touch pwned"
_TOOLS: dict[str, dict[str, Any]] = {
    "run_shell_command": {"command": _COMMAND, "description": "Create a file"},
    "Bash": {"command": _COMMAND, "description": "Create a file"},
    "bash": {"command": _COMMAND, "description": "Create a file"},
    "exec_command": {"cmd": _COMMAND},
    "shell_command": {"command": _COMMAND},
    "shell": {"command": ["touch", "pwned"]},
}


def prompts_in(request: ModelRequest) -> list[str]:
    """
    Return the prompts of kiroworkers in a conversation; the last is to be answered.

    There is none if the agent asks for something else.
    """
    texts = [message.text for message in request.messages if message.role in ("user", "system")]
    if request.structured or any(map(_TITLE.search, texts)):
        return []
    prompts = [message.text for message in request.messages if message.role == "user"]
    return [prompt for prompt in prompts if _PROMPT.search(prompt)]


def results_in(request: ModelRequest) -> list[str]:
    """
    Return the results of tools since the last prompt of kiroworkers.
    """
    results: list[str] = []
    for message in reversed(request.messages):
        if message.role == "user" and _PROMPT.search(message.text):
            break
        if message.role == "tool":
            results.append(message.text)
    return results[::-1]


def command_call(request: ModelRequest) -> ToolCall:
    """
    Return a call of the tool that runs a command.
    """
    return next(ToolCall(name, _TOOLS[name]) for name in request.tools if name in _TOOLS)


class FakeModel:
    """
    Answer the requests of all protocols.

    Attributes:
        requests: The requests so far, also those that ask for no answer.
        conversations: For each answer so far, the prompts of kiroworkers in its request:
            a single one if the conversation was new.
        begun: Gets an item when an answer that never ends begins.
        abandoned: Gets an item when the agent hangs up on such an answer.
    """

    def __init__(self) -> None:
        self.requests: list[ModelRequest] = []
        self.conversations: list[list[str]] = []
        self.begun: DeferredQueue[None] = DeferredQueue()
        self.abandoned: DeferredQueue[None] = DeferredQueue()

    def answer(self, request: ModelRequest) -> ModelReply:
        """
        Return the answer to a request.
        """
        prompts = prompts_in(request)
        if not prompts:
            return ModelReply("{}" if request.structured else "A few words")
        prompt, results = prompts[-1], results_in(request)
        if not results:
            self.conversations.append(prompts)
        if "[[silent]]" in prompt:
            self.begun.put(None)
            return ModelReply("Well", endless=True)
        if "[[tool]]" in prompt and not results:
            return ModelReply(tool=command_call(request))
        return ModelReply("\n".join([*results, answer_line(prompt)]))

    def site(self, reactor: Any) -> Site:
        """
        Return a site that serves this model.
        """
        server = ModelServer(
            reactor,
            self.answer,
            on_abandoned=lambda request: self.abandoned.put(None),
            on_request=self.requests.append,
        )
        return Site(server, timeout=None)


class _PrintedModel(FakeModel):
    """
    Print each request.
    """

    def answer(self, request: ModelRequest) -> ModelReply:
        print(request, flush=True)
        return super().answer(request)


def main(port: int) -> None:
    """
    Serve until interrupted, and print each request.
    """
    from twisted.internet import reactor

    real: Any = reactor
    listener = real.listenTCP(port, _PrintedModel().site(real), interface="127.0.0.1")
    print(listener.getHost().port, flush=True)
    real.run()


if __name__ == "__main__":
    main(int(sys.argv[1]))
