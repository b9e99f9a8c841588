"""
Tests for what the pool passes on to and from each turn: models, events and uses of tools.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from kiroworkers.agents import Agent
from kiroworkers.conversations import (
    Answered,
    Cleared,
    Event,
    Notice,
    Ready,
    TextChunk,
    TextDiscarded,
    ToolUsed,
    load_dialect,
)
from kiroworkers.errors import AgentRefused, AgentUnavailable, SessionLost
from kiroworkers.execution import execute
from kiroworkers.pool.agent_groups import AgentGroup
from kiroworkers.pool.dispatcher import RequestOptions
from kiroworkers.pool.progress import AgentNotice, PartialText, Progress, Retrying
from kiroworkers.request_record import RequestRecord
from kiroworkers.testing import MemoryReactor
from tests.memory import results_of
from tests.session.scripted import Keyboard, ScriptedConversation
from tests.test_execution import Approval, ExecutionTestCase


class AgentTurnTestCase(ExecutionTestCase):
    """
    A test with two workers whose agents report the events that the test chooses.
    """

    def setUp(self) -> None:
        super().setUp()
        self.conversations: list[ScriptedConversation] = []
        self.reactor = MemoryReactor(Keyboard)
        self.dispatcher = self.start(session={"make_conversation": self.new_conversation})
        for number in range(2):
            self.report(number, Ready())

    def new_conversation(self) -> ScriptedConversation:
        conversation = ScriptedConversation(selects_models=True, models=("large", "small"))
        self.conversations.append(conversation)
        return conversation

    def report(self, number: int, *events: Event, at_prompt: bool = True) -> None:
        """
        Let the agent of process `number` print something that means `events`.
        """
        self.conversations[number].at_prompt = at_prompt
        self.conversations[number].due += events
        self.reactor.programs[number].print("x")
        self.reactor.pump([0, 0])

    def say(self, number: int, text: str) -> None:
        self.report(number, Answered(f"> {text}", "prompt"))

    def asked(self, number: int) -> list[tuple[str, str]]:
        """
        Return the first word and the model of each prompt of process `number`.
        """
        calls = [call for call in self.conversations[number].calls if isinstance(call, tuple)]
        return [(prompt.split()[0], model) for _, prompt, model in calls]


class ModelTests(AgentTurnTestCase):
    """
    Tests for requests that choose a model.
    """

    def test_whole_request(self) -> None:
        """
        A request's model answers it, corrects its answer, and answers on another worker; the
        next request has the agent's own.
        """
        results = results_of(self.execute("a", model="large"))
        self.say(0, "bad")
        self.say(0, "worse")
        self.assertEqual(self.asked(0), [("a", "large"), ("Task:", "large")])
        self.assertEqual(self.asked(1), [("a", "large")])
        self.say(1, "good")
        self.assertEqual(len(results), 1)
        self.report(0, Cleared())
        self.ask("b")
        self.assertEqual(self.asked(0)[2:], [("b", "")])

    def test_cannot_select(self) -> None:
        """
        A request whose model cannot be selected fails, and the worker serves the next one.
        """
        self.conversations[0].selects_models = False
        [error] = results_of(self.execute("a", model="large"))
        self.assertIsInstance(error, AgentUnavailable)
        self.assertEqual(error.kind, "model_gone")
        self.ask("b")
        self.ask("c")
        self.assertEqual((self.asked(0), self.asked(1)), ([("c", "")], [("b", "")]))


class OfferedModelTests(AgentTurnTestCase):
    """
    Tests for the models of an `AgentGroup`.
    """

    def group(self, *patterns: str) -> AgentGroup:
        agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {}, "kiro")
        return AgentGroup(agent, self.dispatcher, patterns)

    def allowed(self, *patterns: str) -> list[str]:
        group = self.group(*patterns)
        return [name for name in ("large", "small", "huge", "") if group.allows_model(name)]

    def test_patterns(self) -> None:
        """
        Clients may choose the models that match a pattern and that the agent offers.
        """
        self.assertEqual(self.allowed("large", "huge"), ["large"])
        self.assertEqual(self.allowed("*"), ["large", "small"])
        self.assertEqual(self.allowed(), [])
        self.assertEqual(self.group("s*").models(), ("small",))

    def test_operators_choice(self) -> None:
        """
        Patterns are for clients: a model that an operator chooses must only be offered.
        """
        group = self.group()
        self.assertEqual((group.offers_model("large"), group.offers_model("huge")), (True, False))

    def test_unknown(self) -> None:
        """
        Until a session has named models, any that matches may be chosen.
        """
        for conversation in self.conversations:
            conversation.models = ()
        self.assertEqual(self.allowed("*u*"), ["huge"])
        self.assertEqual(self.group("*").models(), ())

    def test_cannot_select(self) -> None:
        """
        An agent that cannot be given a model offers none.
        """
        for conversation in self.conversations:
            conversation.selects_models = False
        self.assertEqual(self.allowed("*"), [])

    def test_still_starting(self) -> None:
        """
        Nothing is known from sessions that are still starting.
        """

        def new_conversation() -> ScriptedConversation:
            return ScriptedConversation()

        self.dispatcher = self.start(session={"make_conversation": new_conversation})
        self.assertEqual(self.allowed("h*"), ["huge"])

    def test_one_of_two_sessions(self) -> None:
        """
        The models that one session names are known for the whole agent.
        """
        self.conversations[0].models = ()
        self.assertEqual(self.allowed("*"), ["large", "small"])

    def test_without_sessions(self) -> None:
        """
        Without a session it is not known that a model is not offered.
        """
        self.dispatcher.stopService()
        self.reactor.pump([0, 0, 0])
        self.assertEqual(self.allowed("h*"), ["huge"])


class ProgressTests(AgentTurnTestCase):
    """
    Tests for the progress of a request.
    """

    def test_told(self) -> None:
        """
        A submitter is told that text is taken back in the same turn, and what the agent tells.
        """
        self.ask("a")
        self.report(
            0,
            TextChunk("old"),
            TextDiscarded(),
            Notice("stall", "silent for 60 s"),
            TextChunk("new"),
            at_prompt=False,
        )
        expected: list[Progress] = [
            PartialText("old"),
            Retrying("the agent's service restarted its answer", "same_turn"),
            AgentNotice("stall", "silent for 60 s"),
            PartialText("new"),
        ]
        self.assertEqual(self.progress[1:], expected)


class UnaskedTests(AgentTurnTestCase):
    """
    Tests for tools that an agent uses without asking.
    """

    def execute_recorded(self, prompt: str) -> tuple[list[Any], RequestRecord]:
        """
        Execute a request, and return a list that gets its result, and its record.
        """
        record = RequestRecord()
        return results_of(self.execute(prompt, record=record)), record

    def test_counted(self) -> None:
        """
        Permitted tools are counted in the result and in the record.
        """
        results, record = self.execute_recorded("a")
        self.report(0, ToolUsed("Read a.txt", "read", asked=False, inside=True), at_prompt=False)
        self.say(0, "good")
        self.assertEqual(results[0].reply.unasked, ("Read a.txt",))
        self.assertEqual((record.tools_unasked, record.tools_denied), (1, None))

    def test_not_permitted(self) -> None:
        """
        A tool that is not permitted fails the request, which is not sent to another worker; the
        worker has another session at once, which is no failure of its start.
        """
        results, _ = self.execute_recorded("a")
        self.report(0, ToolUsed("rm -r x", "write", asked=False), at_prompt=False)
        [error] = results
        self.assertIsInstance(error, AgentRefused)
        detail = "it used a tool without asking: rm -r x"
        self.assertEqual((error.kind, error.detail), ("tool_not_permitted", detail))
        self.assertEqual((self.asked(1), len(self.reactor.programs)), ([], 3))
        [worker, _] = self.dispatcher.workers()
        self.assertEqual((worker.state, worker.consecutive_failures), ("starting", 0))
        self.report(2, Ready())
        self.assertEqual(self.states(), ["idle", "idle"])

    def test_after_the_answer(self) -> None:
        """
        If it is known only while the answer is checked, the agent is not asked again in that
        session.
        """
        results, _ = self.execute_recorded("a slowly")
        self.report(
            0, Answered("> bad slowly", "prompt"), ToolUsed("rm -r x", "write", asked=False)
        )
        self.assertEqual(len(self.searches), 1)
        self.end_search()
        self.assertEqual((results, len(self.asked(0)), len(self.asked(1))), ([], 1, 1))


class StyledTests(AgentTurnTestCase):
    """
    Tests for answers that a terminal has rendered.
    """

    def test_passed_on(self) -> None:
        """
        The search for the answer knows where the terminal has rendered it.
        """
        seen: list[tuple[int, ...]] = []

        class Task(Approval):
            def answer_search(self, *args: Any) -> Any:
                seen.append(args[3])
                return super().answer_search(*args)

        group = AgentGroup(
            Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {}, "kiro"),
            self.dispatcher,
        )
        execution = execute(group, Task(), {"prompt": "a"}, RequestOptions())
        results = results_of(Deferred.fromCoroutine(execution))
        self.report(0, Answered("> good", "prompt", styled=(2, 5)))
        self.assertEqual((len(results), seen), (1, [(2, 5)]))
        self.assertNotIsInstance(results[0], SessionLost)
