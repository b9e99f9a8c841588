"""
End-to-end tests for agents that use tools, with or without asking.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from kiroworkers.errors import FailureKind
from tests.end_to_end.test_acp import GENERIC
from tests.end_to_end.test_kiro_acp import KiroAcpTestCase

#: The agents, each with the options that select it.
AGENTS = (
    ("--agent", "kiro-acp"),
    ("--agent", "kiro-acp-v3"),
    ("--agent", "acp", "--agent-command", GENERIC),
)


class ToolTestCase(KiroAcpTestCase):
    """
    Start servers with one worker and a policy for tools.
    """

    async def start_tools(self, agent: tuple[str, ...], *options: str, faults: str = "") -> None:
        """
        Start a server for `agent`, which is one of `AGENTS`.
        """
        _, name, *more = agent
        await self.start_kiro(name, *more, *options, faults=faults)

    def counted(self, response: Any) -> dict[str, str]:
        """
        Return how many tools the headers of a response count, by what became of them.
        """
        return {
            word: self.header(response, f"X-Kiroworkers-Tools-{word}")
            for word in ("Denied", "Allowed", "Unasked")
            if response.headers.hasHeader(f"X-Kiroworkers-Tools-{word}")
        }


class AskedTests(ToolTestCase):
    """
    Tests for agents that ask before they use a tool.
    """

    async def test_denied(self) -> None:
        """
        By default each question is denied and counted; two in the same words are two.
        """
        for agent in AGENTS:
            await self.start_tools(agent)
            for fault, times in (("approve", "1"), ("approve twice", "2")):
                response = await self.expect_story(f"x [[{fault}]]")
                self.assertEqual(self.counted(response), {"Denied": times}, agent)
            await self.stop()

    async def test_denied_with_an_error(self) -> None:
        """
        A denied turn is named so when the agent ends it with an error or a refusal.
        """
        for agent, fault in (
            (AGENTS[0], "approve options=allow_once"),
            (AGENTS[1], "approve options=allow_once"),
            (AGENTS[2], "approve rejected"),
        ):
            await self.start_tools(agent)
            await self.expect(f"x [[{fault}]]", FailureKind.APPROVAL_DENIED)
            await self.expect_story("the next")
            await self.stop()

    async def test_allowed(self) -> None:
        """
        With --tools allow, and with --allow-tools, each question is allowed once.
        """
        for agent, options in zip(
            AGENTS, (("--tools", "allow"), ("--allow-tools",), ("--tools", "allow")), strict=True
        ):
            await self.start_tools(agent, *options)
            response = await self.expect_story("x [[approve]]")
            self.assertEqual(self.counted(response), {"Allowed": "1"}, agent)
            await self.stop()


class OperatorTests(ToolTestCase):
    """
    Tests for `--tools ask`, with which operators decide.
    """

    async def approvals(self) -> list[Any]:
        """
        Return the undecided questions.
        """
        _, body = await self.fetch("GET", "/operator/approvals")
        approvals: list[Any] = body["approvals"]
        return approvals

    async def question(self, answer: Deferred[Any]) -> Any:
        """
        Return the question that the running request waits for.
        """
        await self.server.says(r"an operator must decide about a tool[\s\S]*\n")
        self.assertFalse(answer.called)
        [approval] = await self.approvals()
        return approval

    async def decide(self, id: str, decision: str) -> int:
        response, _ = await self.fetch(
            "POST", f"/operator/approvals/{id}", json={"decision": decision}
        )
        code: int = response.code
        return code

    async def test_decided(self) -> None:
        """
        A turn waits for an operator, whose decision the agent gets; it can be made once.
        """
        for agent in AGENTS:
            for decision, counted in (("allow", {"Allowed": "1"}), ("deny", {"Denied": "1"})):
                await self.start_tools(agent, "--tools", "ask")
                answer = self.story(f"{decision} [[approve]]")
                approval = await self.question(answer)
                self.assertEqual(approval["worker"], "worker1")
                self.assertIn("date", approval["question"])
                self.assertEqual(await self.decide("nothing", "allow"), 404)
                self.assertEqual(await self.decide(approval["id"], "perhaps"), 400)
                self.assertEqual(await self.decide(approval["id"], decision), 200)
                response, story = await answer
                self.assertEqual(response.code, 200, story)
                self.assertEqual(self.counted(response), counted)
                self.assertEqual(await self.approvals(), [])
                self.assertEqual(await self.decide(approval["id"], decision), 404)
                await self.stop()

    async def test_undecided(self) -> None:
        """
        A question that nobody decides is denied at the request's deadline, and no tool runs.
        """
        for agent in AGENTS:
            await self.start_tools(agent, "--tools", "ask")
            answer = self.story("x [[approve]]", headers={"X-Request-Timeout": "8"})
            await self.question(answer)
            response, body = await answer
            self.assertEqual((response.code, body["code"]), (504, "timed_out"), body)
            self.assertEqual(await self.approvals(), [])
            await self.expect_story("the next")
            await self.stop()


class UnaskedTests(ToolTestCase):
    """
    Tests for agents that use tools without asking.
    """

    async def test_read(self) -> None:
        """
        Tools that only read are counted and logged, and the answer is served.
        """
        for agent in AGENTS:
            await self.start_tools(agent)
            pids = await self.pids()
            response = await self.expect_story("x [[tool=read]]")
            self.assertEqual(self.counted(response), {"Unasked": "1"}, agent)
            response = await self.expect_story("x [[tool=read,search]]")
            self.assertEqual(self.counted(response), {"Unasked": "2"}, agent)
            await self.server.says("tool used without asking: Reading README.md")
            self.assertEqual(await self.pids(), pids)
            await self.stop()

    async def test_not_permitted(self) -> None:
        """
        A tool that wrote, ran a command or used the network without asking ends the turn, and
        the session is replaced.
        """
        for agent in AGENTS:
            await self.start_tools(agent)
            pids = await self.pids()
            for kind in ("edit", "execute", "fetch"):
                idea = f"x [[tool={kind}]]"
                await self.expect(idea, FailureKind.TOOL_NOT_PERMITTED)
                self.assertEqual(self.prompts(idea), 1)
                await self.expect_story("the next")
                successors = await self.pids()
                self.assertNotEqual(successors, pids, (agent, kind))
                pids = successors
            await self.stop()

    async def test_subagent(self) -> None:
        """
        The tools of a subagent count as those of the agent.
        """
        await self.start_tools(AGENTS[0])
        response = await self.expect_story("x [[subagent=read]]")
        self.assertEqual(self.counted(response), {"Unasked": "1"})
        await self.expect("x [[subagent=edit]]", FailureKind.TOOL_NOT_PERMITTED)

    async def test_permitted(self) -> None:
        """
        With --tools allow, such tools are counted, and the answer is served.
        """
        for agent in AGENTS:
            await self.start_tools(agent, "--tools", "allow")
            response = await self.expect_story("x [[tool=edit,execute]]")
            self.assertEqual(self.counted(response), {"Unasked": "2"}, agent)
            await self.stop()
