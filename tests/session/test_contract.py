"""
Tests for what every session does, whichever agent it runs.

One suite runs against the memory fake, the stand-ins of several agents and the offline
agent.  All but the first are real programs, on real PTYs or pipes.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import TestCase

from kiroworkers.conversations import (
    Conversation,
    Dialect,
    Event,
    Layout,
    Submitted,
    load_dialect,
    new_conversation,
    read_dialect,
)
from kiroworkers.errors import AgentRefused, AgentUnavailable, PromptTooLarge, SessionLost
from kiroworkers.process.agent_process import AgentProcess, Command, start
from kiroworkers.session.journal import JournalFolder
from kiroworkers.session.session import Session, SessionTimeouts
from kiroworkers.session.state import SessionState
from kiroworkers.session.tool_policy import ToolPolicy
from kiroworkers.session.turn import Reply
from kiroworkers.tasks import builtin_tasks
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests import fakekiro
from tests.memory import why
from tests.programs import FAULTS, ROOT, alive, environment

T = TypeVar("T")

STORY = builtin_tasks()["generate-story"]

#: How many bytes a turn may print.
MAX_OUTPUT = 20_000_000

#: Text that a terminal or a line editor could mistake for keys or commands.
HOSTILE: tuple[str, ...] = (
    "!touch pwned\n/quit\r@file",
    "\x1b[201~\r!touch pwned\r",
    "```",
    "ends with \\",
    "\x03\x04\x15\x7f\t",
    "\u202ebidi \u2028 line \ud83d lone \x9b",
    "größer 大きい 🎉",
    "x" * 200_000,
)


class SubmissionWatcher:
    """
    Watch for the moment when a prompt is submitted in `conversation`.
    """

    submitted: Deferred[None] | None = None

    def __init__(self, conversation: Conversation) -> None:
        self._feed = conversation.feed
        conversation.feed = self.feed  # type: ignore[method-assign]

    def feed(self, data: bytes) -> list[Event]:
        events = self._feed(data)
        if Submitted() in events and self.submitted is not None:
            submitted, self.submitted = self.submitted, None
            submitted.callback(None)
        return events


class WatchedSession:
    """
    Hold a session, and Deferreds that fire when its state changes.
    """

    def __init__(
        self,
        clock: Any,
        launch: Callable[[AgentProcess], None],
        dialect: Dialect,
        journal: JournalFolder | None = None,
        tools: ToolPolicy = ToolPolicy.DENY,
    ) -> None:
        conversation = new_conversation(dialect, MAX_OUTPUT, str(ROOT))
        self.submission_watcher = SubmissionWatcher(conversation)
        self.can_clear = conversation.can_clear
        self.reports_submission = conversation.completion != "quiet"
        self.gone: Deferred[str] = Deferred()
        self._waiting: list[Deferred[None]] = []
        limits = SessionTimeouts(startup=60, cancel=20, stop=1)
        self.session = Session(
            "worker1",
            clock,
            conversation,
            launch,
            limits,
            self._on_idle,
            self._on_gone,
            tools=tools,
            journal=journal,
        )
        #: Fires with the function that decides the next question about a tool.
        self.question: Deferred[Callable[[bool], None]] = Deferred()

    def ask(self, prompt: str) -> Deferred[Reply]:
        """
        Ask the session, and end the turn after its reply.
        """

        def end_turn(result: T) -> T:
            self.session.end_turn()
            return result

        return self.session.ask(prompt, ask_operator=self._ask_operator).addBoth(end_turn)

    def _ask_operator(
        self, question: str, on_decision: Callable[[bool], None]
    ) -> Callable[[], None]:
        self.question.callback(on_decision)
        return lambda: None

    def idle(self) -> Deferred[None]:
        """
        Return a Deferred that fires when the session is idle.
        """
        if self.session.state is SessionState.IDLE:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def submitted(self) -> Deferred[None]:
        """
        Return a Deferred that fires when the next prompt is submitted.

        It fires at once if the conversation does not report that.
        """
        if not self.reports_submission:
            return succeed(None)
        self.submission_watcher.submitted = Deferred()
        return self.submission_watcher.submitted

    def _on_gone(self, reason: str) -> None:
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.errback(RuntimeError(f"the session is gone: {reason}"))
        self.gone.callback(reason)

    def _on_idle(self) -> None:
        waiting, self._waiting = self._waiting, []
        for deferred in waiting:
            deferred.callback(None)


class SessionStarter:
    """
    Start and stop sessions.  A subclass defines how a session starts and how time passes.
    """

    #: Who decides about tools.
    tools = ToolPolicy.DENY

    def launch(self, slow: bool) -> WatchedSession:
        """
        Return a session that is not started; a slow one may take a second for a turn.
        """
        raise NotImplementedError

    async def wait(self, deferred: Deferred[T]) -> T:
        """
        Wait for `deferred`, and return what it fires with.
        """
        return await deferred

    async def started(self, slow: bool = False) -> WatchedSession:
        watched = self.launch(slow)
        watched.session.start()
        await self.wait(watched.idle())
        return watched

    async def stop(self, watched: WatchedSession) -> None:
        watched.session.stop(why("the test is over"))
        await self.wait(watched.gone)


class Contract(SessionStarter):
    """
    Tests that every agent passes.
    """

    #: A prompt whose turn does not end soon in a slow session.
    endless: str
    #: A prompt for which the agent asks to use a tool.
    with_tool: str

    #: Ideas that a terminal could mistake for keys or commands.
    hostile = HOSTILE
    layout: Layout = "compact"

    assertEqual: Callable[..., None]
    assertIn: Callable[..., None]
    assertIs: Callable[..., None]
    assertFalse: Callable[..., None]
    assertTrue: Callable[..., None]
    assertRaises: Callable[..., Any]

    def expected_title(self, idea: str) -> str | None:
        """
        Return the title that the answer to `idea` has, or None if rules decide it.
        """
        return idea

    async def ask_story(self, watched: WatchedSession, idea: str) -> Mapping[str, Any]:
        request = STORY.accept({"idea": idea})
        reply = await self.wait(watched.ask(STORY.prompt(request, self.layout)))
        answer = STORY.answer_search(request, reply.text, reply.wrapped).find().value
        expected = self.expected_title(idea)
        if expected is not None:
            self.assertEqual(answer["title"], expected)
        return answer

    async def next_idle(self, watched: WatchedSession, slow: bool = False) -> WatchedSession:
        """
        Return an idle session after a turn of `watched`: itself, or a new one if it cannot
        be cleared.
        """
        if watched.can_clear:
            await self.wait(watched.idle())
            return watched
        await self.wait(watched.gone)
        self.assertTrue(watched.session.exhausted)
        return await self.started(slow)

    async def test_turns(self) -> None:
        """
        A session answers one prompt after the other, each with its own answer, and is
        idle again after each.
        """
        watched = await self.started()
        for idea in ("Export the list to CSV", "Let users log in with a code", "Sort by date"):
            await self.ask_story(watched, idea)
            watched = await self.next_idle(watched)
        await self.stop(watched)

    async def test_hostile_text(self) -> None:
        """
        Client text is only ever text: it is answered as one paste, presses no key and
        runs no command.
        """
        watched = await self.started()
        for idea in self.hostile:
            await self.ask_story(watched, "An idea: " + idea)
            watched = await self.next_idle(watched)
        self.assertFalse(Path("pwned").exists())
        await self.stop(watched)

    async def test_cancel(self) -> None:
        """
        A turn that is cancelled is interrupted, and the next prompt gets its own answer
        from the same process.
        """
        watched = await self.started(slow=True)
        pid = watched.session.pid
        submitted = watched.submitted()
        reply = watched.ask(self.endless)
        await self.wait(submitted)
        reply.cancel()
        with self.assertRaises(CancelledError):
            await reply
        successor = await self.next_idle(watched, slow=True)
        await self.ask_story(successor, "The one after")
        if watched.can_clear:
            self.assertEqual(successor.session.pid, pid)
            await self.wait(successor.idle())
            await self.stop(successor)
        else:
            await self.wait(successor.gone)

    async def test_cancel_at_once(self) -> None:
        """
        A turn that is cancelled before the agent reads its prompt ends the same way.
        """
        watched = await self.started(slow=True)
        pid = watched.session.pid
        reply = watched.ask(self.endless)
        reply.cancel()
        with self.assertRaises(CancelledError):
            await reply
        successor = await self.next_idle(watched, slow=True)
        await self.ask_story(successor, "The one after")
        if watched.can_clear:
            self.assertEqual(successor.session.pid, pid)
            await self.wait(successor.idle())
            await self.stop(successor)
        else:
            await self.wait(successor.gone)

    async def test_killed(self) -> None:
        """
        A session that is killed in a turn fails it and is gone.
        """
        watched = await self.started(slow=True)
        pid = watched.session.pid
        assert pid is not None
        submitted = watched.submitted()
        reply = watched.ask(self.endless)
        await self.wait(submitted)
        self.kill(pid)
        with self.assertRaises(SessionLost):
            await self.wait(reply)
        self.assertTrue((await self.wait(watched.gone)).startswith("killed by SIGKILL"))
        self.assertIs(watched.session.pid, None)

    async def test_stop_in_a_turn(self) -> None:
        """
        A session that is stopped in a turn fails it, and leaves no process.
        """
        watched = await self.started(slow=True)
        pid = watched.session.pid
        assert pid is not None
        submitted = watched.submitted()
        reply = watched.ask(self.endless)
        await self.wait(submitted)
        watched.session.stop(why("the test is over"))
        with self.assertRaises(SessionLost):
            await self.wait(reply)
        await self.wait(watched.gone)
        self.assertFalse(self.is_alive(pid))

    def kill(self, pid: int) -> None:
        os.killpg(pid, signal.SIGKILL)

    def is_alive(self, pid: int) -> bool:
        return alive(pid)


class ToolContract(Contract):
    """
    Tests that agents pass that ask whether they may use a tool.
    """

    async def test_approval(self) -> None:
        """
        A tool is denied, and the turn goes on to its answer.
        """
        watched = await self.started()
        reply = await self.wait(watched.ask(self.with_tool))
        self.assertEqual(len(reply.denied), 1)
        await self.wait(watched.idle())
        await self.stop(watched)

    async def test_operator_decides(self) -> None:
        """
        A question waits until an operator has decided, and then the turn goes on to its answer.
        """
        self.tools = ToolPolicy.ASK
        for allow in (True, False):
            watched = await self.started()
            reply = watched.ask(self.with_tool)
            decide = await self.wait(watched.question)
            self.assertIs(watched.session.state, SessionState.BUSY)
            decide(allow)
            decided = await self.wait(reply)
            self.assertEqual((len(decided.allowed), len(decided.denied)), (allow, not allow))
            await self.wait(watched.idle())
            await self.stop(watched)

    async def test_cancel_with_an_open_question(self) -> None:
        """
        A turn that is cancelled while its question is undecided is denied and interrupted, and
        the same process answers the next prompt.
        """
        self.tools = ToolPolicy.ASK
        watched = await self.started()
        pid = watched.session.pid
        reply = watched.ask(self.with_tool)
        await self.wait(watched.question)
        reply.cancel()
        with self.assertRaises(CancelledError):
            await reply
        await self.wait(watched.idle())
        await self.ask_story(watched, "The one after")
        await self.wait(watched.idle())
        self.assertEqual(watched.session.pid, pid)
        await self.stop(watched)


class MemoryTests(ToolContract, TestCase):
    """
    Tests for the memory fake.
    """

    endless = "never answer"
    with_tool = "use a tool"

    def setUp(self) -> None:
        self.reactor = MemoryReactor(lambda: MemoryKiro(self.reply))

    def launch(self, slow: bool) -> WatchedSession:
        command = Command("/bin/kiro", (), {}, Path("/"), (50, 1000))
        return WatchedSession(
            self.reactor,
            lambda process: start(self.reactor, process, command),
            load_dialect("kiro-classic"),
            tools=self.tools,
        )

    async def wait(self, deferred: Deferred[T]) -> T:
        self.reactor.pump([0, 0.2, 0])
        return await deferred

    def reply(self, prompt: str) -> str | None:
        if prompt == self.endless:
            return None
        if prompt == self.with_tool:
            self.reactor.programs[-1].ask_approval()
            return None
        return fakekiro.answer_text(prompt)

    def kill(self, pid: int) -> None:
        self.reactor.send_signal(pid, signal.SIGKILL)

    def is_alive(self, pid: int) -> bool:
        return pid in self.reactor.running


def tui_markers(
    more: str = "quiet = 0.1",
    idle: str = "screen = '(?m)^[ ›]*ask a question or describe a task'",
    busy: str = "screen = '(?m)^[ ›]*Kiro is working ·'",
) -> str:
    """
    Return the status markers of the full-screen interface, with changes, as TOML.
    """
    return (
        f"[signs]\noutput = 'esc to cancel'\n{more}\n[signs.idle]\n{idle}\n[signs.busy]\n{busy}\n"
    )


class RealSessionStarter(SessionStarter):
    """
    Start real programs.
    """

    dialect = "kiro-classic"
    #: TOML that replaces tables of the dialect.
    changes = ""
    arguments: tuple[str, ...]
    #: The stand-in's faults.
    faults = ""
    #: Seconds that a slow session of the offline agent takes for a turn.
    delay = "0"
    addCleanup: Callable[..., None]
    mktemp: Callable[[], str]

    def launch(self, slow: bool) -> WatchedSession:
        from twisted.internet import reactor

        real: Any = reactor
        dialect = self.read_dialect()
        program, folder = dialect.start.program, dialect.answer.journal
        variables = self.environment(slow)
        command = Command(
            program if program and "/" in program else sys.executable,
            self.arguments,
            dialect.environment(variables, [FAULTS]),
            ROOT,
            dialect.window,
        )
        launch = partial(start, real, command=command)
        journal = (
            JournalFolder(
                Path(variables["HOME"]) / folder, MAX_OUTPUT, partial(token_hex, 8), deferToThread
            )
            if folder
            else None
        )
        return WatchedSession(real, launch, dialect, journal, self.tools)

    def read_dialect(self) -> Dialect:
        path = Path(self.mktemp() + ".toml")
        path.write_text(f'extends = "{self.dialect}"\n{self.changes}')
        return read_dialect(path)

    def environment(self, slow: bool) -> dict[str, str]:
        delay = self.delay if slow else "0"
        home = Path(self.mktemp()).absolute()
        home.mkdir(parents=True)
        return environment(FAKEKIRO=self.faults, KIROWORKERS_OFFLINE_DELAY=delay, HOME=str(home))


class RealProgramContract(RealSessionStarter, ToolContract):
    """
    Tests that real programs pass.
    """


class StandInContract(RealProgramContract):
    """
    Tests that the stand-ins pass, failures included.
    """

    async def test_failure(self) -> None:
        """
        A failure fails the turn with its kind, and the session serves on.
        """
        watched = await self.started()
        prompt = "Task: generate-story\nRequest: {}\nfail [[trouble=throttled]]"
        with self.assertRaises(AgentUnavailable) as raised:
            await self.wait(watched.ask(prompt))
        self.assertEqual(raised.exception.kind, "throttled")
        self.assertEqual(raised.exception.retry_after, 30)
        await self.wait(watched.idle())
        await self.ask_story(watched, "The one after")
        await self.wait(watched.idle())
        await self.stop(watched)

    async def test_quoted_failures(self) -> None:
        """
        An answer that quotes every failure is an answer.
        """
        watched = await self.started()
        await self.ask_story(watched, "Talk [[quotes]]")
        await self.wait(watched.idle())
        await self.stop(watched)


class ToolUseContract(StandInContract):
    """
    Tests that stand-ins pass that tell which tools they use, or ask for tools in equal words.
    """

    #: Prompts for which the agent uses a tool without asking: one that reads, one that writes.
    unasked_read: str
    unasked_write: str
    #: A prompt for which it asks twice in the same words, and one for which it works for long
    #: after its question.
    asks_twice: str
    works_on: str

    async def test_unasked_read(self) -> None:
        """
        A tool that reads without asking is counted, and the session serves on.
        """
        watched = await self.started()
        reply = await self.wait(watched.ask(self.unasked_read))
        self.assertEqual((len(reply.unasked), reply.denied), (1, ()))
        await self.wait(watched.idle())
        await self.stop(watched)

    async def test_unasked_write(self) -> None:
        """
        A turn in which the agent writes without asking fails, and its session is not used
        again.
        """
        watched = await self.started()
        with self.assertRaises(AgentRefused) as raised:
            await self.wait(watched.ask(self.unasked_write))
        self.assertEqual(raised.exception.kind, "tool_not_permitted")
        self.assertIn("without asking", await self.wait(watched.gone))
        self.assertTrue(watched.session.aborted)

    async def test_unasked_write_is_allowed(self) -> None:
        """
        If tools are allowed, it is only counted.
        """
        self.tools = ToolPolicy.ALLOW
        watched = await self.started()
        reply = await self.wait(watched.ask(self.unasked_write))
        self.assertEqual(len(reply.unasked), 1)
        await self.wait(watched.idle())
        await self.stop(watched)

    async def test_equal_questions(self) -> None:
        """
        Two questions in the same words are denied and counted as two.
        """
        watched = await self.started()
        reply = await self.wait(watched.ask(self.asks_twice))
        self.assertEqual(len(reply.denied), 2)
        self.assertEqual(len(set(reply.denied)), 1)
        self.assertEqual(reply.unasked, ())
        await self.wait(watched.idle())
        await self.stop(watched)

    async def test_works_on_after_a_denial(self) -> None:
        """
        A turn that is cancelled while its question is undecided is interrupted as well, so that
        the session is idle soon.
        """
        self.tools = ToolPolicy.ASK
        watched = await self.started()
        reply = watched.ask(self.works_on)
        await self.wait(watched.question)
        reply.cancel()
        with self.assertRaises(CancelledError):
            await reply
        await self.wait(watched.idle())
        await self.ask_story(watched, "The one after")
        await self.wait(watched.idle())
        await self.stop(watched)


class FakeKiroTests(ToolUseContract, TestCase):
    """
    Tests for the stand-in of Kiro.
    """

    unasked_read = "use a tool [[unasked=fs_read]]"
    unasked_write = "use a tool [[unasked=fs_write]]"
    asks_twice = "use a tool [[approve=2]]"
    works_on = "use a tool [[approve work=3600]]"

    arguments = ("-m", "tests.fakekiro", "chat")
    endless = "never answer [[silent]]"
    with_tool = "use a tool [[approve]]"


class SplitFakeKiroTests(StandInContract, TestCase):
    """
    Tests for the stand-in with every part of its prompt and a garbled question.
    """

    arguments = ("-m", "tests.fakekiro", "chat")
    faults = "agent=developer used=16 clear=garbled"
    endless = "never answer [[silent]]"
    with_tool = "use a tool [[approve split]]"


class LateFakeKiroTests(StandInContract, TestCase):
    """
    Tests for the stand-in when it ignores SIGTERM and answers cancelled prompts late.
    """

    arguments = ("-m", "tests.fakekiro", "chat")
    faults = "stubborn"
    endless = "Task: generate-story\nRequest: {}\nanswer late [[late]]"
    with_tool = "use a tool [[approve footer=none]]"


class MenuFakeKiroTests(StandInContract, TestCase):
    """
    Tests for the stand-in behind the start menu of 2.28, whose first choice ends it.
    """

    arguments = ("-m", "tests.fakekiro", "chat")
    faults = "menu"
    endless = "never answer [[silent]]"
    with_tool = "use a tool [[approve]]"


class PlainFakeKiroTests(StandInContract, TestCase):
    """
    Tests for the stand-in without colours and with its markdown shown unrendered.
    """

    arguments = ("-m", "tests.fakekiro", "chat")
    faults = "nocolor verbatim marks used=91"
    endless = "never answer [[silent]]"
    with_tool = "use a tool [[approve footer=time]]"


class WrappingFakeKiroTests(StandInContract, TestCase):
    """
    Tests for the stand-in when it wraps its prose.
    """

    arguments = ("-m", "tests.fakekiro", "chat")
    faults = "wrap=20 marks agent=dev"
    endless = "never answer [[silent]]"
    with_tool = "use a tool [[approve]]"


class QTests(ToolUseContract, TestCase):
    """
    Tests for the stand-in as Amazon Q, Kiro's ancestor, which prints slowly.
    """

    unasked_read = FakeKiroTests.unasked_read
    unasked_write = FakeKiroTests.unasked_write
    asks_twice = FakeKiroTests.asks_twice
    works_on = FakeKiroTests.works_on

    dialect = "q"
    arguments = ("-m", "tests.fakekiro", "chat")
    faults = "era=q agent=old pace=0.001"
    endless = "never answer [[silent]]"
    with_tool = "use a tool [[approve]]"


class TuiTests(StandInContract, TestCase):
    """
    Tests for the stand-in of Kiro's full-screen interface, read from its screen.
    """

    dialect = "kiro-tui"
    layout = "lines"
    arguments = ("-m", "tests.faketui", "chat")
    endless = "never answer [[silent]]"
    with_tool = "use a tool [[approve]]"
    # A line that is longer than the screen is wide cannot be read reliably.
    hostile = (*HOSTILE[:-1], "x" * 500)


class RestoringTuiTests(TuiTests):
    """
    Tests for it when it puts a cancelled prompt back into its composer, and shows that it is
    idle before it shows all of its answer.
    """

    faults = "style=bullet restore early"
    changes = tui_markers()


class OtherTuiTests(TuiTests):
    """
    Tests for it on the alternate screen, where the terminal's edge cuts lines, and with
    another command for its clear.
    """

    faults = "alternate unwrapped clear=new"
    changes = tui_markers("quiet = 0.1\nwraps = false")
    hostile = (*HOSTILE[:-1], "x" * 20_000)


class JournalTuiTests(TuiTests):
    """
    Tests for it with a journal, which holds text of any length.
    """

    faults = "journal"
    hostile = HOSTILE


class TitleTuiTests(TuiTests):
    """
    Tests for it when it shows idle and busy in the window's title, and makes no
    synchronized updates.
    """

    faults = "plain signs=title"
    changes = tui_markers(idle="title = '^◇ +Ready'", busy="title = '^✦ +Working'")


class StateTuiTests(TuiTests):
    """
    Tests for it when it reports its state with OSC 7501.
    """

    faults = "signs=state"
    changes = tui_markers(idle="state = 'state=idle'", busy="state = 'state=working'")


class AcpTests(ToolUseContract, TestCase):
    """
    Tests for an agent that has no terminal and speaks ACP.
    """

    unasked_read = "use a tool [[tool=read]]"
    unasked_write = "use a tool [[tool=edit]]"
    asks_twice = "use a tool [[approve twice]]"
    works_on = "use a tool [[approve work=3600]]"

    dialect = "acp"
    arguments = ("-m", "tests.fakeacp")
    endless = "never answer [[silent]]"
    with_tool = "use a tool [[approve]]"


class LateAcpTests(StandInContract, TestCase):
    """
    Tests for it when it ignores SIGTERM, answers cancelled prompts late, writes logs, and
    can close sessions that were left.
    """

    dialect = "acp"
    arguments = ("-m", "tests.fakeacp")
    faults = "stubborn lingers closes aside"
    endless = "Task: generate-story\nRequest: {}\nanswer late [[late]]"
    with_tool = "use a tool [[approve options=allow_always]]"


class LineTests(RealSessionStarter, Contract, TestCase):
    """
    Tests for a program with a prompt and nothing else: each turn has a process of its own.
    """

    dialect = "generic"
    arguments = ("-m", "tests.fakeline")
    endless = "never answer [[silent]]"
    hostile = HOSTILE[:-1]

    async def test_too_long(self) -> None:
        """
        A prompt that the terminal would cut is refused, and the session stays idle.
        """
        watched = await self.started()
        request = STORY.accept({"idea": "x" * 4096})
        with self.assertRaises(PromptTooLarge):
            watched.ask(STORY.prompt(request))
        await self.ask_story(watched, "A shorter one")
        await self.wait(watched.gone)


class BareLineTests(LineTests):
    """
    Tests for a program that does not echo.
    """

    faults = "bare"


class OfflineTests(RealSessionStarter, Contract, TestCase):
    """
    Tests for the offline agent.
    """

    dialect = "offline"
    arguments = ("-m", "kiroworkers.offline")
    delay = "2"
    endless = "An idea that takes a while"

    def expected_title(self, idea: str) -> str | None:
        return None
