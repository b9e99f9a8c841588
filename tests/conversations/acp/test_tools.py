"""
Tests for the tools of a turn: those that ran, and the permissions that were asked for.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import Access, NeedsApproval, ToolUsed, Working
from kiroworkers.conversations.acp.permissions import MAX_WAITING
from kiroworkers.conversations.acp.tools import ToolCalls
from tests.conversations.acp.agent import NEVER, OPTIONS, Agent, read


def use(fields: dict[str, Any], **done: Any) -> ToolUsed | None:
    """
    Return what is reported of a tool in the folder /repo with these fields.
    """
    calls = ToolCalls("/repo")
    assert calls.feed("", {"toolCallId": "1", "status": "pending", **fields}) is None
    return calls.feed("", {"toolCallId": "1", "status": "completed", **done})


def inside(**fields: Any) -> bool:
    """
    Return whether a tool with these fields is known to stay in /repo.
    """
    tool = use({"kind": "read", "title": "x", **fields})
    assert tool is not None, "the tool has run"
    return tool.inside


class ToolUsedTests(SynchronousTestCase):
    """
    Tests for the tools that ran.
    """

    def test_unasked(self) -> None:
        """
        A completed tool is reported once, with its command, and as not asked for.
        """
        agent = Agent(10_000).started()
        agent.ask()
        agent.chunk("I will.")
        command = {"command": "rm x"}
        events = agent.tool(title="Run Command", kind="execute", rawInput=command)
        self.assertEqual(events, [Working("Run Command")])
        self.assertEqual(agent.tool("_update", status="in_progress"), [])
        used = ToolUsed("Run Command: rm x", "execute", asked=False)
        self.assertEqual(agent.tool("_update", status="completed"), [used])
        self.assertEqual(agent.tool("_update", status="completed"), [])

    def test_asked(self) -> None:
        """
        A tool for which a permission was requested is reported as asked for, and another
        one in the same turn is not.
        """
        agent = Agent(10_000).started()
        agent.ask()
        agent.chunk("I will.")
        agent.ask_permission("x")
        agent.conversation.allow()
        used = ToolUsed("rm -rf", "other", asked=False)
        self.assertEqual(
            agent.tool("_update", toolCallId="2", status="completed", title="rm -rf"), [used]
        )
        used = ToolUsed("rm -rf", "execute", asked=True)
        self.assertEqual(
            agent.tool("_update", status="completed", title="rm -rf", kind="execute"), [used]
        )

    def test_failed(self) -> None:
        """
        A tool that failed has run if it has an output, and has not run if it was denied.
        """
        fields = {"kind": "execute", "title": "sh -c 'exit 3'"}
        used = ToolUsed("sh -c 'exit 3'", "execute", asked=False)
        self.assertEqual(use(fields, status="failed", rawOutput={"exitCode": 3}), used)
        content = [{"type": "content", "content": {"type": "text", "text": "User denied"}}]
        self.assertIs(use(fields, status="failed", content=content), None)

    def test_denied(self) -> None:
        """
        A tool that failed after it was denied has not run, whatever its output says.
        """
        agent = Agent(10_000).started()
        agent.ask()
        agent.chunk("I will.")
        agent.ask_permission("x")
        agent.conversation.deny()
        output = {"error": "The user rejected permission to use this tool"}
        self.assertEqual(agent.tool("_update", status="failed", rawOutput=output), [])

    def test_subagents(self) -> None:
        """
        A tool that a subagent uses in our turn is reported, even with an identifier that
        our own tools have.
        """
        agent = Agent(10_000).started()
        agent.clear()
        agent.session("s2")
        agent.ask()
        agent.tool(session="s2", title="ls")
        done = {"status": "completed", "title": "curl", "kind": "fetch"}
        self.assertEqual(
            agent.tool("_update", session="s9", **done), [ToolUsed("curl", "network", asked=False)]
        )
        agent.stop()

    def test_not_granted(self) -> None:
        """
        A tool that ran although it was denied, or before anybody decided, is reported like
        one that was not asked for.
        """
        used = ToolUsed("rm -rf", "execute", asked=False)
        for deny in (True, False):
            agent = Agent.v2()
            agent.ask()
            agent.chunk("I will.")
            agent.ask_permission("x")
            if deny:
                agent.conversation.deny()
            self.assertEqual(agent.tool("_update", status="completed", kind="execute"), [used])

    def test_question_without_answer(self) -> None:
        """
        A question that can only be cancelled grants nothing.
        """
        agent = Agent.v2()
        agent.ask()
        agent.chunk("I will.")
        for options in ([], [NEVER], [{"optionId": "x-option-1", "kind": "allow_once"}]):
            agent.ask_permission("x", options)
            agent.conversation.allow()
        used = ToolUsed("rm -rf", "execute", asked=False)
        self.assertEqual(agent.tool("_update", status="completed", kind="execute"), [used])

    def test_same_identifier(self) -> None:
        """
        Each tool is reported, though the agent uses its identifiers again, and a permission
        is for one of them; a call that is only told again is reported once.
        """
        agent = Agent.v2()
        agent.ask()
        agent.chunk("I will.")
        agent.ask_permission("x")
        agent.conversation.allow()
        fields = {"title": "rm -rf", "kind": "execute"}
        used = [
            event
            for update in (
                {"update_kind": "_update", "status": "completed", **fields},
                {"status": "completed", **fields},
                {"status": "pending", "title": "rm -rf"},
                {"update_kind": "_update", "status": "completed"},
                {"status": "completed", "title": "curl", "kind": "fetch"},
            )
            for event in agent.tool(**update)
            if isinstance(event, ToolUsed)
        ]
        self.assertEqual(
            [(tool.title, tool.asked) for tool in used],
            [("rm -rf", True), ("rm -rf", False), ("curl", False)],
        )
        agent.stop()
        agent.ask()
        agent.ask_permission("y")
        agent.conversation.allow()
        agent.stop()
        agent.ask()
        [_, tool] = agent.tool("_update", status="completed", **fields)
        self.assertEqual(tool, ToolUsed("rm -rf", "execute", asked=False))

    def test_after_the_turn(self) -> None:
        """
        A tool that ends after its turn, or after the turn was given up, is reported.
        """
        used = ToolUsed("rm", "execute", asked=False)
        done = {"status": "completed"}
        agent = Agent.v2()
        agent.ask()
        agent.tool(title="rm", kind="execute")
        agent.stop()
        self.assertEqual(agent.tool("_update", **done)[1:], [used])
        agent = Agent.v2()
        agent.ask()
        agent.tool(title="rm", kind="execute")
        agent.tool(title="rm", kind="execute", session="s9")
        agent.conversation.interrupt()
        self.assertEqual(agent.tool("_update", **done), [used])
        agent.stop("cancelled")
        self.assertEqual(agent.tool("_update", session="s9", **done), [used])

    def test_in_the_next_turn(self) -> None:
        """
        A tool of an earlier turn that ends while another one runs is reported when that is
        over: it is not the fault of its client.
        """
        agent = Agent(10_000).started()
        agent.ask()
        agent.ask_permission("x")
        agent.conversation.allow()
        agent.stop()
        agent.data_to_send()
        agent.clear()
        agent.session("s2")
        prompt_id = agent.ask()["id"]
        agent.chunk("yes", "s2")
        self.assertEqual(agent.tool("_update", title="rm", status="completed"), [])
        agent.tool(toolCallId="2", title="date", status="completed")
        agent.last_id = prompt_id
        events = agent.stop()
        self.assertEqual(
            [(event.title, event.asked) for event in events if isinstance(event, ToolUsed)],
            [("rm", True), ("date", False)],
        )
        self.assertEqual(type(events[0]).__name__, "Answered")

    def test_access(self) -> None:
        """
        The access of a tool follows from its kind, or from its input if it has no kind.
        """
        cases: list[tuple[Access, dict[str, Any]]] = [
            ("read", {"kind": "read"}),
            ("read", {"kind": "search"}),
            ("write", {"kind": "edit"}),
            ("write", {"kind": "delete"}),
            ("write", {"kind": "move"}),
            ("execute", {"kind": "execute"}),
            ("network", {"kind": "fetch"}),
            ("other", {"kind": "think"}),
            ("other", {"kind": "of_the_future"}),
            ("execute", {"kind": "other", "rawInput": {"command": "ls"}}),
            ("execute", {"rawInput": {"command": ["ls", "-l"]}}),
            ("network", {"kind": "read", "rawInput": {"url": "https://example.com/"}}),
            ("read", {"kind": "read", "rawInput": {"url": "file:///repo/x"}}),
            ("network", {"rawInput": {"url": "https://example.com/"}}),
            ("other", {"kind": ["read"], "rawInput": "command"}),
        ]
        for access, fields in cases:
            tool = use({"title": "x", **fields})
            assert tool is not None, fields
            self.assertEqual(tool.access, access, fields)

    def test_inside(self) -> None:
        """
        A tool stays in the folder if it names paths, and all of them are there.
        """
        for path in ("/repo", "/repo/a/b", "a", "./a", "a..b", "file:///repo/a"):
            self.assertTrue(inside(locations=[{"path": path}]), path)
            self.assertTrue(inside(rawInput={"operations": [{"mode": "Line", "path": path}]}))
            self.assertTrue(inside(rawInput={"file_paths": ["x", path]}), path)
        for path in (
            *("/", "/repository", "/repo/../etc", "../x", "a/../../x", "~/x", "", "/repo/\0"),
            *("https://example.com/repo", "file:///repo/%2e%2e/x", "//repo/x"),
        ):
            self.assertFalse(inside(locations=[{"path": "/repo/a"}, {"path": path}]), path)
            self.assertFalse(inside(rawInput={"a": {"absolutePath": path}}), path)

    def test_not_known_to_be_inside(self) -> None:
        """
        A tool without paths, with too many, or that runs a command may access anything.
        """
        self.assertFalse(inside())
        self.assertFalse(inside(rawInput={"profile": "default", "query": "x"}))
        self.assertFalse(inside(locations=[{"path": "a"}] * 1000))
        self.assertFalse(inside(kind="execute", rawInput={"command": "cat x", "cwd": "/repo"}))
        deep: Any = {"path": "/etc"}
        for _ in range(10):
            deep = {"a": deep}
        self.assertFalse(inside(locations=[{"path": "a"}], rawInput=deep))

    def test_many(self) -> None:
        """
        The number of calls that are remembered is bounded.
        """
        calls = ToolCalls("/repo")
        for number in range(2000):
            calls.feed("", {"toolCallId": str(number)})
        self.assertEqual(len(calls._calls), 1000)
        tool = calls.feed("", {"toolCallId": "0", "status": "completed", "title": "x"})
        self.assertEqual(tool, ToolUsed("x", "other", asked=False))

    @given(
        st.dictionaries(
            st.sampled_from(["toolCallId", "title", "kind", "locations", "rawInput", "status"]),
            st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5)
            | st.just("completed"),
        )
    )
    def test_any_form(self, update: dict[str, Any]) -> None:
        """
        No form of a tool call is too odd to be read.
        """
        ToolCalls("/repo").feed("", {"toolCallId": "1", **update})


class PermissionTests(SynchronousTestCase):
    """
    Tests for the permissions that an agent asks for.
    """

    def question(self, options: Any, **call: Any) -> tuple[Agent, NeedsApproval]:
        """
        Return an agent that asks for a permission, and the event.
        """
        agent = Agent(1_000_000).started()
        agent.ask()
        tool_call = {"toolCallId": "1", "title": "x", **call}
        params = {"sessionId": "s1", "toolCall": tool_call, "options": options}
        [event] = agent.say(id=0, method="session/request_permission", params=params)
        assert isinstance(event, NeedsApproval), event
        return agent, event

    def test_equal_questions(self) -> None:
        """
        Two questions in the same words have different numbers, even under the same id.
        """
        agent = Agent().started()
        agent.ask()
        events = agent.ask_permission(1) + agent.ask_permission(1)
        self.assertEqual(events, [NeedsApproval("rm -rf", "1"), NeedsApproval("rm -rf", "2")])

    def test_too_many(self) -> None:
        """
        A question more than may wait is cancelled at once.
        """
        agent = Agent(1_000_000).started()
        agent.ask()
        for number in range(MAX_WAITING):
            self.assertEqual(len(agent.ask_permission(number)), 1)
        self.assertEqual(agent.data_to_send(), [])
        self.assertEqual(agent.ask_permission(MAX_WAITING), [])
        [response] = agent.data_to_send()
        self.assertEqual(response["result"]["outcome"]["outcome"], "cancelled")

    def test_command(self) -> None:
        """
        A question shows the command, or the file, that its title leaves out.
        """
        for fields, question in (
            ({"title": "Running: ls", "rawInput": {"command": "ls"}}, "Running: ls"),
            ({"title": "Run", "rawInput": {"command": "ls -l"}}, "Run: ls -l"),
            ({"title": "Run", "rawInput": {"command": ["sh", "-c", "rm x"]}}, "Run: sh -c 'rm x'"),
            ({"title": "Write", "locations": [{"path": "/a"}, {"path": "/b"}]}, "Write: /a, /b"),
            ({"title": ""}, "a tool"),
            ({"title": "x" * 5000}, "x" * 4000 + " … (1000 more characters)"),
        ):
            _, event = self.question(OPTIONS, **fields)
            self.assertEqual(event.question, question)

    def test_command_of_the_call(self) -> None:
        """
        A question shows what an earlier message has told about the tool.
        """
        agent = Agent(10_000).started()
        agent.ask()
        agent.tool(title="Run Command", kind="execute", rawInput={"command": "rm x"})
        params = {"sessionId": "s1", "toolCall": {"toolCallId": "1"}, "options": OPTIONS}
        [event] = agent.say(id=0, method="session/request_permission", params=params)
        self.assertEqual(event, NeedsApproval("Run Command: rm x", "1"))

    def test_question_to_the_user(self) -> None:
        """
        No answer to a question of the model is ever chosen, whatever the policy.
        """

        def option(id: str, kind: str = "allow_once") -> Any:
            return {"optionId": id, "name": id, "kind": kind}

        for options in (
            [option("t-option-0"), option("t-option-1")],
            [option("t-option-0")],
            [option("feature"), option("bug"), option("no", "reject_once")],
        ):
            agent, event = self.question(options)
            self.assertFalse(event.grantable, options)
            [response] = read(agent.conversation.allow())
            self.assertEqual(response["result"]["outcome"], {"outcome": "cancelled"})
            self.assertEqual(agent.conversation.allow(), b"")

    def test_subagent(self) -> None:
        """
        A question of a subagent is a question like any other; one of a session that was left,
        or without a turn, is cancelled.
        """
        agent = Agent.v2()
        agent.ask()
        [event] = agent.ask_permission("x", session="s9")
        self.assertEqual(event, NeedsApproval("rm -rf", "1"))
        [response] = read(agent.conversation.allow())
        self.assertEqual(response["result"]["outcome"]["optionId"], "yes")
        fields = {"title": "rm", "kind": "execute"}
        self.assertEqual(
            agent.tool("_update", session="s9", status="completed", **fields),
            [ToolUsed("rm", "execute", asked=True)],
        )
        agent.stop()
        self.assertEqual(agent.clear()["method"], "session/new")
        agent.session("s2")
        agent.data_to_send()
        for session in ("s9", "s2", "s1"):
            self.assertEqual(agent.ask_permission("x", session=session), [])
        agent.ask()
        self.assertEqual(agent.ask_permission("x", session="s1"), [])
        outcomes = [message["result"]["outcome"] for message in agent.data_to_send()]
        self.assertEqual(outcomes, [{"outcome": "cancelled"}] * 4)

    def test_old_names(self) -> None:
        """
        The options of old versions of Kiro are understood.
        """
        options = [
            {"id": "y", "label": "Yes", "kind": "allow_once"},
            {"id": "n", "label": "No", "kind": "reject_once"},
        ]
        agent, _ = self.question(options)
        [response] = read(agent.conversation.deny())
        self.assertEqual(response["result"]["outcome"]["optionId"], "n")
