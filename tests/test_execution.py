"""
Tests for `kiroworkers.execution`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import chain, repeat
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.logger import capturedLogs, formatEvent
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.classic import drawing as classic
from kiroworkers.conversations import load_dialect
from kiroworkers.errors import (
    AgentRefused,
    AgentUnavailable,
    AnswerSchemaMismatch,
    AnswerUnreadable,
    FailureKind,
    InvalidInput,
    RequestTimedOut,
    SessionLost,
    ShuttingDown,
    WorkError,
)
from kiroworkers.execution import Result, execute, within_deadline
from kiroworkers.images import Image
from kiroworkers.offload.call import Call
from kiroworkers.pool.agent_groups import AgentGroup
from kiroworkers.pool.dispatcher import Dispatcher, RequestOptions
from kiroworkers.pool.progress import PartialText, Progress, Retrying, Started
from kiroworkers.request_record import RequestRecord
from kiroworkers.session.session import Reset
from kiroworkers.tasks import ParsedAnswer
from kiroworkers.testing import MemoryReactor
from tests.memory import RESTARTS, FakeSearch, MemoryAcp, dispatcher_in, group_of, results_of
from tests.pool.test_dispatcher import DispatcherTestCase
from tests.test_images import FIELD, png

T = TypeVar("T")


class Approval:
    """
    A task whose answer must contain the word "good", and is unreadable with "blurred".
    """

    images: tuple[Image, ...] = ()

    def prompt(self, payload: Mapping[str, Any], layout: str) -> str:
        prompt: str = payload["prompt"]
        return prompt

    def answer_search(
        self, payload: Mapping[str, Any], text: str, wrapped: bool, styled: tuple[int, ...] = ()
    ) -> FakeSearch:
        return FakeSearch(lambda: self.find(text), is_cheap="slowly" not in text)

    def find(self, text: str) -> ParsedAnswer:
        if "blurred" in text:
            raise AnswerUnreadable("it is blurred")
        if "good" not in text:
            [word] = text.removeprefix("> ").split()[:1] or ["nothing"]
            raise AnswerSchemaMismatch(f"{word} is not good")
        return ParsedAnswer({"text": text})

    def answer_schema_for(self, payload: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"type": "object"}


def mismatch(word: str) -> str:
    """
    Return the reason of a `Retrying` event after an answer with `word` instead of "good".
    """
    return f"the answer does not match the schema: {word} is not good"


class ExecutionTestCase(DispatcherTestCase):
    """
    A test with a dispatcher in memory whose requests are executed.
    """

    def setUp(self) -> None:
        super().setUp()
        self.searches: list[tuple[Any, Deferred[Any]]] = []

    def offload(self, call: Call[T], client: str, refusable: bool = False) -> Deferred[T]:
        """
        Leave `call`, whose result takes a while, to the test.
        """
        self.assertFalse(refusable)
        result: Deferred[T] = Deferred()
        self.searches.append((call, result))
        return result

    def end_search(self) -> None:
        """
        End the search that was begun last.
        """
        search, result = self.searches.pop()
        try:
            answer = search.find()
        except WorkError:
            result.errback()
        else:
            result.callback(answer)
        self.reactor.advance(0)

    def execute(
        self, prompt: str, dispatcher: Dispatcher | None = None, **options: Any
    ) -> Deferred[Result]:
        self.progress: list[Progress] = []
        return Deferred.fromCoroutine(
            execute(
                group_of(dispatcher or self.dispatcher),
                Approval(),
                {"prompt": prompt},
                RequestOptions(**options),
                self.progress.append,
                self.offload,
            )
        )

    def ask(self, prompt: str, dispatcher: Dispatcher | None = None) -> list[Any]:
        results = results_of(self.execute(prompt, dispatcher))
        self.reactor.advance(0)
        return results

    def kill(self, number: int) -> None:
        self.reactor.programs[number].process.end(signal=9)
        self.reactor.advance(0)

    def questions(self, number: int) -> list[str]:
        """
        Return the first word of each prompt that program `number` received.
        """
        return [prompt.split()[0] for prompt in self.prompts(number)]

    def states(self) -> list[str]:
        return [worker.state for worker in self.dispatcher.worker_pool.snapshots()]

    def steps(self) -> list[Progress]:
        """
        Return the progress so far, without the text.
        """
        return [step for step in self.progress if not isinstance(step, PartialText)]


class CheckTests(SynchronousTestCase):
    """
    Tests for `within_deadline`.
    """

    def setUp(self) -> None:
        self.clock = Clock()
        self.check: Deferred[str] = Deferred()

    def run_check(self, timeout: float | None) -> list[Any]:
        options = RequestOptions(timeout)
        checked = within_deadline(self.check, options, self.clock)
        return results_of(Deferred.fromCoroutine(checked))

    def test_takes_time(self) -> None:
        """
        The time that a check takes is no longer available for the execution.
        """
        results = self.run_check(5)
        self.clock.advance(2)
        self.check.callback("fine")
        self.assertEqual(results, [("fine", RequestOptions(3))])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_reported(self) -> None:
        """
        The events of a request say when a check that takes long has ended.
        """
        for timeout in (None, 5.0):
            names: list[str] = []
            record = RequestRecord(on_event=lambda _, name, __, to=names: to.append(name))
            check: Deferred[str] = Deferred()
            options = RequestOptions(timeout, record=record)
            results_of(Deferred.fromCoroutine(within_deadline(check, options, self.clock)))
            self.assertEqual(names, [])
            check.callback("fine")
            self.assertEqual(names, ["checked"])

    def test_deadline(self) -> None:
        """
        A check is stopped at the client's deadline.
        """
        results = self.run_check(5)
        self.clock.advance(5)
        self.assertEqual(str(results[0]), "No answer within 5 seconds")
        self.assertTrue(self.check.called)

    def test_without_deadline(self) -> None:
        """
        A check may take as long as it wants to if the client has set no deadline.
        """
        results = self.run_check(None)
        self.clock.advance(1000)
        self.check.callback("fine")
        self.assertEqual(results, [("fine", RequestOptions())])


class UnfitAnswerTests(ExecutionTestCase):
    """
    Tests for answers that do not match the schema.
    """

    def test_fits(self) -> None:
        """
        An answer that matches is returned with what is known about it.
        """
        results = self.ask("a")
        self.reactor.advance(7)
        self.say(0, "good")
        [result] = results
        self.assertIn("good", result.answer.value["text"])
        self.assertEqual(result.reply.text, result.answer.value["text"])
        self.assertEqual(
            (result.worker, result.attempts, result.repairs, result.seconds),
            ("worker1", 1, 0, 7.0),
        )
        self.assertEqual(self.steps(), [Started("worker1", 1)])
        self.assertEqual(self.states(), ["idle", "idle"])

    def test_repaired(self) -> None:
        """
        The agent is asked once to correct its answer, in the same conversation; the prompt
        says what is wrong.
        """
        results = self.ask("a")
        self.say(0, "bad")
        self.assertEqual(results, [])
        self.assertIn("bad is not good", self.prompts(0)[1])
        self.say(0, "good")
        [result] = results
        self.assertEqual((result.worker, result.attempts, result.repairs), ("worker1", 1, 1))
        self.assertEqual(
            self.steps(), [Started("worker1", 1), Retrying(mismatch("bad"), "same_conversation")]
        )
        self.assertEqual(self.reactor.programs[0].typed[2], "/clear")
        self.assertEqual(self.prompts(1), [])

    def test_another_worker(self) -> None:
        """
        After a correction that does not match either, another worker is asked, and each
        decision is told once, when it was made.
        """
        results = self.ask("a")
        self.say(0, "bad")
        self.say(0, "worse")
        self.assertEqual(results, [])
        self.assertEqual((self.questions(0), self.questions(1)), (["a", "Task:"], ["a"]))
        self.say(1, "good")
        [result] = results
        self.assertEqual((result.worker, result.attempts, result.repairs), ("worker2", 2, 0))
        progress = [
            PartialText(step.text.strip()) if isinstance(step, PartialText) else step
            for step in self.progress
        ]
        self.assertEqual(
            progress,
            [
                Started("worker1", 1),
                PartialText("bad"),
                Retrying(mismatch("bad"), "same_conversation"),
                PartialText("worse"),
                Retrying(mismatch("worse"), "new_conversation"),
                Started("worker2", 2),
                PartialText("good"),
            ],
        )

    def test_no_third_worker(self) -> None:
        """
        After two workers the request fails, with a reason for each time that one was asked.
        """
        results = self.ask("a")
        for number, text in [(0, "bad"), (0, "worse"), (1, "poor"), (1, "weak")]:
            self.say(number, text)
        [problem] = results
        self.assertIsInstance(problem, AnswerSchemaMismatch)
        self.assertEqual(problem.reason, "weak is not good")
        self.assertEqual(
            problem.reasons,
            tuple(f"{word} is not good" for word in ("bad", "worse", "poor", "weak")),
        )
        self.assertEqual((problem.evidence.worker, problem.evidence.request), ("worker2", 1))
        self.assertIn("weak", problem.evidence.text)
        self.assertEqual(len([step for step in self.progress if isinstance(step, Retrying)]), 3)
        self.assertEqual(self.states(), ["idle", "idle"])

    def test_logged(self) -> None:
        """
        Each decision is one line of the log, and so is an unusable answer.
        """
        with capturedLogs() as events:
            self.ask("a")
            for number, text in [(0, "bad"), (0, "worse"), (1, "poor"), (1, "weak")]:
                self.say(number, text)
        lines = [
            str(formatEvent(event))
            for event in events
            if event["log_namespace"] == "kiroworkers.execution"
        ]
        self.assertEqual(
            lines,
            [
                f"request 1: retrying in the same conversation: {mismatch('bad')}",
                f"request 1: retrying in a new conversation: {mismatch('worse')}",
                f"request 1: retrying in the same conversation: {mismatch('poor')}",
                "worker2: the answer to request 1 is unusable: weak is not good",
            ],
        )

    def test_unreadable(self) -> None:
        """
        An answer that cannot be read reliably fails the request at once.
        """
        results = self.ask("a")
        self.say(0, "blurred")
        [problem] = results
        self.assertIsInstance(problem, AnswerUnreadable)
        self.assertIn("blurred", problem.evidence.text)
        self.assertEqual((self.questions(0), self.prompts(1)), (["a"], []))

    def test_empty_answer(self) -> None:
        """
        An agent that said nothing is not asked to correct that; another worker is asked.
        """
        results = self.ask("a")
        self.reactor.programs[0].print(classic.SPINNER_GONE + " \n")
        self.reactor.programs[0].show_prompt()
        self.reactor.advance(0)
        self.assertEqual((self.questions(0), self.questions(1)), (["a"], ["a"]))
        self.say(1, "good")
        self.assertEqual((results[0].attempts, results[0].repairs), (2, 0))

    def test_approval_denied(self) -> None:
        """
        If the last unfit answer came after a tool was denied, the failure says so.
        """
        results = self.ask("a")
        for number in (0, 0, 1, 1):
            self.reactor.programs[number].ask_approval()
            self.reactor.advance(0)
        [problem] = results
        self.assertIsInstance(problem, AgentRefused)
        self.assertIs(problem.kind, FailureKind.APPROVAL_DENIED)

    def test_one_worker(self) -> None:
        """
        Without another worker, the same one is asked in a new conversation, before requests
        that wait.
        """
        dispatcher = self.start(workers=1)
        results = self.ask("a", dispatcher)
        self.ask("b", dispatcher)
        self.say(2, "bad")
        self.say(2, "worse")
        self.assertEqual(self.questions(2), ["a", "Task:", "a"])
        self.assertEqual(self.reactor.programs[2].typed[2:4], ["/clear", "y"])
        self.say(2, "good")
        self.assertEqual((results[0].worker, results[0].attempts), ("worker1", 2))
        self.assertEqual(self.questions(2)[3:], ["b"])

    def test_single_use(self) -> None:
        """
        A session that serves one request corrects its answer before it ends.
        """
        dispatcher = self.start(workers=1, session={"reset": Reset.RECYCLE})
        results = self.ask("a", dispatcher)
        [program] = [program for program in self.reactor.programs if program.typed]
        program.say("bad")
        self.reactor.advance(0)
        self.assertEqual([prompt.split()[0] for prompt in program.typed], ["a", "Task:"])
        program.say("good")
        self.reactor.advance(0)
        self.assertEqual((results[0].attempts, results[0].repairs), (1, 1))
        self.assertNotIn(program.process.pid, self.reactor.running)


class LateOutputTests(ExecutionTestCase):
    """
    Tests for an agent whose output may arrive after the end of its turn.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactor(MemoryAcp)
        self.dispatcher = self.start(workers=1, session={"dialect": "acp"})
        self.reactor.advance(0)
        [self.agent] = self.reactor.programs

    def answer(self, text: str) -> None:
        assert isinstance(self.agent, MemoryAcp)
        self.agent.chunk(text)
        self.agent.end_turn()
        self.reactor.advance(0)

    def late(self, text: str) -> None:
        assert isinstance(self.agent, MemoryAcp)
        self.agent.chunk(text)
        self.reactor.advance(0)

    def test_completed(self) -> None:
        """
        An answer that does not match is not judged before its late output is in; nobody is
        asked again.
        """
        results = self.ask("a")
        self.answer("it is go")
        self.reactor.advance(0.2)
        self.assertEqual(results, [])
        self.late("o")
        self.reactor.advance(0.2)
        self.late("d")
        [result] = results
        self.assertEqual((result.reply.text, result.repairs), ("it is good", 0))
        self.assertEqual(self.steps(), [Started("worker1", 1)])

    def test_nothing_follows(self) -> None:
        """
        Without late output, the agent is asked again after a moment, and one reason is kept.
        """
        results = self.ask("a")
        self.answer("it is bad")
        self.assertEqual(self.steps(), [Started("worker1", 1)])
        self.reactor.advance(0.3)
        self.assertEqual(self.steps()[1:], [Retrying(mismatch("it"), "same_conversation")])
        self.reactor.advance(0)
        self.answer("now it is good")
        self.assertEqual((results[0].attempts, results[0].repairs), (1, 1))

    def test_cancelled_while_waiting(self) -> None:
        """
        A request that is cancelled while late output is awaited frees its worker.
        """
        execution = self.execute("a")
        results = results_of(execution)
        self.reactor.advance(0)
        self.answer("it is bad")
        execution.cancel()
        self.assertIsInstance(results[0], CancelledError)
        self.reactor.pump([0, 0.5, 0])
        self.assertEqual(self.states(), ["idle"])


class SeesImages(MemoryAcp):
    """
    An agent that says that it accepts images.
    """

    accepts_images = True


class ImageTests(SynchronousTestCase):
    """
    Tests for requests with images.
    """

    def start(self, *agents: Callable[[], MemoryAcp]) -> None:
        """
        Start a worker with each of `agents`, in this order; later sessions run the first one.
        """
        programs = chain(agents, repeat(agents[0]))
        self.reactor = MemoryReactor(lambda: next(programs)())
        session = {"dialect": "acp"}
        dispatcher = dispatcher_in(self.reactor, workers=len(agents), session=session)
        agent = Agent(load_dialect("acp"), "chosen", "/bin/agent", (), {}, "kiro")
        self.group = AgentGroup(agent, dispatcher)
        dispatcher.startService()

    def ask(self, *images: Image) -> list[Any]:
        results = self.submit(*images)
        self.reactor.advance(0)
        return results

    def submit(self, *images: Image) -> list[Any]:
        task = Approval()
        task.images = images
        execution = execute(self.group, task, {"prompt": "a"}, RequestOptions())
        return results_of(Deferred.fromCoroutine(execution))

    def answer(self, number: int, text: str) -> None:
        self.agent(number).chunk(text)
        self.agent(number).end_turn()
        self.reactor.pump([0, 0.3, 0])

    def agent(self, number: int) -> MemoryAcp:
        agent = self.reactor.programs[number]
        assert isinstance(agent, MemoryAcp)
        return agent

    def images_of(self, number: int) -> list[list[str]]:
        """
        Return the images in each prompt that an agent got.
        """
        return self.agent(number).images

    def test_sent(self) -> None:
        """
        The images are sent in their order, once; the agent's next request has none.
        """
        self.start(SeesImages)
        self.reactor.advance(0)
        results = self.ask(png(b"1"), png(b"2"))
        self.answer(0, "it is good")
        self.assertIsInstance(results[0], Result)
        self.reactor.advance(0)
        self.ask()
        self.assertEqual(self.images_of(0), [[png(b"1").data, png(b"2").data], []])

    def test_repaired(self) -> None:
        """
        A correction in the same conversation does not send the images again.
        """
        self.start(SeesImages)
        self.reactor.advance(0)
        results = self.ask(png())
        self.answer(0, "it is bad")
        self.assertEqual(self.images_of(0), [[png().data], []])
        self.answer(0, "now it is good")
        self.assertEqual(results[0].repairs, 1)

    def test_retried(self) -> None:
        """
        Another worker gets the images again, also if the first one was asked for a correction.
        """
        self.start(SeesImages, SeesImages)
        self.reactor.advance(0)
        results = self.ask(png())
        self.answer(0, "it is bad")
        self.answer(0, "it is bad again")
        self.assertEqual(
            [self.images_of(0), self.images_of(1)], [[[png().data], []], [[png().data]]]
        )
        self.answer(1, "it is good")
        self.assertEqual(results[0].attempts, 2)

    def test_session_lost(self) -> None:
        """
        If the session ends, another worker gets the images.
        """
        self.start(SeesImages, SeesImages)
        self.reactor.advance(0)
        self.ask(png())
        self.agent(0).process.end(signal=9)
        self.reactor.advance(0)
        self.assertEqual(self.images_of(1), [[png().data]])

    def refused(self, results: list[Any]) -> None:
        """
        Check that a request failed because of its first image.
        """
        [problem] = results
        self.assertIsInstance(problem, InvalidInput)
        self.assertEqual(
            (problem.field, str(problem)), (FIELD, f"{FIELD}: agent kiro does not accept images")
        )

    def test_not_accepted(self) -> None:
        """
        An agent that does not say that it accepts images is not asked, and stays idle.
        """
        self.start(MemoryAcp)
        self.reactor.advance(0)
        self.refused(self.ask(png()))
        self.assertEqual(self.images_of(0), [])
        results = self.ask()
        self.answer(0, "it is good")
        self.assertIsInstance(results[0], Result)

    def test_not_known_yet(self) -> None:
        """
        A request that came before any session was ready fails then with the same error, and those
        that wait behind it are answered.
        """
        self.start(MemoryAcp)
        self.assertTrue(self.group.accepts_images)
        early = self.submit(png())
        next_one = self.submit()
        self.assertEqual(early, [])
        self.reactor.pump([0, 0])
        self.refused(early)
        self.answer(0, "it is good")
        self.assertIsInstance(next_one[0], Result)

    def test_other_version(self) -> None:
        """
        If the worker that retries runs another version of the agent, which accepts no images, it
        gets none, and the request fails.
        """
        self.start(SeesImages, MemoryAcp)
        self.reactor.advance(0)
        results = self.ask(png())
        self.agent(0).process.end(signal=9)
        self.reactor.advance(0)
        self.refused(results)
        self.assertEqual(self.images_of(1), [])

    def test_terminal(self) -> None:
        """
        An agent with a terminal is not asked, even before it is ready.
        """
        reactor = MemoryReactor(MemoryAcp)
        self.reactor, self.group = reactor, group_of(dispatcher_in(reactor))
        self.group.dispatcher.startService()
        self.refused(self.ask(png()))


class SessionLostTests(ExecutionTestCase):
    """
    Tests for sessions that end in the middle of a turn.
    """

    def test_moves_to_another_worker(self) -> None:
        """
        A request whose session ends is sent to another worker at once.
        """
        results = self.ask("a")
        self.kill(0)
        self.assertEqual(self.prompts(1), ["a"])
        self.assertEqual(
            self.steps(),
            [
                Started("worker1", 1),
                Retrying("the session ended: killed by SIGKILL", "new_conversation"),
                Started("worker2", 2),
            ],
        )
        self.say(1, "good")
        self.assertEqual((results[0].worker, results[0].attempts), ("worker2", 2))

    def test_in_a_repair(self) -> None:
        """
        A session that ends while it corrects its answer counts as one attempt, and the next
        worker may correct its own answer.
        """
        results = self.ask("a")
        self.say(0, "bad")
        self.kill(0)
        self.say(1, "worse")
        self.say(1, "good")
        self.assertEqual((results[0].attempts, results[0].repairs), (2, 1))
        self.assertEqual(self.dispatcher.worker_pool.snapshots()[0].answered, 0)

    def test_goes_first(self) -> None:
        """
        Without another idle worker the request is first in the queue.
        """
        for prompt in "abc":
            self.ask(prompt)
        self.kill(0)
        self.say(1, "good")
        self.assertEqual(self.prompts(1), ["b", "a"])

    def test_goes_first_without_backlog(self) -> None:
        """
        A request that is retried may wait even with a backlog of 0.
        """
        dispatcher = self.start(backlog=0, workers=1)
        results = self.ask("a", dispatcher)
        self.kill(2)
        self.assertEqual(results, [])
        self.reactor.advance(5)
        self.assertEqual(self.prompts(3), ["a"])

    def test_once(self) -> None:
        """
        A request whose second session ends as well fails.
        """
        results = self.ask("a")
        self.kill(0)
        self.kill(1)
        [lost] = results
        self.assertIsInstance(lost, SessionLost)
        self.assertEqual((lost.reason.split(",")[0], lost.attempts), ("killed by SIGKILL", 2))

    def test_after_an_unfit_answer(self) -> None:
        """
        There are two attempts in all, whatever the reasons.
        """
        results = self.ask("a")
        self.say(0, "bad")
        self.say(0, "worse")
        self.kill(1)
        [lost] = results
        self.assertIsInstance(lost, SessionLost)
        self.assertEqual((lost.reason.split(",")[0], lost.attempts), ("killed by SIGKILL", 2))

    def test_within_its_deadline(self) -> None:
        """
        The second attempt gets only the time that is left.
        """
        results = self.ask("a")
        self.reactor.advance(100)
        self.kill(0)
        self.reactor.advance(20)
        self.assertEqual(repr(results), repr([RequestTimedOut(120.0)]))


class EndTests(ExecutionTestCase):
    """
    Tests for requests that end before they have a valid answer.
    """

    def begin(self) -> tuple[Deferred[Result], list[Any]]:
        execution = self.execute("a")
        results = results_of(execution)
        self.reactor.advance(0)
        return execution, results

    def assert_free(self) -> None:
        """
        Assert that no request is left, and all workers are idle after a moment.
        """
        self.assertEqual(list(self.dispatcher.requests()), [])
        self.reactor.pump([0, 0.2, 0])
        self.assertEqual(self.states(), ["idle", "idle"])

    def test_cancelled_in_a_repair(self) -> None:
        """
        A client that hangs up during a repair frees the worker.
        """
        execution, results = self.begin()
        self.say(0, "bad")
        execution.cancel()
        self.assertIsInstance(results[0], CancelledError)
        self.assert_free()

    def test_cancelled_between_two_attempts(self) -> None:
        """
        A client that hangs up while its request waits for a second worker leaves the queue.
        """
        execution, results = self.begin()
        self.ask("b")
        self.kill(0)
        self.assertEqual(self.dispatcher.queue().length, 1)
        execution.cancel()
        self.assertIsInstance(results[0], CancelledError)
        self.assertEqual(self.dispatcher.queue().length, 0)

    def test_cancelled_in_the_second_attempt(self) -> None:
        """
        A client that hangs up during the second attempt frees the second worker.
        """
        execution, results = self.begin()
        self.say(0, "bad")
        self.say(0, "worse")
        execution.cancel()
        self.assertIsInstance(results[0], CancelledError)
        self.assert_free()

    def test_deadline_in_a_repair(self) -> None:
        """
        The deadline covers the repair.
        """
        _, results = self.begin()
        self.reactor.advance(100)
        self.say(0, "bad")
        self.reactor.advance(20)
        self.assertEqual(repr(results), repr([RequestTimedOut(120.0)]))
        self.assert_free()

    def test_shutting_down_after_an_answer(self) -> None:
        """
        After a drain was skipped, an unfit answer is corrected but not asked for elsewhere.
        """
        _, results = self.begin()
        self.dispatcher.drain(100)
        self.say(0, "bad")
        self.dispatcher.skip_drain()
        self.say(0, "worse")
        self.assertEqual(results[0].reason, "worse is not good")
        self.assertEqual(self.prompts(1), [])

    def test_shutting_down_without_an_answer(self) -> None:
        """
        After a drain was skipped, a request whose session ends fails, and no retry is told.
        """
        _, results = self.begin()
        self.dispatcher.skip_drain()
        self.kill(0)
        self.assertEqual(repr(results), repr([ShuttingDown()]))
        self.assertEqual(self.steps(), [Started("worker1", 1)])

    def test_circuit_open(self) -> None:
        """
        Nobody else is asked while the circuit is open.
        """
        _, results = self.begin()
        self.ask("b")
        program = self.reactor.programs[1]
        program.print("Too many requests, please wait 40 seconds before trying again\n\n")
        program.show_prompt()
        self.reactor.advance(0)
        self.kill(0)
        [problem] = results
        assert isinstance(problem, AgentUnavailable)
        self.assertEqual(problem.kind, "throttled")

    def test_probe_needs_no_valid_answer(self) -> None:
        """
        The circuit closes when a probe was answered in any way; the second attempt of a probe
        is allowed.
        """
        self.begin()
        program = self.reactor.programs[0]
        program.print("Too many requests, please wait 40 seconds before trying again\n\n")
        program.show_prompt()
        self.reactor.pump([0, 40])
        _, results = self.begin()
        breaker = self.dispatcher.worker_pool.circuit_breaker
        for _ in range(4):
            self.assertTrue(breaker.is_open)
            [answering] = [n for n in (0, 1) if self.reactor.programs[n].answering]
            self.say(answering, "bad")
        self.assertIsInstance(results[0], AnswerSchemaMismatch)
        self.assertFalse(breaker.is_open)

    def test_refused(self) -> None:
        """
        A request that the dispatcher refuses fails before any worker is asked.
        """
        self.dispatcher.drain(100)
        self.assertEqual(repr(self.ask("a")), repr([ShuttingDown()]))
        self.assertEqual(self.progress, [])


class LongSearchTests(ExecutionTestCase):
    """
    Tests for what happens while another process searches a reply for the answer.
    """

    def test_waits(self) -> None:
        """
        The agent waits until it is known whether its answer is valid, and is then asked to
        correct it in the same conversation.
        """
        results = self.ask("a")
        self.say(0, "slowly bad")
        self.assertEqual((results, self.states()), ([], ["answered", "idle"]))
        self.end_search()
        self.assertEqual((self.questions(0), self.questions(1)), (["a", "Task:"], []))
        self.say(0, "slowly good")
        self.end_search()
        [result] = results
        self.assertEqual((result.worker, result.attempts, result.repairs), ("worker1", 1, 1))
        self.assertEqual(self.states(), ["idle", "idle"])

    def test_cancelled(self) -> None:
        """
        A client that hangs up cancels the search, and the worker is free.
        """
        execution = self.execute("a")
        results = results_of(execution)
        self.reactor.advance(0)
        self.say(0, "slowly good")
        execution.cancel()
        [(_, search)] = self.searches
        self.assertTrue(search.called)
        self.assertIsInstance(results[0], CancelledError)
        self.reactor.advance(0)
        self.assertEqual(self.states(), ["idle", "idle"])

    def test_deadline(self) -> None:
        """
        The request fails at its deadline, and the search is cancelled.
        """
        results = self.ask("a")
        self.say(0, "slowly good")
        self.reactor.advance(120)
        self.assertIsInstance(results[0], RequestTimedOut)
        [(_, search)] = self.searches
        self.assertTrue(search.called)
        self.reactor.advance(0)
        self.assertEqual(self.states(), ["idle", "idle"])

    def test_session_ends(self) -> None:
        """
        If the session ends meanwhile, a valid answer is returned, and after an invalid one
        another worker is asked.
        """
        for text, asked in (("slowly good", []), ("slowly bad", ["a"])):
            dispatcher = self.start(workers=2)
            first = len(self.reactor.programs) - 2
            results = self.ask("a", dispatcher)
            self.say(first, text)
            self.kill(first)
            self.end_search()
            self.assertEqual(len(results), 1 - len(asked))
            self.assertEqual(self.questions(first + 1), asked)

    def test_next_session(self) -> None:
        """
        A late decision does not touch the turn of another request in the worker's next session.
        """
        for text in ("slowly good", "slowly bad"):
            dispatcher = self.start(workers=1)
            first = len(self.reactor.programs) - 1
            self.ask("a", dispatcher)
            self.say(first, text)
            self.kill(first)
            self.reactor.advance(RESTARTS.delay)
            other = self.ask("b", dispatcher)
            self.say(first + 1, "slowly bad too")
            late = self.searches.pop(0)
            self.searches.append(late)
            self.end_search()
            self.assertEqual(self.questions(first + 1), ["b"])
            self.end_search()
            self.assertEqual(self.questions(first + 1), ["b", "Task:"])
            self.say(first + 1, "good")
            self.assertEqual(other[0].repairs, 1)
