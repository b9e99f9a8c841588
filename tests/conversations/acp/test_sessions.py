"""
Tests for how a conversation opens, prepares, clears and leaves ACP sessions.
"""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import (
    AgentFailure,
    Answered,
    Cleared,
    Event,
    LateOutput,
    NotCleared,
    Ready,
    Submitted,
    TextChunk,
    Usage,
)
from kiroworkers.conversations.acp.sessions import MAX_USED_SESSIONS
from kiroworkers.errors import FailureKind
from tests.conversations.acp.agent import (
    CLOSES,
    V2_SESSION,
    V3_SESSION,
    Agent,
    config_option,
    read,
)

_CLEARED = {"success": True, "message": "Conversation cleared"}


def take_turn(agent: Agent, session: str = "s1") -> list[Event]:
    """
    Ask a question, and return the events of a plain answer.
    """
    agent.ask()
    prompt_id = agent.last_id
    events = agent.chunk("yes", session)
    agent.last_id = prompt_id
    return events + agent.stop()


def methods(messages: list[Any]) -> list[str]:
    """
    Return the method of each message.
    """
    return [message["method"] for message in messages]


class PreparedSessionTests(SynchronousTestCase):
    """
    Tests for the session that is opened while a turn runs.
    """

    def prepare(self, greeting: Any = CLOSES) -> Agent:
        """
        Return an agent that has opened another session during its first turn.
        """
        agent = Agent(greeting=greeting).started()
        agent.ask()
        prompt_id = agent.last_id
        agent.chunk("yes")
        self.assertEqual(agent.next_request()["method"], "session/new")
        self.assertEqual(agent.session("s2"), [])
        agent.last_id = prompt_id
        return agent

    def test_prepared(self) -> None:
        """
        A clear uses the prepared session at once, and closes the old one.
        """
        agent = self.prepare()
        agent.stop()
        [close] = read(agent.conversation.clear())
        self.assertEqual((close["method"], close["params"]), ("session/close", {"sessionId": "s1"}))
        self.assertFalse(agent.conversation.at_prompt)
        self.assertEqual(agent.conversation.quiet_timeout, 0)
        self.assertEqual(agent.conversation.on_quiet(), [Cleared()])
        self.assertIs(agent.conversation.quiet_timeout, None)
        self.assertTrue(agent.conversation.at_prompt)
        self.assertEqual(agent.ask()["params"]["sessionId"], "s2")

    def test_only_one(self) -> None:
        """
        However many turns a conversation has, one session is prepared.
        """
        agent = self.prepare()
        agent.stop()
        for _ in range(3):
            self.assertEqual(take_turn(agent)[-1], Answered("yes", "response"))
            self.assertEqual(agent.data_to_send(), [])

    def test_before_the_turn_is_taken(self) -> None:
        """
        Nothing is prepared before the agent has taken the prompt.
        """
        agent = Agent().started()
        agent.ask()
        self.assertEqual(agent.data_to_send(), [])

    def test_start_of_the_turn(self) -> None:
        """
        Engine v3 reports the start of a turn seconds before any output, and a session is
        prepared from then on.
        """
        agent = Agent().started()
        agent.ask()
        self.assertEqual(agent.info("turn_start", turnStart=True), [Submitted()])
        self.assertEqual(methods(agent.data_to_send()), ["session/new"])

    def test_no_clear(self) -> None:
        """
        Nothing is prepared where no clear is expected, and a clear is still possible.
        """
        agent = Agent().started()
        agent.conversation.expects_clear = False
        take_turn(agent)
        self.assertEqual(agent.data_to_send(), [])
        self.assertEqual(agent.clear()["method"], "session/new")

    def test_still_being_opened(self) -> None:
        """
        A clear waits for a session that is being opened, and opens no other one.
        """
        agent = Agent().started()
        take_turn(agent)
        [new] = agent.data_to_send()
        self.assertEqual(agent.conversation.clear(), b"")
        self.assertIs(agent.conversation.quiet_timeout, None)
        agent.last_id = new["id"]
        self.assertEqual(agent.session("s2"), [Cleared()])
        self.assertEqual(agent.data_to_send(), [])

    def test_refused(self) -> None:
        """
        A session that cannot be prepared is no failure of the turn; the clear asks again,
        and nothing is prepared any more.
        """
        agent = Agent().started()
        agent.ask()
        prompt_id = agent.last_id
        agent.chunk("yes")
        agent.next_request()
        self.assertEqual(agent.error(-32603, "busy"), [])
        agent.last_id = prompt_id
        self.assertEqual(agent.stop(), [Answered("yes", "response")])
        self.assertEqual(agent.clear()["method"], "session/new")
        self.assertEqual(agent.session("s2"), [Cleared()])
        take_turn(agent, "s2")
        self.assertEqual(agent.data_to_send(), [])

    def test_refused_after_the_clear(self) -> None:
        """
        If a session cannot be prepared for which a clear waits already, another one is
        requested; only if that is refused, the clear has failed.
        """
        agent = Agent().started()
        take_turn(agent)
        agent.next_request()
        agent.conversation.clear()
        self.assertEqual(agent.error(-32603, "busy"), [])
        self.assertEqual(agent.next_request()["method"], "session/new")
        self.assertEqual(agent.error(-32603, "busy"), [NotCleared("-32603: busy")])

    def test_other_session_says_nothing(self) -> None:
        """
        Output of a prepared session that is not used yet is part of no answer.
        """
        agent = self.prepare()
        self.assertEqual(agent.chunk("Welcome!", "s2"), [])
        self.assertEqual(agent.stop(), [Answered("yes", "response")])
        agent.conversation.clear()
        agent.conversation.on_quiet()
        self.assertEqual(agent.chunk("Hello!", "s2"), [])
        agent.ask()
        self.assertEqual(agent.chunk("late", "s1"), [])
        self.assertEqual(agent.chunk("no", "s2"), [Submitted(), TextChunk("no")])

    def test_same_session(self) -> None:
        """
        A prepared session with the identifier of the current one is not used.
        """
        agent = Agent(greeting=CLOSES).started()
        take_turn(agent)
        agent.next_request()
        self.assertEqual(agent.session("s1"), [])
        self.assertEqual(agent.data_to_send(), [])
        self.assertEqual(agent.clear()["method"], "session/new")

    def test_memory(self) -> None:
        """
        Over many turns, a bounded number of identifiers is remembered; one of those is
        refused.
        """
        agent = Agent(greeting=CLOSES).started()
        for number in range(MAX_USED_SESSIONS + 10):
            agent.clear()
            agent.session(f"n{number}")
            agent.data_to_send()
        sessions: Any = agent.conversation._sessions  # type: ignore[attr-defined]
        self.assertEqual(len(sessions._used), MAX_USED_SESSIONS)
        self.assertEqual(agent.conversation._requests._pending, {})  # type: ignore[attr-defined]
        agent.clear()
        [event] = agent.session("n100")
        self.assertIsInstance(event, AgentFailure)


class ClearInPlaceTests(SynchronousTestCase):
    """
    Tests for the clear of Kiro's engine v2.
    """

    def begin(self) -> Agent:
        """
        Return an agent that is to clear after a plain turn.
        """
        agent = Agent.v2()
        self.assertEqual(take_turn(agent)[-1], Answered("yes", "response"))
        self.assertEqual(agent.data_to_send(), [])
        message = agent.clear()
        self.assertEqual(message["method"], "_kiro.dev/commands/execute")
        command = {"command": "clear", "args": {}}
        self.assertEqual(message["params"], {"sessionId": "s1", "command": command})
        return agent

    def test_cleared(self) -> None:
        """
        A clear that the response proves keeps the session.
        """
        agent = self.begin()
        self.assertEqual(agent.result(_CLEARED), [Cleared()])
        self.assertEqual(agent.ask()["params"]["sessionId"], "s1")
        self.assertEqual(agent.data_to_send(), [])

    def test_told(self) -> None:
        """
        A clear without words is proven by what the agent has told about this session.
        """
        agent = self.begin()
        self.assertEqual(agent.kiro(".dev/clear/status"), [])
        self.assertEqual(agent.result({"success": True}), [Cleared()])

    def test_not_proven(self) -> None:
        """
        Any other response leads to another session, and from then on one is prepared.
        """
        responses: list[dict[str, Any]] = [
            {"result": {"success": False, "message": "Conversation cleared"}},
            {"result": {"success": True, "message": "Unknown command"}},
            {"result": {"success": "true", "message": "cleared"}},
            {"result": {"success": True}},
            {"result": {}},
            {"error": {"code": -32601, "message": "Method not found"}},
        ]
        for response in responses:
            agent = self.begin()
            agent.kiro(".dev/clear/status", "s9")
            self.assertEqual(agent.say(id=agent.last_id, **response), [])
            self.assertEqual(agent.next_request()["method"], "session/new")
            self.assertEqual(agent.session("s2", **V2_SESSION), [Cleared()])
            [terminate] = agent.data_to_send()
            self.assertEqual(terminate["method"], "_kiro.dev/session/terminate")
            self.assertEqual(terminate["params"], {"sessionId": "s1"})
            take_turn(agent, "s2")
            self.assertEqual(methods(agent.data_to_send()), ["session/new"])

    def test_turn_may_go_on(self) -> None:
        """
        After an answer that was doubted, another session is used, and only then.
        """
        agent = Agent.v2()
        take_turn(agent)
        agent.conversation.turn_may_go_on = True
        self.assertEqual(agent.clear()["method"], "session/new")
        agent.session("s2", **V2_SESSION)
        agent.data_to_send()
        take_turn(agent, "s2")
        agent.conversation.turn_may_go_on = False
        self.assertEqual(agent.clear()["method"], "_kiro.dev/commands/execute")

    def test_doubtful_turn(self) -> None:
        """
        After a turn that may go on behind its end, another session is used.
        """

        def cancelled(agent: Agent) -> list[Event]:
            agent.ask()
            agent.conversation.interrupt()
            return agent.stop("cancelled")

        def failed(agent: Agent) -> list[Event]:
            agent.ask()
            return agent.error(-32603, "Internal error")

        def left_a_tool(agent: Agent) -> list[Event]:
            agent.ask()
            agent.tool(title="sleep 100", kind="execute")
            return agent.stop()

        def had_a_subagent(agent: Agent) -> list[Event]:
            agent.ask()
            agent.chunk("I help.", "s9")
            return agent.stop()

        for turn in (cancelled, failed, left_a_tool, had_a_subagent):
            agent = Agent.v2()
            turn(agent)
            self.assertEqual(agent.clear()["method"], "session/new", turn)
            self.assertEqual(agent.session("s2", **V2_SESSION), [Cleared()])
            agent.data_to_send()
            take_turn(agent, "s2")
            self.assertEqual(agent.clear()["method"], "_kiro.dev/commands/execute", turn)

    def test_late_output(self) -> None:
        """
        An agent that has ever sent output late gets another session each time.
        """
        agent = self.begin()
        self.assertEqual(agent.chunk("late"), [])
        self.assertEqual(agent.result(_CLEARED), [])
        self.assertEqual(agent.next_request()["method"], "session/new")
        agent = self.begin()
        agent.result(_CLEARED)
        self.assertEqual(agent.chunk("late"), [LateOutput("late")])
        self.assertEqual(agent.clear()["method"], "session/new")

    def test_other_engines(self) -> None:
        """
        Only engine v2 has such a clear, and an agent with options is not v2, whatever was
        asked for.
        """
        agent = Agent(10_000, dialect="kiro-acp")
        agent.next_request()
        agent.session("s1", **V3_SESSION)
        self.assertEqual(agent.set_option(), [Ready()])
        take_turn(agent)
        self.assertEqual(methods(agent.data_to_send()), ["session/new"])


class OptionTests(SynchronousTestCase):
    """
    Tests for the options that each session needs.
    """

    def test_autopilot(self) -> None:
        """
        A session of engine v3 is ready when its autopilot is off.
        """
        agent = Agent.v3()
        self.assertFalse(agent.conversation.at_prompt)
        request = agent.next_request()
        self.assertEqual(request["method"], "session/set_config_option")
        self.assertEqual(
            request["params"], {"sessionId": "s1", "configId": "autopilot", "value": "off"}
        )
        off = config_option("autopilot", "off", "on")
        self.assertEqual(agent.result({"configOptions": [off]}), [Ready()])

    def test_autopilot_stays_on(self) -> None:
        """
        A session whose autopilot cannot be switched off is not used.
        """
        agent = Agent.v3()
        events = [event for _ in range(4) for event in agent.set_option("on")]
        self.assertEqual(
            events,
            [
                AgentFailure(
                    FailureKind.PROTOCOL,
                    "the agent did not set its option autopilot to off; it is on",
                )
            ],
        )
        self.assertEqual(methods(agent.data_to_send()), ["session/close"])
        agent = Agent.v3()
        agent.next_request()
        [event] = agent.error(-32603, "Internal error")
        self.assertEqual(event, AgentFailure(FailureKind.PROTOCOL, "-32603: Internal error"))

    def test_unlisted_autopilot(self) -> None:
        """
        The autopilot of engine v3 is switched off although it is not listed, and a response
        that lists other options proves nothing.
        """
        for result, expected in (
            ({}, Ready()),
            (
                {"configOptions": [config_option("mode", "vibe")]},
                AgentFailure(
                    FailureKind.PROTOCOL,
                    "the agent did not set its option autopilot to off; it is unknown",
                ),
            ),
        ):
            agent = Agent(dialect="kiro-acp-v3")
            agent.next_request()
            events = agent.session("s1")
            while not events:
                self.assertEqual(agent.next_request()["params"]["configId"], "autopilot")
                events = agent.result(result)
            self.assertEqual(events, [expected])

    def test_prepared_session(self) -> None:
        """
        A prepared session has its autopilot off before it is used.
        """
        agent = Agent.v3()
        agent.set_option()
        take_turn(agent)
        agent.next_request()
        self.assertEqual(agent.session("s2", **V3_SESSION), [])
        self.assertEqual(agent.conversation.clear(), b"")
        self.assertEqual(agent.set_option(), [Cleared()])

    def test_agent_runs(self) -> None:
        """
        A session that runs with the requested configuration is ready.
        """
        agent = Agent(dialect="kiro-acp", agent_name="kiro_default")
        agent.started(**V2_SESSION)

    def test_other_agent_runs(self) -> None:
        """
        An agent that runs with another configuration, or does not say, cannot be used.
        """
        for session, detail in (
            (V2_SESSION, "the agent runs kiro_default instead of mine"),
            ({}, "the agent runs an unknown configuration instead of mine"),
        ):
            agent = Agent(dialect="kiro-acp", agent_name="mine")
            agent.next_request()
            self.assertEqual(
                agent.session("s1", **session), [AgentFailure(FailureKind.PROTOCOL, detail)]
            )
            self.assertFalse(agent.conversation.at_prompt)

    def test_agent_not_found(self) -> None:
        """
        An agent that says that a configuration does not exist cannot be used with it.
        """
        for agent_name in ("mine", ""):
            agent = Agent(dialect="kiro-acp", agent_name=agent_name)
            agent.next_request()
            missing = {"requestedAgent": "mine", "fallbackAgent": "kiro_default"}
            agent.kiro(".dev/agent/not_found", **missing)
            modes = {"currentModeId": "mine", "availableModes": []}
            [event] = agent.session("s1", modes=modes)
            detail = "the agent configuration mine does not exist; kiro_default runs instead"
            expected = AgentFailure(FailureKind.PROTOCOL, detail) if agent_name else Ready()
            self.assertEqual(event, expected)

    def test_mode(self) -> None:
        """
        Engine v3 is told to run with the configuration, which its response must prove.
        """
        kept = AgentFailure(
            FailureKind.PROTOCOL, "the agent did not set its option mode to mine; it is vibe"
        )
        for value, attempts, expected in (("mine", 1, Ready()), ("vibe", 4, kept)):
            meta: dict[str, Any] = {"kiro": {"customAgents": []}}
            agent = Agent(10_000, dialect="kiro-acp-v3", agent_name="mine", session_meta=meta)
            self.assertEqual(agent.next_request()["params"]["_meta"], meta)
            agent.session("s1", **V3_SESSION)
            agent.set_option()
            events = [event for _ in range(attempts) for event in agent.set_option(value)]
            self.assertEqual(events, [expected])

    def test_effort(self) -> None:
        """
        Engine v3 is told the effort, and one that it does not know is no failure.
        """
        agent = Agent.v3(effort="high")
        self.assertEqual(agent.set_option(), [])
        params = agent.next_request()["params"]
        self.assertEqual((params["configId"], params["value"]), ("effortLevel", "high"))
        self.assertEqual(agent.error(-32602, "unknown"), [Ready()])


class ModelTests(SynchronousTestCase):
    """
    Tests for the choice of a model.
    """

    def test_select(self) -> None:
        """
        A prompt follows when its model was selected; the next one is for the session's own.
        """
        agent = Agent.v2()
        self.assertEqual(agent.conversation.models, ("auto", "haiku"))
        self.assertTrue(agent.conversation.selects_models)
        request = agent.ask(model="haiku")
        self.assertEqual(request["method"], "session/set_model")
        self.assertEqual(request["params"], {"sessionId": "s1", "modelId": "haiku"})
        self.assertEqual(agent.result({}), [])
        self.assertEqual(agent.next_request()["method"], "session/prompt")
        self.assertEqual(agent.stop(), [Answered("", "response")])
        self.assertEqual(agent.ask(model="haiku")["method"], "session/prompt")
        agent.stop()
        agent.clear()
        self.assertEqual(agent.result(_CLEARED), [Cleared()])
        request = agent.ask()
        self.assertEqual(request["params"], {"sessionId": "s1", "modelId": "auto"})
        agent.result({})
        self.assertEqual(agent.next_request()["method"], "session/prompt")

    def test_unknown(self) -> None:
        """
        A model that the agent does not offer fails the turn before there is one.
        """
        agent = Agent.v2()
        failure = AgentFailure(FailureKind.MODEL_GONE, "the agent offers no model gpt")
        self.assertEqual(agent.conversation.ask("What?", "gpt"), b"")
        self.assertEqual(agent.conversation.quiet_timeout, 0)
        self.assertFalse(agent.conversation.at_prompt)
        self.assertEqual(agent.conversation.on_quiet(), [failure])
        self.assertEqual(agent.conversation.failure, failure)
        self.assertTrue(agent.conversation.at_prompt)
        self.assertEqual(agent.ask()["method"], "session/prompt")

    def test_unknown_and_interrupted(self) -> None:
        """
        A turn without a model that is given up is over, and no failure.
        """
        agent = Agent.v2()
        agent.conversation.ask("What?", "gpt")
        self.assertEqual(agent.conversation.interrupt(), b"")
        self.assertEqual(agent.conversation.on_quiet(), [Ready()])
        self.assertIs(agent.conversation.failure, None)

    def test_refused(self) -> None:
        """
        A model that cannot be selected fails the turn, and the next turn selects again.
        """
        agent = Agent.v2()
        agent.ask(model="haiku")
        [event] = agent.error(-32603, "Internal error", "Invalid model ID: haiku")
        assert isinstance(event, AgentFailure), event
        self.assertEqual(event.kind, FailureKind.MODEL_GONE)
        self.assertEqual(agent.ask()["method"], "session/set_model")

    def kept(self, **session: Any) -> Agent:
        """
        Return an agent that keeps its conversation, in which haiku has answered if it may.
        """
        agent = Agent(10_000, dialect="kiro-acp").started(**session)
        agent.conversation.expects_clear = False
        return agent

    def test_own_model_is_lost(self) -> None:
        """
        A turn never has the model of the turn before: where the own model is not known, or is
        not offered, none can be chosen in a conversation that is kept.
        """
        offered = [{"modelId": "haiku"}]
        for models in ({}, {"currentModelId": "auto", "availableModels": offered}):
            agent = self.kept(models=models)
            self.assertEqual(agent.conversation.ask("What?", "haiku"), b"")
            [event] = agent.conversation.on_quiet()
            self.assertIsInstance(event, AgentFailure)
            self.assertEqual(agent.ask()["method"], "session/prompt")

    def test_cannot_be_restored(self) -> None:
        """
        A session whose own model cannot be selected again is replaced.
        """
        offered = [{"modelId": "haiku"}]
        for models in ({}, {"currentModelId": "auto", "availableModels": offered}):
            agent = Agent(10_000, dialect="kiro-acp").started(models=models)
            self.assertEqual(agent.ask(model="haiku")["method"], "session/set_model")
            agent.result({})
            agent.next_request()
            agent.stop()
            self.assertEqual(agent.clear()["method"], "session/new")
        agent = Agent.v2()
        agent.ask(model="haiku")
        agent.result({})
        agent.next_request()
        agent.stop()
        self.assertEqual(agent.clear()["method"], "_kiro.dev/commands/execute")
        agent.result(_CLEARED)
        self.assertEqual(agent.ask()["method"], "session/set_model")
        [event] = agent.error(-32603, "Internal error")
        self.assertIsInstance(event, AgentFailure)
        self.assertEqual(agent.clear()["method"], "session/new")

    def test_failed_choice(self) -> None:
        """
        A choice that failed does not hide that another model was chosen before.
        """
        agent = Agent(10_000, dialect="kiro-acp").started()
        for model in ("haiku", "opus"):
            agent.ask(model=model)
            if model == "haiku":
                agent.result({})
                agent.next_request()
                agent.stop()
        agent.error(-32603, "Internal error")
        self.assertEqual(agent.clear()["method"], "session/new")

    def test_interrupted(self) -> None:
        """
        A turn that is given up while its model is selected gets no prompt.
        """
        agent = Agent.v2()
        agent.ask(model="haiku")
        self.assertEqual(agent.conversation.interrupt(), b"")
        self.assertEqual(agent.result({}), [Ready()])
        self.assertEqual(agent.data_to_send(), [])
        self.assertTrue(agent.conversation.at_prompt)

    def test_late_output(self) -> None:
        """
        Output that arrives while the model is selected is late, and so is a cost.
        """
        agent = Agent.v2()
        take_turn(agent)
        agent.ask(model="haiku")
        self.assertEqual(agent.chunk("late"), [LateOutput("late")])
        spent = [{"value": 1.5, "unit": "credit"}]
        self.assertEqual(agent.kiro(".dev/metadata", meteringUsage=spent), [])
        agent.result({})
        agent.next_request()
        self.assertEqual(agent.stop(), [Answered("", "response", usage=Usage())])

    def test_options(self) -> None:
        """
        Engine v3 has an option for the model, which it may list late.
        """
        agent = Agent.v3()
        agent.set_option()
        self.assertEqual(agent.conversation.models, ())
        model = config_option("model", "auto", "haiku")
        agent.update(sessionUpdate="config_option_update", configOptions=[model])
        self.assertEqual(agent.conversation.models, ("auto", "haiku"))
        request = agent.ask(model="haiku")
        self.assertEqual(request["method"], "session/set_config_option")
        params = {"sessionId": "s1", "configId": "model", "value": "haiku"}
        self.assertEqual(request["params"], params)
        chosen = config_option("model", "haiku", "auto")
        # The agent may tell about it before it responds.
        agent.update(sessionUpdate="config_option_update", configOptions=[chosen])
        self.assertEqual(agent.result({"configOptions": [chosen]}), [])
        self.assertEqual(agent.next_request()["method"], "session/prompt")
        agent.stop()
        self.assertEqual(agent.ask()["params"]["value"], "auto")
        [event] = agent.result({"configOptions": [chosen]})
        assert isinstance(event, AgentFailure), event
        self.assertEqual(event.kind, FailureKind.MODEL_GONE)

    def test_every_session(self) -> None:
        """
        A model for all turns is selected before a session is ready, and must be offered.
        """
        agent = Agent(dialect="kiro-acp", model="haiku")
        agent.next_request()
        self.assertEqual(agent.session("s1", **V2_SESSION), [])
        self.assertEqual(agent.next_request()["method"], "session/set_model")
        self.assertEqual(agent.result({}), [Ready()])
        self.assertEqual(agent.ask()["method"], "session/prompt")
        agent = Agent(dialect="kiro-acp", model="gpt")
        agent.next_request()
        [event] = agent.session("s1", **V2_SESSION)
        assert isinstance(event, AgentFailure), event
        self.assertEqual(event.kind, FailureKind.MODEL_GONE)

    def test_any_agent(self) -> None:
        """
        Another agent can be given a model if it offers some.
        """
        agent = Agent(dialect="acp").started(models=V2_SESSION["models"])
        self.assertTrue(agent.conversation.selects_models)
        self.assertEqual(agent.ask(model="haiku")["method"], "session/set_model")
        self.assertFalse(Agent(dialect="acp").started().conversation.selects_models)

    @given(st.recursive(st.none() | st.integers() | st.text(), st.lists, max_leaves=5))
    def test_odd_sessions(self, value: Any) -> None:
        """
        A session with any description of itself can be used, or fails as a whole.
        """
        for session in (
            {"modes": value, "models": value, "configOptions": value},
            {"models": {"currentModelId": value, "availableModels": [value]}},
            {"configOptions": [{"id": "model", "currentValue": "x", "options": [value]}, value]},
        ):
            agent = Agent(dialect="kiro-acp")
            agent.next_request()
            self.assertEqual(agent.session("s1", **session), [Ready()])
