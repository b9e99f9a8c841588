"""
A session whose conversation reports the events that a test chooses.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attrs import define, field

from kiroworkers.conversations import AgentFailure, Cleared, Conversation, Event
from kiroworkers.images import Image
from kiroworkers.process.agent_process import AgentProcess, start
from kiroworkers.session.session import Session
from kiroworkers.session.turn import Reply
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.memory import COMMAND, LIMITS


@define(eq=False)
class ScriptedConversation(Conversation):
    """
    A conversation that does what the test says, and records what it was asked for.

    Attributes:
        calls: The names of the methods that were called, in order; `ask` with its arguments.
        due: The events that the next read, or the next silence, reports.
        at_prompt: Whether the agent is at its prompt; a call that types ends that.
        quiet_timeout: The seconds after which silence means something.
        late_data: What `data_to_send` returns next.
        selects_models: Whether it can be given a model.
        models: The models that the agent offers.
        failure: The failure that the agent reported last.
        quick_clear: Whether another conversation is prepared, so that a clear sends nothing.
        stderr: What came from standard error.
    """

    completion = "prompt"
    interrupt_can_race = False
    can_clear = True
    recent_output = ""

    calls: list[Any] = field(factory=list)
    due: list[Event] = field(factory=list)
    at_prompt: bool = True
    quiet_timeout: float | None = None
    late_data: bytes = b""
    selects_models: bool = False
    models: tuple[str, ...] = ()
    failure: AgentFailure | None = None
    quick_clear: bool = False
    stderr: bytes = b""

    def ask(self, prompt: str, model: str = "", images: Sequence[Image] = ()) -> bytes:
        self.calls.append(("ask", prompt, model, *images))
        self.at_prompt = False
        return b"ask\r"

    def clear(self) -> bytes:
        assert self.at_prompt, "typed only at the prompt"
        if not self.quick_clear:
            return self._typed("clear")
        # As one that has prepared another conversation: nothing is sent.
        self.calls.append("clear")
        self.quiet_timeout = 0
        self.due.append(Cleared())
        return b""

    def deny(self) -> bytes:
        return self._typed("deny")

    def allow(self) -> bytes:
        return self._typed("allow")

    def interrupt(self) -> bytes:
        self.calls.append("interrupt")
        return b"" if self.at_prompt else b"\x03"

    def data_to_send(self) -> bytes:
        data, self.late_data = self.late_data, b""
        return data

    def feed(self, data: bytes) -> list[Event]:
        due, self.due = self.due, []
        return due

    def feed_stderr(self, data: bytes) -> None:
        self.stderr += data

    def on_quiet(self) -> list[Event]:
        self.quiet_timeout = None
        return self.feed(b"")

    def _typed(self, name: str) -> bytes:
        self.calls.append(name)
        self.at_prompt = False
        return f"{name}\r".encode()


class Keyboard(MemoryKiro):
    """
    A program that prints nothing by itself, and keeps what was typed.
    """

    def begin(self) -> None:
        pass

    def receive(self, data: bytes) -> None:
        self.typed.append(data.decode())


class ScriptedSession:
    """
    Hold a session with a `ScriptedConversation`, and what has become of it.

    Args:
        **changes: Further arguments of `Session`.

    Attributes:
        idle_count: How often it became idle.
        gone: The reason of its end; empty while it runs.
    """

    def __init__(self, **changes: Any) -> None:
        self.reactor = MemoryReactor(Keyboard)
        self.conversation = ScriptedConversation()
        self.idle_count = 0
        self.gone: list[str] = []
        self.on_idle: Callable[[], None] = lambda: None

        def launch(process: AgentProcess) -> None:
            start(self.reactor, process, COMMAND)

        self.session = Session(
            "worker1",
            self.reactor,
            self.conversation,
            launch,
            LIMITS,
            self._become_idle,
            self.gone.append,
            **changes,
        )
        self.session.start()
        self.reactor.advance(0)

    def _become_idle(self) -> None:
        self.idle_count += 1
        self.on_idle()

    @property
    def typed(self) -> list[str]:
        """
        Return what was written to the program so far, one entry for each write.
        """
        self.reactor.pump([0, 0])
        return self.reactor.programs[0].typed

    def report(self, *events: Event, at_prompt: bool | None = None) -> None:
        """
        Let the agent print something that means `events`.
        """
        if at_prompt is not None:
            self.conversation.at_prompt = at_prompt
        self.conversation.due += events
        self.reactor.programs[0].print("x")
        self.reactor.pump([0, 0])

    def reply_of(self, results: list[Any]) -> Reply:
        """
        Return the only one of `results`, which must be a reply.
        """
        [reply] = results
        assert isinstance(reply, Reply), reply
        return reply
