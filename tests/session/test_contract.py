"""
What every session does, whoever draws it and however: one suite for the memory
fake, the stand-ins of Kiro's interfaces and the offline agent, all but the first
as real programs on real PTYs.
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
from kiroworkers.errors import AgentUnavailable, PromptTooLarge, SessionLost
from kiroworkers.process.agent_process import AgentProcess, Command, ProcessGroups, start
from kiroworkers.process.watchdog import Watchdog
from kiroworkers.session.journal import JournalFolder
from kiroworkers.session.session import Session, SessionState, SessionTimeouts
from kiroworkers.tasks import builtin_tasks
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests import fakekiro
from tests.programs import FAULTS, ROOT, alive, environment

T = TypeVar("T")

STORY = builtin_tasks()["generate-story"]

#: Most bytes of a turn.
MAX_OUTPUT = 20_000_000

#: Text that a terminal or a line editor could take for more than text.
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


class Noticing:
    """
    Says when a prompt was submitted in `conversation`.
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


class Watched:
    """
    A session, and Deferreds for what becomes of it.
    """

    def __init__(
        self,
        clock: Any,
        launch: Callable[[AgentProcess], None],
        groups: ProcessGroups,
        dialect: Dialect,
        journal: JournalFolder | None = None,
    ) -> None:
        conversation = new_conversation(dialect, MAX_OUTPUT, str(ROOT))
        self.noticing = Noticing(conversation)
        self.can_clear = conversation.can_clear
        self.says_submitted = conversation.completion != "quiet"
        self.gone: Deferred[str] = Deferred()
        self._waiting: list[Deferred[None]] = []
        limits = SessionTimeouts(startup=60, cancel=20, stop=1)
        self.session = Session(
            "worker1",
            clock,
            conversation,
            launch,
            groups,
            limits,
            self._on_idle,
            self._on_gone,
            journal=journal,
        )

    def idle(self) -> Deferred[None]:
        """
        Fires when the session can be asked.
        """
        if self.session.state is SessionState.IDLE:
            return succeed(None)
        waiting: Deferred[None] = Deferred()
        self._waiting.append(waiting)
        return waiting

    def submitted(self) -> Deferred[None]:
        """
        Fires when the next prompt is submitted; at once, where nothing says so.
        """
        if not self.says_submitted:
            return succeed(None)
        self.noticing.submitted = Deferred()
        return self.noticing.submitted

    def _on_gone(self, reason: str) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.errback(RuntimeError(f"the session is gone: {reason}"))
        self.gone.callback(reason)

    def _on_idle(self) -> None:
        waiting, self._waiting = self._waiting, []
        for each in waiting:
            each.callback(None)


class Starting:
    """
    Starts and stops sessions.  A subclass says how a session starts and how
    time passes.
    """

    def launch(self, slow: bool) -> Watched:
        """
        A session that is not started; in a slow one turns may take a second.
        """
        raise NotImplementedError

    async def wait(self, deferred: Deferred[T]) -> T:
        """
        What `deferred` fires with.
        """
        return await deferred

    async def started(self, slow: bool = False) -> Watched:
        watched = self.launch(slow)
        watched.session.start()
        await self.wait(watched.idle())
        return watched

    async def stop(self, watched: Watched) -> None:
        watched.session.stop("the test is over")
        await self.wait(watched.gone)


class Contract(Starting):
    """
    The suite.
    """

    #: A prompt whose turn does not end soon in a slow session, and one that
    #: needs a tool.
    endless: str
    with_tool: str

    #: Ideas that a terminal could take for more than text.
    hostile = HOSTILE
    layout: Layout = "compact"

    #: Seconds until trial gives a test up.
    timeout = 60

    assertEqual: Callable[..., None]
    assertIn: Callable[..., None]
    assertIs: Callable[..., None]
    assertFalse: Callable[..., None]
    assertTrue: Callable[..., None]
    assertRaises: Callable[..., Any]

    def expected_title(self, idea: str) -> str | None:
        """
        The title that the answer to `idea` has; None where rules decide it.
        """
        return idea

    async def ask_story(self, watched: Watched, idea: str) -> Mapping[str, Any]:
        request = STORY.accept({"idea": idea})
        reply = await self.wait(watched.session.ask(STORY.prompt(request, self.layout)))
        answer = STORY.answer(request, reply.text, reply.wrapped).value
        expected = self.expected_title(idea)
        if expected is not None:
            self.assertEqual(answer["title"], expected)
        return answer

    async def rested(self, watched: Watched, slow: bool = False) -> Watched:
        """
        A session that can be asked after a turn of `watched`: itself, or where
        it cannot forget, its successor.
        """
        if watched.can_clear:
            await self.wait(watched.idle())
            return watched
        await self.wait(watched.gone)
        self.assertTrue(watched.session.exhausted)
        return await self.started(slow)

    async def test_turns(self) -> None:
        """
        A session answers one prompt after the other, each with its own answer,
        and is idle again after each.
        """
        watched = await self.started()
        for idea in ("Export the list to CSV", "Let users log in with a code", "Sort by date"):
            await self.ask_story(watched, idea)
            watched = await self.rested(watched)
        await self.stop(watched)

    async def test_hostile_text(self) -> None:
        """
        Client text is only ever text: one paste is answered, no key is pressed
        and no command is run by it.
        """
        watched = await self.started()
        for idea in self.hostile:
            await self.ask_story(watched, "An idea: " + idea)
            watched = await self.rested(watched)
        self.assertFalse(Path("pwned").exists())
        await self.stop(watched)

    async def test_cancel(self) -> None:
        """
        A turn that is given up is interrupted, and the next prompt gets its own
        answer from the same process.
        """
        watched = await self.started(slow=True)
        pid = watched.session.pid
        submitted = watched.submitted()
        reply = watched.session.ask(self.endless)
        await self.wait(submitted)
        reply.cancel()
        with self.assertRaises(CancelledError):
            await reply
        after = await self.rested(watched, slow=True)
        await self.ask_story(after, "The one after")
        if watched.can_clear:
            self.assertEqual(after.session.pid, pid)
            await self.wait(after.idle())
            await self.stop(after)
        else:
            await self.wait(after.gone)

    async def test_cancel_at_once(self) -> None:
        """
        A turn that is given up before it was even read ends the same way.
        """
        watched = await self.started(slow=True)
        pid = watched.session.pid
        reply = watched.session.ask(self.endless)
        reply.cancel()
        with self.assertRaises(CancelledError):
            await reply
        after = await self.rested(watched, slow=True)
        await self.ask_story(after, "The one after")
        if watched.can_clear:
            self.assertEqual(after.session.pid, pid)
            await self.wait(after.idle())
            await self.stop(after)
        else:
            await self.wait(after.gone)

    async def test_killed(self) -> None:
        """
        A session that is killed in a turn fails it and is gone.
        """
        watched = await self.started(slow=True)
        pid = watched.session.pid
        assert pid is not None
        submitted = watched.submitted()
        reply = watched.session.ask(self.endless)
        await self.wait(submitted)
        self.kill(pid)
        with self.assertRaises(SessionLost):
            await self.wait(reply)
        self.assertEqual(await self.wait(watched.gone), "killed by SIGKILL")
        self.assertIs(watched.session.pid, None)

    async def test_stop_in_a_turn(self) -> None:
        """
        A session that is stopped in a turn fails it, and leaves no process.
        """
        watched = await self.started(slow=True)
        pid = watched.session.pid
        assert pid is not None
        submitted = watched.submitted()
        reply = watched.session.ask(self.endless)
        await self.wait(submitted)
        watched.session.stop("the test is over")
        with self.assertRaises(SessionLost):
            await self.wait(reply)
        await self.wait(watched.gone)
        self.assertFalse(self.lives(pid))

    def kill(self, pid: int) -> None:
        os.killpg(pid, signal.SIGKILL)

    def lives(self, pid: int) -> bool:
        return alive(pid)


class ToolContract(Contract):
    """
    The same, for agents that ask whether they may use a tool.
    """

    async def test_approval(self) -> None:
        """
        A tool is denied, and the turn goes on to its answer.
        """
        watched = await self.started()
        reply = await self.wait(watched.session.ask(self.with_tool))
        if reply.source == "terminal":
            self.assertIn("denied", reply.text)
        self.assertEqual(len(reply.denied), 1)
        await self.wait(watched.idle())
        await self.stop(watched)


class MemoryTests(ToolContract, TestCase):
    """
    The memory fake keeps the contract.
    """

    endless = "never answer"
    with_tool = "use a tool"

    def setUp(self) -> None:
        self.reactor = MemoryReactor(lambda: MemoryKiro(self.reply))

    def launch(self, slow: bool) -> Watched:
        command = Command("/bin/kiro", (), {}, Path("/"), (50, 1000))
        return Watched(
            self.reactor,
            lambda process: start(self.reactor, process, command),
            self.reactor,
            load_dialect("kiro-classic"),
        )

    async def wait(self, deferred: Deferred[T]) -> T:
        self.reactor.pump([0, 0.2, 0])
        return await deferred

    def reply(self, prompt: str) -> str | None:
        if prompt == self.endless:
            return None
        if prompt == self.with_tool:
            self.reactor.programs[0].ask_approval()
            return None
        return fakekiro.answer_text(prompt)

    def kill(self, pid: int) -> None:
        self.reactor.send(pid, signal.SIGKILL)

    def lives(self, pid: int) -> bool:
        return pid in self.reactor.running


def tui_signs(
    more: str = "quiet = 0.1",
    idle: str = "screen = '(?m)^[ ›]*ask a question or describe a task'",
    busy: str = "screen = '(?m)^[ ›]*Kiro is working ·'",
) -> str:
    """
    The table of signs of the full-screen interface, with changes.
    """
    return (
        f"[signs]\noutput = 'esc to cancel'\n{more}\n[signs.idle]\n{idle}\n[signs.busy]\n{busy}\n"
    )


class RealStarting(Starting):
    """
    How a real program is started.
    """

    dialect = "kiro-classic"
    #: Tables that the dialect has instead of its own.
    changes = ""
    arguments: tuple[str, ...]
    #: The stand-in's faults, and what a slow session of the offline agent waits.
    faults = ""
    delay = "0"
    addCleanup: Callable[..., None]
    mktemp: Callable[[], str]

    def launch(self, slow: bool) -> Watched:
        from twisted.internet import reactor

        real: Any = reactor
        watchdog = Watchdog(real)
        self.addCleanup(watchdog.stop)
        dialect = self.read_dialect()
        variables = self.environment(slow)
        command = Command(
            dialect.program if dialect.program and "/" in dialect.program else sys.executable,
            self.arguments,
            dialect.environment(variables, [FAULTS]),
            ROOT,
            dialect.window,
        )
        launch = partial(start, real, command=command)
        journal = (
            JournalFolder(
                Path(variables["HOME"]) / dialect.journal, MAX_OUTPUT, partial(token_hex, 8)
            )
            if dialect.journal
            else None
        )
        return Watched(real, launch, watchdog, dialect, journal)

    def read_dialect(self) -> Dialect:
        path = Path(self.mktemp() + ".toml")
        path.write_text(f'extends = "{self.dialect}"\n{self.changes}')
        return read_dialect(path)

    def environment(self, slow: bool) -> dict[str, str]:
        delay = self.delay if slow else "0"
        home = Path(self.mktemp()).absolute()
        home.mkdir(parents=True)
        return environment(FAKEKIRO=self.faults, KIROWORKERS_OFFLINE_DELAY=delay, HOME=str(home))


class RealProgram(RealStarting, ToolContract):
    """
    The suite, for a real program on a real PTY.
    """


class StandIn(RealProgram):
    """
    The suite, and troubles, for a stand-in of Kiro.
    """

    async def test_trouble(self) -> None:
        """
        A failure has its name, and the session serves on.
        """
        watched = await self.started()
        prompt = "Task: generate-story\nRequest: {}\nfail [[trouble=throttled]]"
        with self.assertRaises(AgentUnavailable) as raised:
            await self.wait(watched.session.ask(prompt))
        self.assertEqual(raised.exception.kind, "throttled")
        self.assertEqual(raised.exception.retry_after, 30)
        await self.wait(watched.idle())
        await self.ask_story(watched, "The one after")
        await self.wait(watched.idle())
        await self.stop(watched)

    async def test_talk_of_trouble(self) -> None:
        """
        An answer that quotes every failure is an answer.
        """
        watched = await self.started()
        await self.ask_story(watched, "Talk [[quotes]]")
        await self.wait(watched.idle())
        await self.stop(watched)


class FakeKiroTests(StandIn, TestCase):
    """
    The stand-in of Kiro keeps the contract.
    """

    arguments = ("-m", "tests.fakekiro", "chat")
    endless = "never answer [[silent]]"
    with_tool = "use a tool [[approve]]"


class SplitFakeKiroTests(StandIn, TestCase):
    """
    So it does with every part of its prompt, and a garbled question.
    """

    arguments = ("-m", "tests.fakekiro", "chat")
    faults = "agent=developer used=16 clear=garbled"
    endless = "never answer [[silent]]"
    with_tool = "use a tool [[approve split]]"


class LateFakeKiroTests(StandIn, TestCase):
    """
    So it does when it ignores SIGTERM, and answers what was cancelled.
    """

    arguments = ("-m", "tests.fakekiro", "chat")
    faults = "stubborn"
    endless = "Task: generate-story\nRequest: {}\nanswer late [[late]]"
    with_tool = "use a tool [[approve footer=none]]"


class MenuFakeKiroTests(StandIn, TestCase):
    """
    So it does behind the start menu of 2.28, whose first choice would end it.
    """

    arguments = ("-m", "tests.fakekiro", "chat")
    faults = "menu"
    endless = "never answer [[silent]]"
    with_tool = "use a tool [[approve]]"


class PlainFakeKiroTests(StandIn, TestCase):
    """
    So it does without colours and with its markdown shown as it is.
    """

    arguments = ("-m", "tests.fakekiro", "chat")
    faults = "nocolor verbatim marks used=91"
    endless = "never answer [[silent]]"
    with_tool = "use a tool [[approve footer=time]]"


class WrappingFakeKiroTests(StandIn, TestCase):
    """
    So it does when it wraps its prose.
    """

    arguments = ("-m", "tests.fakekiro", "chat")
    faults = "wrap=20 marks agent=dev"
    endless = "never answer [[silent]]"
    with_tool = "use a tool [[approve]]"


class QTests(StandIn, TestCase):
    """
    So does the stand-in as Kiro's ancestor, which prints slowly.
    """

    dialect = "q"
    arguments = ("-m", "tests.fakekiro", "chat")
    faults = "era=q agent=old pace=0.001"
    endless = "never answer [[silent]]"
    with_tool = "use a tool [[approve]]"


class TuiTests(StandIn, TestCase):
    """
    So does the stand-in of Kiro's full-screen interface, read from its screen.
    """

    dialect = "kiro-tui"
    layout = "lines"
    arguments = ("-m", "tests.faketui", "chat")
    endless = "never answer [[silent]]"
    with_tool = "use a tool [[approve]]"
    # A line that is longer than the screen is wide cannot be read for certain.
    hostile = (*HOSTILE[:-1], "x" * 500)


class RestoringTuiTests(TuiTests):
    """
    So it does when it puts a cancelled prompt back into its composer, and shows
    that it is idle before it shows all of its answer.
    """

    faults = "style=bullet restore early"
    changes = tui_signs()


class OtherTuiTests(TuiTests):
    """
    So it does on the alternate screen, where it lets the terminal's edge cut
    lines, and with another word for its clear.
    """

    faults = "alternate unwrapped clear=new"
    changes = tui_signs("quiet = 0.1\nwraps = false")
    hostile = (*HOSTILE[:-1], "x" * 20_000)


class JournalTuiTests(TuiTests):
    """
    So it does for text of any length when it keeps a journal.
    """

    faults = "journal"
    hostile = HOSTILE


class TitleTuiTests(TuiTests):
    """
    So it does when it says idle and busy in the window's title, and makes no
    synchronized updates.
    """

    faults = "plain signs=title"
    changes = tui_signs(idle="title = '^◇ +Ready'", busy="title = '^✦ +Working'")


class StateTuiTests(TuiTests):
    """
    So it does when it says so by OSC 7501.
    """

    faults = "signs=state"
    changes = tui_signs(idle="state = 'state=idle'", busy="state = 'state=working'")


class AcpTests(StandIn, TestCase):
    """
    So does an agent that has no terminal, and speaks ACP.
    """

    dialect = "acp"
    arguments = ("-m", "tests.fakeacp")
    endless = "never answer [[silent]]"
    with_tool = "use a tool [[approve]]"


class LateAcpTests(StandIn, TestCase):
    """
    So it does when it ignores SIGTERM, answers what was cancelled, writes logs, and
    can close what was left.
    """

    dialect = "acp"
    arguments = ("-m", "tests.fakeacp")
    faults = "stubborn lingers closes aside"
    endless = "Task: generate-story\nRequest: {}\nanswer late [[late]]"
    with_tool = "use a tool [[approve options=allow_always]]"


class LineTests(RealStarting, Contract, TestCase):
    """
    A program that knows of nothing but a prompt keeps what of the contract does
    not need more: each turn is of a process of its own.
    """

    dialect = "generic"
    arguments = ("-m", "tests.fakeline")
    endless = "never answer [[silent]]"
    hostile = HOSTILE[:-1]

    async def test_too_long(self) -> None:
        """
        What the terminal would cut is refused, and the session is as idle as
        before.
        """
        watched = await self.started()
        request = STORY.accept({"idea": "x" * 4096})
        with self.assertRaises(PromptTooLarge):
            watched.session.ask(STORY.prompt(request))
        await self.ask_story(watched, "A shorter one")
        await self.wait(watched.gone)


class BareLineTests(LineTests):
    """
    So does one that does not echo.
    """

    faults = "bare"


class OfflineTests(RealProgram, TestCase):
    """
    The offline agent keeps the contract.
    """

    dialect = "offline"
    arguments = ("-m", "kiroworkers.offline")
    delay = "2"
    endless = "An idea that takes a while"
    with_tool = "Tool: a hammer"

    def expected_title(self, idea: str) -> str | None:
        return None
