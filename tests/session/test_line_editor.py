"""
Tests for sessions with a line editor whose program does not keep to the rules.

The stand-ins of Kiro's classic interface and of Amazon Q run on a real PTY.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import TestCase

from kiroworkers.errors import AgentRefused, AgentUnavailable, AnswerUnreadable, FailureKind
from kiroworkers.tasks.answer import find_answer
from tests.session.test_contract import RealSessionStarter, WatchedSession

SCHEMA = {"type": "object", "required": ["value"]}


def prompt(value: str, faults: str) -> str:
    """
    Return a prompt that asks for an object with `value`, answered with `faults`.
    """
    request = json.dumps({"value": value})
    return f"Task: echo\nRequest: {request}\nGive it back. [[{faults}]]"


class Asking(RealSessionStarter):
    """
    Ask the stand-in for values.
    """

    arguments = ("-m", "tests.fakekiro", "chat")

    async def ask(self, watched: WatchedSession, value: str, faults: str) -> Any:
        """
        Return what the answer has for `value`.
        """
        reply = await self.wait(watched.ask(prompt(value, faults)))
        answer = find_answer(reply.text, SCHEMA, wrapped=reply.wrapped, styled=reply.styled)
        return answer.value["value"]


class LineEditorTests(Asking):
    """
    Tests for one dialect.
    """

    assertEqual: Callable[..., None]
    assertIn: Callable[..., None]
    assertTrue: Callable[..., None]
    assertRaises: Callable[..., Any]

    async def test_rendered(self) -> None:
        """
        An answer in which the program has rendered Markdown is refused, and one in which it
        found none is read.
        """
        watched = await self.started()
        for value in ("a **bold** claim", "an _italic_ one", "[a](http://b)"):
            with self.assertRaises(AnswerUnreadable):
                await self.ask(watched, value, "rendered")
            await self.wait(watched.idle())
        self.assertEqual(await self.ask(watched, "2 * 3 = 6", "rendered"), "2 * 3 = 6")
        await self.wait(watched.idle())
        self.assertEqual(await self.ask(watched, "a **bold** claim", "pretty"), "a **bold** claim")
        await self.wait(watched.idle())
        await self.stop(watched)

    async def test_failure_after_a_draft(self) -> None:
        """
        A complete answer that is followed by a failure is none, and the session serves on.
        """
        watched = await self.started()
        for name, kind in [("network", FailureKind.NETWORK), ("throttled", FailureKind.THROTTLED)]:
            with self.assertRaises(AgentUnavailable) as caught:
                await self.ask(watched, "x", f"draft={name}")
            self.assertEqual(caught.exception.kind, kind)
            await self.wait(watched.idle())
        self.assertEqual(await self.ask(watched, "next", "think=0"), "next")
        await self.wait(watched.idle())
        await self.stop(watched)

    async def test_forged(self) -> None:
        """
        A model that prints a prompt, a clear and an answer ends no turn, and answers nobody else.
        """
        watched = await self.started()
        for value, faults in [("first", "forge"), ("second", "think=0")]:
            self.assertEqual(await self.ask(watched, value, faults), value)
            await self.wait(watched.idle())
        await self.stop(watched)

    async def test_denied_twice(self) -> None:
        """
        Two questions in equal words are denied as two, each with the tool and its command.
        """
        watched = await self.started()
        reply = await self.wait(watched.ask(prompt("x", "approve=2")))
        self.assertEqual(len(reply.denied), 2)
        for question in reply.denied:
            self.assertIn("date", question)
            self.assertIn("Allow this action?", question)
        await self.wait(watched.idle())
        await self.stop(watched)

    async def test_unasked_read(self) -> None:
        """
        A tool that has read without asking is counted, and the answer is what follows it.
        """
        watched = await self.started()
        reply = await self.wait(watched.ask(prompt("x", "unasked=fs_read")))
        self.assertEqual(len(reply.unasked), 1)
        self.assertIn("fs_read", reply.unasked[0])
        self.assertTrue(reply.text.startswith("Here it is:"), reply.text)
        await self.wait(watched.idle())
        await self.stop(watched)

    async def test_unasked_execution(self) -> None:
        """
        A command that was run without asking ends the turn and the session.
        """
        watched = await self.started()
        with self.assertRaises(AgentRefused) as caught:
            await self.wait(watched.ask(prompt("x", "unasked=execute_bash")))
        self.assertEqual(caught.exception.kind, FailureKind.TOOL_NOT_PERMITTED)
        await self.wait(watched.gone)


class KiroTests(LineEditorTests, TestCase):
    """
    Tests for Kiro's classic interface.
    """

    async def test_usage(self) -> None:
        """
        A reply tells what the turn cost, and how full the model's context is.
        """
        self.faults = "used=42"
        watched = await self.started()
        reply = await self.wait(watched.ask(prompt("x", "think=0")))
        self.assertEqual((reply.usage.credits, reply.usage.context_percent), (0.05, 42))
        await self.wait(watched.idle())
        await self.stop(watched)


class QTests(LineEditorTests, TestCase):
    """
    Tests for Amazon Q.
    """

    dialect = "q"
    faults = "era=q"


class LostEnterTests(Asking, TestCase):
    """
    Tests for a program that loses the first Enter after a paste.
    """

    faults = "lostenter race=2"

    async def test_pressed_again(self) -> None:
        """
        The prompt is answered once, after Enter was pressed again.
        """
        watched = await self.started()
        for value in ("first", "second"):
            self.assertEqual(await self.ask(watched, value, "think=0"), value)
            await self.wait(watched.idle())
        await self.stop(watched)
