"""
End-to-end tests for what Kiro does over ACP, in its engines v2 and v3.

The agent is `tests.kiro_acp`, whose messages are those of captures of the real program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import treq
from twisted.internet.defer import Deferred, gatherResults

from kiroworkers.errors import FailureKind
from tests.end_to_end.test_acp import GENERIC
from tests.end_to_end.test_answers import events_in
from tests.kiro_acp.failures import V2, V3, Failure
from tests.programs import alive
from tests.servers import ServerTestCase

ENGINES = (("kiro-acp", "v2"), ("kiro-acp-v3", "v3"))


class KiroAcpTestCase(ServerTestCase):
    """
    Start servers with a Kiro that is driven over ACP.
    """

    async def start_kiro(
        self, agent: str, *options: str, workers: int = 1, faults: str = "", **env: str
    ) -> None:
        """
        Start a server with one engine, by default with one worker.
        """
        env = {"FAKEKIRO": faults, "FAKEKIRO_VERSION": "2.28.0", **env}
        options = ("--restart-delay", "0.1", *options)
        await self.start("--agent", agent, *options, workers=workers, **env)

    async def stop(self) -> None:
        await super().stop()
        self.typed.lines.clear()

    async def expect(self, idea: str, kind: FailureKind, **kwargs: Any) -> int | None:
        """
        Request a story that fails as `kind`; return the seconds of Retry-After, or None.
        """
        response, body = await self.story(idea, **kwargs)
        # What makes the stand-in fail is in the prompt.
        status = kind.status_for(prompted="[[" in idea)
        self.assertEqual((response.code, body.get("code")), (status, kind), (idea, body))
        values = response.headers.getRawHeaders("Retry-After")
        return None if values is None else int(values[0])

    async def expect_story(self, idea: str, **kwargs: Any) -> Any:
        """
        Request a story that is answered, by a conversation that knows of no other request;
        return the response.
        """
        response, story = await self.story(idea, **kwargs)
        self.assertEqual((response.code, story.get("title")), (200, idea), story)
        self.assertEqual(story["acceptanceCriteria"], ["0 earlier prompts remembered"])
        return response

    def prompts(self, text: str = "") -> int:
        """
        Return how many prompts with `text` were submitted.
        """
        return sum(line.startswith("Task: ") and text in line for line in self.typed.lines)


class FailureTests(KiroAcpTestCase):
    """
    Tests for failures of Kiro's service, in the words in which it reports them.
    """

    async def test_account(self) -> None:
        """
        Each failure of the account has the right code and an honest Retry-After, and nobody's
        prompt is submitted to that agent any more.
        """
        failures = {
            f"{engine}-{name}": (agent, name, failure)
            for (agent, engine), texts in zip(ENGINES, (V2, V3), strict=True)
            for name, failure in texts.items()
            if failure.kind.affects_all_sessions
        }
        self.assertGreaterEqual(len(failures), 20)
        agents: list[str] = []
        for name, (agent, _, _) in failures.items():
            dialect = self.folder / f"{name}.toml"
            dialect.write_text(f'extends = "{agent}"\nname = "{name}"\n')
            agents += ["--agent", f"{dialect}=1"]
        self.server = self.run_twistd(
            *("--port", "0", "--graceful-timeout", "0.1", *agents), FAKEKIRO_VERSION="2.28.0"
        )
        self.addCleanup(self.stop)
        port = await self.server.says(r"listening on .*port=(\d+)")
        self.base = f"http://127.0.0.1:{port[1]}"
        # The workers of the first agent are named without it.
        for prefix in (" ", *[f" {name}-" for name in failures][1:]):
            await self.server.says(f"{prefix}worker1: ready")
        for name, (_, fault, failure) in failures.items():
            await self._expect_outage(name, fault, failure)
        for name in failures:
            self.assertEqual(self.prompts(f'"{name} '), 1, name)

    async def _expect_outage(self, name: str, fault: str, failure: Failure) -> None:
        kind = failure.kind
        assert kind.probe_delays is not None
        first = failure.wait or kind.probe_delays[0]
        headers = {"X-Agent": name}
        for idea in (f"{name} [[error={fault}]]", f"{name} is refused"):
            seconds = await self.expect(idea, kind, headers=headers)
            assert seconds is not None, idea
            self.assertTrue(first - 30 < seconds <= first, (idea, seconds))

    async def test_request(self) -> None:
        """
        A failure of one request has the right code, and the next request is answered.
        """
        for (agent, _), failures in zip(ENGINES, (V2, V3), strict=True):
            await self.start_kiro(agent)
            for name, failure in failures.items():
                if not failure.kind.affects_all_sessions:
                    seconds = await self.expect(f"x [[error={name}]]", failure.kind)
                    self.assertEqual(seconds is not None, failure.kind.retryable)
            await self.expect_story("the next")
            await self.stop()

    async def test_suspended(self) -> None:
        """
        After the account was suspended, no prompt is submitted: not those of requests that
        wait, and not those of requests that come later.  A turn that runs is not disturbed.
        """
        for agent, _ in ENGINES:
            await self.start_kiro(agent, workers=2)
            running = self.story("running [[think=6]]")
            await self.typed.wait_for("running")
            failing = self.story("failing [[error=suspended think=1]]")
            await self.typed.wait_for("failing")
            waiting = [self.story(f"waits {number}") for number in range(6)]
            answers = await gatherResults([failing, *waiting])
            later = [await self.story(f"comes later {number}") for number in range(6)]
            for response, body in answers + later:
                # Only the first one was sent to an agent.
                status = 502 if body is answers[0][1] else 503
                self.assertEqual((response.code, body["code"]), (status, "suspended"), body)
                self.assertTrue(540 < int(self.header(response, "Retry-After")) <= 600)
            response, _ = await running
            self.assertEqual(response.code, 200)
            self.assertEqual(self.prompts(), 2)
            await self.stop()

    async def test_bare(self) -> None:
        """
        An error without words means what error/rate_limit said before it for the same session,
        and nothing if it was said for another one.
        """
        await self.start_kiro("kiro-acp")
        await self.expect("x [[bare stranger]]", FailureKind.AGENT_ERROR)
        await self.expect_story("y [[stranger]]")
        await self.expect("x [[bare=model-selected]]", FailureKind.MODEL_GONE)
        await self.expect("x [[bare=monthly]]", FailureKind.OUT_OF_CREDITS)

    async def test_refused(self) -> None:
        """
        A refusal of the model is recognized in the response and apart from it.
        """
        for agent, faults in (
            ("kiro-acp", ("stop=refusal", "filtered", "filtered=error")),
            ("kiro-acp-v3", ("stop=refusal",)),
        ):
            await self.start_kiro(agent)
            for fault in faults:
                await self.expect(f"x [[{fault}]]", FailureKind.REFUSAL)
            await self.expect_story("the next")
            await self.stop()


class EndingTests(KiroAcpTestCase):
    """
    Tests for the ends of turns.
    """

    async def test_without_response(self) -> None:
        """
        A turn to which Kiro never responds fails before its deadline, for the reason that Kiro
        gave, and the next request is answered.
        """
        await self.start_kiro("kiro-acp", workers=3)
        failures = [
            self.expect(f"x [[{fault}]]", kind)
            for fault, kind in (
                ("interrupted", FailureKind.TOOL_INTERRUPTED),
                ("compact=failed", FailureKind.CONTEXT_FULL),
                ("compact=silent", FailureKind.CONTEXT_FULL),
            )
        ]
        await gatherResults(map(Deferred.fromCoroutine, failures))
        for _ in failures:
            await self.expect_story("the next")
        await self.expect("x [[compact=throttled]]", FailureKind.THROTTLED)

    async def test_quoted(self) -> None:
        """
        The sentence by which Kiro ends a turn may be quoted in an answer.
        """
        await self.start_kiro("kiro-acp")
        await self.expect_story("x [[quoted stay=12]]")

    async def test_text_after_the_end(self) -> None:
        """
        The last characters of an answer may come after the end of its turn: they are awaited,
        and no further turn is paid for.
        """
        generic = ("acp", "--agent-command", GENERIC)
        for agent in (("kiro-acp",), ("kiro-acp-v3",), generic):
            await self.start_kiro(*agent)
            for seconds in ("0.005", "0.02", "0.05", "0.1"):
                idea = f"x [[tail={seconds}]]"
                response = await self.expect_story(idea)
                self.assertFalse(response.headers.hasHeader("X-Kiroworkers-Repairs"))
                self.assertEqual(self.prompts(idea), 1)
            await self.expect_story("the next")
            await self.stop()

    async def test_text_before_the_response(self) -> None:
        """
        In engine v3 only the response ends a turn, and a turn that nobody asked for answers
        nobody.
        """
        await self.start_kiro("kiro-acp-v3")
        for fault in ("thought", "more", "wake", "display", "again stall=2", ""):
            await self.expect_story(f"x [[{fault}]]")

    async def test_cancelled(self) -> None:
        """
        A turn whose deadline passes is cancelled, and the same process goes on.
        """
        for (agent, _), faults in zip(ENGINES, (("silent", "oauth"), ("silent",)), strict=True):
            await self.start_kiro(agent)
            pids = await self.pids()
            for fault in faults:
                response, body = await self.story(
                    f"x [[{fault}]]", headers={"X-Request-Timeout": "1"}
                )
                self.assertEqual((response.code, body["code"]), (504, "timed_out"))
                await self.expect_story("the next")
            self.assertEqual(await self.pids(), pids)
            await self.stop()


class SessionTests(KiroAcpTestCase):
    """
    Tests for the sessions that Kiro keeps.
    """

    async def test_cleared(self) -> None:
        """
        Engine v2 is cleared in place: there is one session and one history, however many
        requests there are.
        """
        home = self.folder / "kiro-home"
        home.mkdir()
        await self.start_kiro("kiro-acp", KIRO_HOME=str(home))
        for number in range(8):
            await self.expect_story(f"x {number}")
        # What was typed is read before the health is.
        await self.typed.wait_for("x 7")
        self.assertEqual(self.typed.lines.count("session/new"), 1)
        self.assertEqual(len(list(home.rglob("*.jsonl"))), 1)

    async def test_not_cleared(self) -> None:
        """
        No request meets the conversation of another one if a session is not cleared, or if
        Kiro does not prove it.
        """
        for clear in ("refused", "unproven", "late", "early"):
            await self.start_kiro("kiro-acp", "--stop-timeout", "0.2", faults=f"clear={clear}")
            for number in range(3):
                await self.expect_story(f"{clear} {number}")
            await self.stop()

    async def test_replaced(self) -> None:
        """
        In engine v3 each request has a session of its own, and the one before is closed.
        """
        await self.start_kiro("kiro-acp-v3")
        for number in range(4):
            await self.expect_story(f"x {number}")
        await self.typed.wait_for("session/close")
        self.assertGreaterEqual(self.typed.lines.count("session/new"), 4)

    async def test_slow_session(self) -> None:
        """
        The next session is opened while a turn runs, so that no request waits for it.
        """
        await self.start_kiro("kiro-acp-v3")
        turn = self.story("a [[silent]]")
        await self.typed.wait_for("a [[silent]]")
        # The first one was for this turn, which never ends.
        await self.typed.wait_for("session/new", times=2)
        turn.cancel()
        await self.assertFailure(turn, Exception)
        await self.expect_story("b")

    async def test_autopilot(self) -> None:
        """
        Engine v3 is told to ask before it uses a tool.
        """
        await self.start_kiro("kiro-acp-v3")
        response = await self.expect_story("x [[approve]]")
        self.assertEqual(self.header(response, "X-Kiroworkers-Tools-Denied"), "1")
        self.assertFalse(response.headers.hasHeader("X-Kiroworkers-Tools-Unasked"))

    async def test_question(self) -> None:
        """
        A question of the model to its user is not answered with one of its options.
        """
        await self.start_kiro("kiro-acp-v3", "--tools", "allow")
        response, _ = await self.story("x [[question]]")
        self.assertNotEqual(response.code, 500)
        await self.typed.wait_for("question ")
        self.assertIn("question cancelled", self.typed.lines)
        await self.expect_story("the next")

    async def test_token(self) -> None:
        """
        A session works although it is asked for the token of the login, which it does not have.
        """
        dialect = self.folder / "token.toml"
        dialect.write_text(
            'extends = "kiro-acp-v3"\nname = "token"\n'
            '[start]\nprogram = "kiro-cli"\narguments = ["acp", "--agent-engine", "v3"]\n'
        )
        self.server = self.run_twistd(
            *("--port", "0", "--workers", "1", "--agent", str(dialect)), FAKEKIRO_VERSION="2.28.0"
        )
        self.addCleanup(self.stop)
        await self.server.says("worker1: (ready|.*login)")

    async def test_tree(self) -> None:
        """
        Both processes of Kiro end with the server, although engine v3 outlives its input.
        """
        for agent, _ in ENGINES:
            await self.start_kiro(agent, "--stop-timeout", "0.2")
            await self.expect_story("x [[orphan]]")
            await self.typed.wait_for("child ")
            pids = await self.pids()
            pids += [int(line.split()[1]) for line in self.typed.lines if "child " in line]
            await self.stop()
            self.assertEqual([pid for pid in pids if alive(pid)], [])


class ProgressTests(KiroAcpTestCase):
    """
    Tests for what Kiro reports while it answers.
    """

    async def stream(self, idea: str) -> list[tuple[str, Any]]:
        """
        Request a story as a stream, and return its events.
        """
        headers: Any = {"Accept": "text/event-stream"}
        response = await treq.post(
            f"{self.base}/kiro/generate-story",
            json={"idea": idea},
            headers=headers,
            persistent=False,
        )
        return events_in((await response.content()).decode())

    async def test_notices(self) -> None:
        """
        Compaction, retries, stalls and another model are events of the stream; the answer
        follows.
        """
        v2: Mapping[str, str] = {
            "compact": "compaction",
            "compact=dropped": "compaction",
            "stall=2": "stall",
            "retry=3": "retry",
            "fallback": "model_fallback",
        }
        v3: Mapping[str, str] = {"compact": "compaction", "stall=2": "retry"}
        for (agent, _), faults in zip(ENGINES, (v2, v3), strict=True):
            await self.start_kiro(agent)
            for fault, kind in faults.items():
                events = await self.stream(f"x [[{fault}]]")
                kinds = [data["kind"] for name, data in events if name == "notice"]
                self.assertIn(kind, kinds, fault)
                self.assertEqual(events[-1][1]["title"], f"x [[{fault}]]")
            await self.stop()

    async def test_discarded(self) -> None:
        """
        What Kiro takes back, or sends again, is no part of the answer, and a stream says that
        it no longer counts.
        """
        for agent, fault in (("kiro-acp", "discard"), ("kiro-acp-v3", "again")):
            await self.start_kiro(agent)
            idea = f"x [[{fault} pretty]]"
            await self.expect_story(idea)
            events = await self.stream(idea)
            retries = [data["where"] for name, data in events if name == "retry"]
            self.assertEqual(retries, ["same_turn"])
            last = max(number for number, (name, _) in enumerate(events) if name == "retry")
            text = "".join(data["text"] for name, data in events[last:] if name == "text")
            self.assertEqual(text.count('"title"'), 1, text)
            self.assertNotIn("draft", text)
            self.assertEqual(events[-1][1]["title"], idea)
            self.assertEqual(self.prompts(idea), 2)
            await self.stop()

    async def test_usage(self) -> None:
        """
        The credits of all model calls and the share of the context are headers.
        """
        for agent, _ in ENGINES:
            await self.start_kiro(agent)
            for idea, used in (("x", "0.02"), ("x [[tool=read]]", "0.03"), ("y", "0.02")):
                response = await self.expect_story(idea)
                self.assertEqual(self.header(response, "X-Kiroworkers-Credits"), used)
                context = float(self.header(response, "X-Kiroworkers-Context"))
                self.assertTrue(0 < context < 10, context)
            await self.stop()


class ModelTests(KiroAcpTestCase):
    """
    Tests for the choice of a model.
    """

    async def test_chosen(self) -> None:
        """
        A request may choose one of the models of --models; the next one gets the session's own.
        """
        for agent, _ in ENGINES:
            await self.start_kiro(agent, "--models", "claude-*")
            for model in ("claude-haiku-4.5", None, "claude-sonnet-5", None):
                headers = {} if model is None else {"X-Model": model}
                response, story = await self.story("x [[whose]]", headers=headers)
                self.assertEqual(response.code, 200, story)
                self.assertEqual(story["iWant"], f"{model or 'auto'}'s answer")
                headers = {name: value for name, value in headers.items() if value}
                header = response.headers.getRawHeaders("X-Kiroworkers-Model")
                self.assertEqual(header, None if model is None else [model])
            await self.stop()

    async def test_refused(self) -> None:
        """
        A model that clients may not choose, or that Kiro does not offer, is refused before a
        prompt is submitted.
        """
        for agent, _ in ENGINES:
            await self.start_kiro(agent, "--models", "claude-*")
            await self.expect_story("x")
            for model in ("auto", "claude-nobody-1"):
                response, body = await self.story("refused", headers={"X-Model": model})
                self.assertEqual((response.code, body["code"]), (400, "unknown_model"), body)
            await self.expect_story("y")
            await self.typed.wait_for('"y"')
            self.assertEqual(self.prompts("refused"), 0)
            await self.stop()
