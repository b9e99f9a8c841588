"""
Tests for `kiroworkers.pool.canary` and `canary_turn`: a pool whose agent's program is replaced.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from attrs import define, evolve
from twisted.internet.defer import fail, maybeDeferred
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import Agent
from kiroworkers.classic import drawing as classic
from kiroworkers.conversations import Answered, Cleared, LateOutput, Ready, load_dialect
from kiroworkers.errors import AgentUnavailable, CannotStart, NoSessionStarts
from kiroworkers.pool.accepted_versions import AcceptedVersions
from kiroworkers.pool.agent_source import AgentSource
from kiroworkers.pool.canary import Canary
from kiroworkers.pool.canary_turn import CanaryTurn, Passed, Refused
from kiroworkers.pool.versions import VersionSnapshot
from kiroworkers.session.session import Reset
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests.memory import dispatcher_in, new_session_in, results_of, submit_to, why
from tests.session.scripted import Keyboard, ScriptedConversation

_CANARY = "sing"

_THROTTLED = "Too many requests, please wait 30 seconds before trying again"


class FakeQuestion:
    """
    A question whose right answer is ``tweet``.
    """

    def prompt(self, layout: str) -> str:
        return _CANARY

    def problem(self, text: str, wrapped: bool, styled: tuple[int, ...]) -> str | None:
        return None if "tweet" in text else "it cannot sing"


class CanaryTestCase(SynchronousTestCase):
    """
    A test with a pool in memory; the text of a file is the version and what it does.

    ``1 good`` answers the canary, ``2 bad`` answers something else, ``2 silent`` nothing,
    ``2 mute`` never shows a prompt, ``2 dies`` ends in the turn, ``2 stuck`` does not clear its
    conversation, and ``2 throttled`` says so.  All answer other prompts when the test says so.
    """

    def setUp(self) -> None:
        self.file = Path(self.mktemp())
        self.changes_itself = False
        self.install("1 good")
        self.reactor = MemoryReactor(self.new_program)
        self.chosen: list[Agent] = []
        self.reason: Callable[[Agent], Any] = lambda agent: None
        self.accepted = AcceptedVersions(lambda write: maybeDeferred(write))
        agent = Agent(load_dialect("kiro-classic"), "chosen", str(self.file), (), {}, "kiro", "1")
        self.first = agent
        self.source = AgentSource(agent, self.choose, maybeDeferred, lambda agent: None)
        self.canaries: list[MemoryKiro] = []
        self.session: dict[str, Any] = {}

    def install(self, text: str) -> None:
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)

    def choose(self) -> Agent:
        if not self.file.exists():
            raise CannotStart("kiro is not on PATH")
        number, _, behaviour = self.file.read_text().partition(" ")
        if behaviour == "refuses":
            raise CannotStart("no dialect can drive it")
        return evolve(self.first, version=number, reason=f"version {number}")

    def new_program(self) -> MemoryKiro:
        behaviour = self.file.read_text().partition(" ")[2]

        def reply(prompt: str) -> str | None:
            if prompt.strip() != _CANARY:
                return None
            self.canaries.append(program)
            if self.changes_itself:
                self.install(f"2 {behaviour} {len(self.canaries)}")
            match behaviour:
                case "silent":
                    return None
                case "dies":
                    self.reactor.callLater(0, program.process.end, 1)
                    return None
                case "throttled":
                    program.print(f"{classic.SPINNER_GONE}{_THROTTLED}\n\n")
                    program.show_prompt()
                    return None
                case "bad":
                    return "moo"
            program.confirms_clear = behaviour != "stuck"
            return "tweet"

        program = MemoryKiro(reply)
        program.mute = behaviour == "mute"
        return program

    def start(self, **changes: Any) -> None:
        """
        Start a pool with --canary.
        """
        new_session = new_session_in(self.reactor, **self.session)

        def new_turn(agent: Agent) -> CanaryTurn:
            question: Any = FakeQuestion()
            return CanaryTurn("canary", self.reactor, new_session, question, "compact", 120)

        self.canary = Canary(
            self.reactor,
            self.source,
            self.accepted,
            lambda agent: maybeDeferred(self.reason, agent),
            new_turn,
            self.chosen.append,
        )
        self.dispatcher = dispatcher_in(
            self.reactor, **{"versions": self.canary, "session": self.session, **changes}
        )
        self.worker_pool = self.dispatcher.worker_pool
        self.dispatcher.startService()
        self.pump()

    def pump(self, seconds: float = 0) -> None:
        self.reactor.advance(seconds)
        self.reactor.pump([0] * 12)

    def ask(self, prompt: str = "story") -> list[Any]:
        results = results_of(submit_to(self.dispatcher, prompt))
        self.pump()
        return results

    def answer(self) -> None:
        """
        Answer every turn that is running.
        """
        for program in list(self.reactor.programs):
            if program.answering and program.process.pid in self.reactor.running:
                program.say("answer")
        self.pump()

    def end(self, number: int) -> None:
        """
        Let a program exit, and wait until its worker wants another session.
        """
        self.reactor.programs[number].process.end(1)
        self.pump()
        self.pump(6)

    def states(self) -> list[str]:
        return [worker.state for worker in self.worker_pool.snapshots()]

    def pids(self) -> list[int | None]:
        return [worker.pid for worker in self.worker_pool.snapshots()]

    def version(self) -> VersionSnapshot:
        version = self.worker_pool.version()
        assert version is not None, "there is a canary"
        return version

    def update(self, text: str) -> None:
        """
        Install a version, and let the pool notice it.
        """
        self.install(text)
        self.worker_pool.shrink()
        self.pump()


class FirstVersionTests(CanaryTestCase):
    """
    Tests for the version that is installed when the server starts.
    """

    def test_passes(self) -> None:
        """
        No worker starts before one session has passed, which takes one turn.
        """
        self.start()
        self.assertEqual(self.states(), ["idle", "idle"])
        self.assertEqual(len(self.reactor.programs), 3)
        typed = [line.strip() for line in self.reactor.programs[0].typed]
        self.assertEqual(typed, [_CANARY, "/clear", "y", "/quit"])
        self.assertEqual(len(self.canaries), 1)
        self.assertEqual((self.version().state, self.version().turns), ("accepted", 1))
        self.assertEqual(self.chosen, [self.first])

    def test_waits(self) -> None:
        """
        Requests wait while the canary is under way; they are answered when it has passed.
        """
        self.install("1 silent")
        self.start()
        results = self.ask()
        self.assertEqual(self.states(), ["held", "held"])
        state = self.dispatcher.state()
        self.assertEqual(state.name, "starting")
        self.assertIn("a canary is under way", state.detail or "")
        self.canaries[0].say("tweet")
        self.pump()
        self.answer()
        self.assertEqual(results[0].reply.text.strip(), "answer")

    def test_refused(self) -> None:
        """
        Without a session of an earlier version, requests are refused with the reason, those that
        wait as well.
        """
        self.install("1 silent")
        self.start()
        results = self.ask()
        self.canaries[0].say("moo")
        self.pump(6)
        [error] = results
        self.assertIsInstance(error, NoSessionStarts)
        self.assertIn("kiro (1) is not accepted (--canary): it cannot sing", str(error))
        self.assertLess(200, error.retry_after)
        self.assertEqual(self.dispatcher.state().name, "failed")
        self.assertEqual(self.states(), ["held", "held"])

    def test_retries(self) -> None:
        """
        It is tried again, after delays that double, at most every six hours.
        """
        self.install("1 bad")
        self.start()
        delays = []
        for number in range(1, 10):
            self.assertEqual(len(self.canaries), number)
            delays.append(self.version().retry_after or 0)
            self.pump(delays[-1] - 1)
            self.assertEqual(len(self.canaries), number)
            self.pump(1)
        self.assertEqual(delays[:3], [300, 600, 1200])
        self.assertEqual(delays[-1], 6 * 3600)

    def test_changes(self) -> None:
        """
        A changed file is tried at once, and the delay begins anew.
        """
        self.install("1 bad")
        self.start()
        self.pump(300)
        self.assertEqual(self.version().retry_after, 600)
        self.update("01 bad")
        self.assertEqual((len(self.canaries), self.version().retry_after), (3, 300))
        self.update("1 good")
        self.assertEqual(self.states(), ["idle", "idle"])

    def test_known(self) -> None:
        """
        A version that is known to be good needs no canary.
        """
        self.reason = lambda agent: "its report proves it exact"
        self.start()
        self.assertEqual((self.states(), self.canaries), (["idle", "idle"], []))
        self.assertEqual(self.version().detail, "its report proves it exact")

    def test_remembered(self) -> None:
        """
        Nor does one that has passed; another file with the same number does.
        """
        self.start()
        self.dispatcher.stopService()
        self.pump(10)
        self.start()
        self.assertEqual((self.states(), len(self.canaries)), (["idle", "idle"], 1))
        self.update("1 good, too")
        self.assertEqual(len(self.canaries), 2)

    def test_failures(self) -> None:
        """
        A version is refused if its session never gets ready, dies, does not answer in time, or
        does not clear its conversation.
        """
        for text, reason in [
            ("1 mute", "its session ended: no prompt within 60 s"),
            ("1 dies", "The agent's session ended"),
            ("1 silent", "no answer within 120 s"),
            ("1 stuck", "its session ended: unexpected event while clearing"),
        ]:
            self.setUp()
            self.install(text)
            self.start()
            for _ in range(30):
                self.pump(6)
            self.assertEqual(self.version().state, "refused", text)
            self.assertIn(reason, self.version().detail)
            self.assertEqual(self.reactor.running, set(), text)

    def test_cannot_be_chosen(self) -> None:
        """
        A version that no dialect can drive is refused without a session.
        """
        self.start()
        self.update("2 refuses")
        self.assertEqual(self.version().state, "refused")
        self.assertIn("no dialect can drive it", self.version().detail)
        # The version that serves is another one.
        self.assertEqual(self.version().version, "")
        self.assertIn("kiro (version unknown) is not accepted", self.canary.problem or "")
        self.assertEqual((self.states(), len(self.canaries)), (["idle", "idle"], 1))

    def test_cannot_be_spawned(self) -> None:
        """
        A version whose process cannot be started is refused.
        """
        self.reactor.refuse = OSError("no processes left")
        self.start()
        self.assertIn("could not start: no processes left", self.version().detail)
        # It has cost no turn.
        self.assertEqual((self.version().turns, self.version().retry_after), (0, 30))

    def test_gone(self) -> None:
        """
        While the program is gone it is not tried; when it is back, it is at once.
        """
        self.start()
        self.file.unlink()
        self.worker_pool.shrink()
        self.pump()
        self.assertIn("kiro is not on PATH", self.version().detail)
        self.assertEqual(self.states(), ["idle", "idle"])
        self.update("2 good")
        self.assertEqual(self.version().state, "accepted")

    def test_vanishes(self) -> None:
        """
        A program that vanishes while it is tried is not tried any further.
        """
        self.reason = lambda agent: self.file.unlink()
        self.start()
        self.assertEqual((self.version().state, self.canaries), ("refused", []))

    def test_internal_error(self) -> None:
        """
        An unexpected error is logged, keeps the version from serving, and passes.
        """
        self.reason = lambda agent: fail(ZeroDivisionError())
        self.start()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(self.version().state, "inconclusive")
        self.reason = lambda agent: None
        self.pump(30)
        self.assertEqual(self.states(), ["idle", "idle"])

    def test_stop(self) -> None:
        """
        A server that stops waits for the session of the trial, and begins no other.
        """
        self.install("1 silent")
        self.start()
        [program] = self.reactor.programs
        program.obeys_sigterm = False
        stopped = self.dispatcher.stopService()
        self.pump()
        self.assertNoResult(stopped)
        for _ in range(3):
            self.pump(6)
        self.successResultOf(stopped)
        self.update("2 good")
        self.assertEqual(len(self.reactor.programs), 1)
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def test_drained(self) -> None:
        """
        A worker that an operator puts back to work waits for the version as well.
        """
        self.install("1 silent")
        self.start(workers=1)
        [worker] = self.worker_pool.workers
        self.dispatcher.drain_worker(worker)
        self.dispatcher.restart_worker(worker, why("operator"))
        self.assertEqual(self.states(), ["held"])
        self.canaries[0].say("tweet")
        self.pump()
        self.assertEqual(self.states(), ["idle"])


class NewVersionTests(CanaryTestCase):
    """
    Tests for a version that appears while sessions of an earlier one serve.
    """

    def setUp(self) -> None:
        super().setUp()
        self.start()
        self.old = self.pids()

    def test_refused(self) -> None:
        """
        The sessions of the earlier version stay, whatever would replace them otherwise.
        """
        self.update("2 bad")
        self.assertEqual((self.version().state, self.version().version), ("refused", "2"))
        self.dispatcher.restart_workers(why("SIGHUP"))
        for worker in self.worker_pool.workers:
            self.worker_pool.worker_due(worker, why("3601 s old"))
        self.pump(10)
        self.assertEqual((self.pids(), self.states()), (self.old, ["idle", "idle"]))
        results = self.ask()
        self.answer()
        self.assertEqual(results[0].reply.text.strip(), "answer")
        self.assertEqual(self.dispatcher.state().name, "serving")
        self.assertEqual(self.chosen, [self.first])

    def test_replaced_later(self) -> None:
        """
        Restarts that were due happen when a good version is installed.
        """
        self.update("2 bad")
        self.dispatcher.restart_workers(why("SIGHUP"))
        self.update("3 good")
        for _ in range(4):
            self.pump(6)
        self.assertEqual(self.states(), ["idle", "idle"])
        self.assertEqual({*self.pids()} & {*self.old}, set())
        self.assertEqual([agent.version for agent in self.chosen], ["1", "3"])

    def test_dies(self) -> None:
        """
        The worker of a session that ends waits; the others serve.
        """
        self.update("2 bad")
        self.end(1)
        self.assertEqual((self.states(), self.pids()), (["held", "idle"], [None, self.old[1]]))
        self.assertEqual(self.dispatcher.state().name, "serving")
        self.end(2)
        self.assertIsInstance(self.ask()[0], NoSessionStarts)
        self.update("3 good")
        self.assertEqual(self.states(), ["idle", "idle"])

    def test_noticed_by_start(self) -> None:
        """
        A version that appears just before a session starts is noticed by the start.
        """
        self.install("2 bad")
        self.end(1)
        self.assertEqual(self.states(), ["held", "idle"])
        self.assertEqual(self.version().state, "refused")

    def test_earlier_again(self) -> None:
        """
        The earlier version needs no other canary when its file is installed again.
        """
        earlier = self.file.with_suffix(".earlier")
        earlier.hardlink_to(self.file)
        self.update("2 bad")
        self.end(1)
        earlier.replace(self.file)
        self.worker_pool.shrink()
        self.pump()
        self.assertEqual((self.version().state, self.version().version), ("accepted", "1"))
        self.assertEqual((self.states(), self.version().turns), (["idle", "idle"], 2))

    def test_replaced_during_trial(self) -> None:
        """
        A canary says nothing about a file that replaced its own meanwhile.
        """
        self.update("2 silent")
        self.install("3 bad")
        self.canaries[-1].say("tweet")
        self.pump()
        self.assertEqual((self.version().state, self.version().version), ("refused", "3"))
        self.assertEqual(self.version().turns, 3)

    def test_operator_during_trial(self) -> None:
        """
        Restarts and scaling that an operator asks for during a trial begin when the version is
        accepted.
        """
        self.update("2 silent")
        self.dispatcher.restart_workers(why("SIGHUP"))
        self.dispatcher.set_workers(3)
        first = self.worker_pool.workers[0]
        self.dispatcher.drain_worker(first)
        self.pump(6)
        self.dispatcher.restart_worker(first, why("operator"))
        self.assertEqual(self.states(), ["held", "idle"])
        self.assertEqual(self.pids(), [None, self.old[1]])
        self.canaries[-1].say("tweet")
        for _ in range(4):
            self.pump(6)
        self.assertEqual(self.states(), ["idle"] * 3)
        self.assertEqual({*self.pids()} & {*self.old}, set())
        self.assertEqual(self.version().turns, 2)

    def test_stop_during_trial(self) -> None:
        """
        A server that stops finishes its requests, then ends the sessions of both versions.
        """
        self.update("2 silent")
        results = self.ask()
        drained = self.dispatcher.drain(60)
        self.assertNoResult(drained)
        self.answer()
        self.successResultOf(drained)
        self.assertEqual(results[0].reply.text.strip(), "answer")
        stopped = self.dispatcher.stopService()
        self.dispatcher.stop_now()
        for _ in range(4):
            self.pump(6)
        self.successResultOf(stopped)
        self.assertEqual((self.reactor.running, self.reactor.getDelayedCalls()), (set(), []))

    def test_changes_in_each_trial(self) -> None:
        """
        A program whose file changes whenever it runs costs a few turns, not one after the other.
        """
        self.changes_itself = True
        self.update("2 good")
        self.assertEqual((self.version().state, self.version().turns), ("inconclusive", 3))
        self.assertIn("its file changed during its canary again", self.version().detail)
        self.assertEqual(self.version().retry_after, 300)
        for _ in range(3):
            self.worker_pool.shrink()
            self.pump()
        self.assertEqual((self.version().turns, self.pids()), (3, self.old))
        self.pump(300)
        self.assertEqual((self.version().turns, self.version().retry_after), (4, 600))
        self.changes_itself = False
        self.pump(600)
        self.assertEqual((self.version().state, self.version().turns), ("accepted", 5))

    def test_changes_before_each_trial(self) -> None:
        """
        Nor does one whose file changes before it is asked keep the machine busy.
        """
        numbers: list[int] = []

        def change(agent: Agent) -> None:
            numbers.append(len(numbers))
            self.install(f"2 bad {numbers}")

        self.reason = change
        self.update("2 bad")
        self.assertEqual((self.version().state, len(numbers)), ("inconclusive", 2))
        self.assertEqual((self.version().turns, self.version().retry_after), (1, 30))

    def test_moved(self) -> None:
        """
        A bad version in another folder is tried once.
        """
        elsewhere = self.file.with_suffix(".elsewhere")
        choose = self.source._choose
        self.source._choose = lambda: evolve(choose(), version="2", executable=str(elsewhere))
        elsewhere.write_text("2 bad")
        self.update("2 bad")
        for _ in range(3):
            self.worker_pool.shrink()
            self.pump()
        self.assertEqual((self.version().state, self.version().turns), ("refused", 2))

    def test_throttled(self) -> None:
        """
        A failure of the account says nothing; the sessions of the earlier version serve on.
        """
        self.update("2 throttled")
        self.pump(1)
        self.assertEqual(self.version().state, "inconclusive")
        self.assertIn("throttled: Too many requests", self.version().detail)
        self.assertEqual(self.dispatcher.state().name, "serving")
        self.assertEqual(self.pids(), self.old)

    def test_scaling(self) -> None:
        """
        The pool neither adds nor retires workers, except when an operator says so.
        """
        self.dispatcher.stopService()
        self.pump(10)
        self.install("1 good")
        self.start(workers=1, max_workers=4, max_spare=0, min_spare=1)
        for _ in range(2):
            self.ask()
        self.answer()
        size = len(self.worker_pool.workers)
        self.assertGreater(size, 1)
        self.update("2 bad")
        for _ in range(3):
            self.worker_pool.shrink()
        self.assertEqual(len(self.worker_pool.workers), size)
        for _ in range(size + 2):
            self.ask()
        self.assertEqual(len(self.worker_pool.workers), size)
        self.answer()
        self.dispatcher.set_workers(1)
        self.install("3 good")
        for _ in range(4):
            self.worker_pool.shrink()
            self.pump()
        self.assertLess(len(self.worker_pool.workers), size)


class OutageTests(CanaryTestCase):
    """
    Tests for canaries while the agent's account or the machine fails.
    """

    def test_throttled(self) -> None:
        """
        Without sessions it opens the circuit; each probe is another canary.
        """
        self.install("1 throttled")
        self.start()
        [error] = self.ask()
        self.assertIsInstance(error, AgentUnavailable)
        self.assertEqual(self.dispatcher.state().name, "throttled")
        self.pump(31)
        self.assertEqual(len(self.canaries), 2)
        self.pump(1)
        self.assertEqual(self.dispatcher.state().name, "throttled")
        self.install("1 good")
        self.pump(200)
        results = self.ask()
        self.answer()
        self.assertEqual(results[0].reply.text.strip(), "answer")
        self.pump()
        self.assertEqual((self.dispatcher.state().name, self.states()), ("serving", ["idle"] * 2))

    def test_refused_by_probe(self) -> None:
        """
        If the canary that probes the account is refused, requests are told about the version.
        """
        self.install("1 throttled")
        self.start()
        self.install("1 bad")
        self.pump(31)
        self.assertEqual((self.version().state, len(self.canaries)), ("refused", 2))
        [error] = self.ask()
        self.assertIsInstance(error, NoSessionStarts)
        self.assertIn("it cannot sing", str(error))
        self.assertEqual(self.dispatcher.state().name, "failed")
        self.update("1 good")
        results = self.ask()
        self.answer()
        self.assertEqual(results[0].reply.text.strip(), "answer")
        self.pump()
        self.assertEqual((self.dispatcher.state().name, self.states()), ("serving", ["idle"] * 2))

    def test_probe_with_sessions(self) -> None:
        """
        While the circuit is open because of a session's turn, a trial neither closes nor blocks it.
        """
        self.start()
        results = self.ask()
        [program] = [each for each in self.reactor.programs[1:] if each.answering]
        program.print(f"{classic.SPINNER_GONE}{_THROTTLED}\n\n")
        program.show_prompt()
        self.pump(1)
        self.assertEqual([type(error) for error in results], [AgentUnavailable])
        self.update("2 bad")
        self.assertEqual(self.version().state, "refused")
        self.assertEqual(self.dispatcher.state().name, "throttled")
        self.pump(31)
        results = self.ask()
        self.answer()
        self.assertEqual(results[0].reply.text.strip(), "answer")
        self.assertEqual(self.dispatcher.state().name, "serving")

    def test_waiting(self) -> None:
        """
        Requests that wait for the canary are told about the account, not about the version.
        """
        self.install("1 silent")
        self.start()
        results = self.ask()
        self.canaries[0].print(f"{classic.SPINNER_GONE}{_THROTTLED}\n\n")
        self.canaries[0].show_prompt()
        self.pump(1)
        self.assertEqual([type(error) for error in results], [AgentUnavailable])

    def test_memory(self) -> None:
        """
        Without memory for one more session there is no trial; the others serve on.
        """
        memory = [True]
        self.start(has_free_memory=lambda size: memory[0])
        memory[0] = False
        self.update("2 good")
        self.assertEqual(self.version().state, "inconclusive")
        self.assertIn("too little memory", self.version().detail)
        self.assertEqual((self.states(), len(self.canaries)), (["idle", "idle"], 1))
        memory[0] = True
        self.pump(30)
        self.assertEqual(self.version().state, "accepted")


class SingleUseTests(CanaryTestCase):
    """
    Tests for sessions that end after each request.
    """

    def test_cannot_be_kept(self) -> None:
        """
        No successor starts, so the workers are held one by one.
        """
        self.session = {"reset": Reset.RECYCLE}
        self.start()
        self.assertEqual(self.states(), ["idle", "idle"])
        self.update("2 bad")
        self.assertEqual(self.version().state, "refused")
        for states in (["held", "idle"], ["held", "held"]):
            results = self.ask()
            self.answer()
            self.pump(6)
            self.assertEqual(results[0].reply.text.strip(), "answer")
            self.assertEqual(self.states(), states)
        self.assertIsInstance(self.ask()[0], NoSessionStarts)
        self.update("3 good")
        self.pump(6)
        self.assertEqual(self.states(), ["idle", "idle"])


@define(eq=False)
class LateConversation(ScriptedConversation):
    """
    A conversation whose agent may send output after the end of a turn.
    """

    sends_late = True


class LateOutputTests(SynchronousTestCase):
    """
    Tests for `CanaryTurn` with an agent whose output may arrive after the end of the turn.
    """

    def setUp(self) -> None:
        self.reactor = MemoryReactor(Keyboard)
        self.conversation = LateConversation()
        new_session = new_session_in(self.reactor, make_conversation=lambda: self.conversation)
        question: Any = FakeQuestion()
        self.turn = CanaryTurn("canary", self.reactor, new_session, question, "compact", 120)
        self.turn.start()
        self.report(Ready())

    def report(self, *events: Any) -> None:
        self.conversation.at_prompt = True
        self.conversation.due += events
        self.reactor.programs[0].print("x")
        self.reactor.pump([0, 0])

    def outcome(self) -> Any:
        self.reactor.pump([5, 5, 5])
        return self.successResultOf(self.turn.finished)

    def test_late(self) -> None:
        """
        The rest of an answer is waited for, without another turn.
        """
        self.report(Answered("twe", "prompt"))
        self.report(LateOutput("et"))
        self.report(Cleared())
        self.assertEqual((self.outcome(), self.turn.cost), (Passed(), 1))

    def test_no_more(self) -> None:
        """
        If nothing follows, the answer is judged as it is.
        """
        self.report(Answered("twe", "prompt"))
        self.assertEqual(self.outcome(), Refused("it cannot sing"))
