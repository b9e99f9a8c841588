"""
Tests for how clients choose a model, on a server in memory.
"""

from __future__ import annotations

import json
import re
from typing import Any

from attrs import evolve
from twisted.logger import capturedLogs, eventAsText
from twisted.trial.unittest import SynchronousTestCase

from tests import fakekiro
from tests.memory import MemoryAcp
from tests.web.test_errors import CHAT, STORY, MemoryServer, Response

#: The models that the agent offers.
OFFERED = ("auto", "gpt-5", "gpt-5-mini", "anthropic/claude", "with space")


def story_for(prompt: str) -> str:
    """
    Return a valid answer to a prompt that asks for a story.
    """
    story = fakekiro.answer_text(prompt)
    assert story is not None
    return story


class ModelAcp(MemoryAcp):
    """
    An agent that speaks ACP, offers models, and answers each prompt at once.

    Attributes:
        model: The model in use.
        used: The model that was in use at each prompt.
        credits: What each turn costs; None if the agent does not say.
    """

    credits: float | None = None

    def __init__(self) -> None:
        super().__init__()
        self.model = "auto"
        self.used: list[str] = []

    def _serve(self, message: Any) -> None:
        match message:
            case {"method": "session/new", "id": id}:
                self.session += 1
                self.model = "auto"
                models = [{"modelId": name, "name": name} for name in OFFERED]
                result = {"currentModelId": self.model, "availableModels": models}
                self._send(id=id, result={"sessionId": f"s{self.session}", "models": result})
            case {"method": "session/set_model", "id": id, "params": {"modelId": model}}:
                self.model = model
                self._send(id=id, result={})
            case {"method": "_kiro.dev/commands/execute", "id": id}:
                self._send(id=id, result={"success": True, "message": "Conversation cleared"})
            case {"method": "session/prompt"}:
                super()._serve(message)
                self.used.append(self.model)
                self.answer()
            case _:
                super()._serve(message)

    def text_for(self, prompt: str) -> str:
        """
        Return the answer to `prompt`.
        """
        return story_for(prompt) if "storyPoint" in prompt else '{"reply": "Hi"}'

    def answer(self) -> None:
        """
        Answer the prompt, and say what it cost.
        """
        self.chunk(self.text_for(self.typed[-1]))
        if self.credits is not None:
            params = {
                "sessionId": f"s{self.session}",
                "contextUsagePercentage": 12.5,
                "meteringUsage": [{"value": self.credits, "unit": "credit"}],
            }
            self._send(method="_kiro.dev/metadata", params=params)
        self.end_turn()


class ModelsTestCase(SynchronousTestCase):
    """
    Start a server whose agent offers models.

    Attributes:
        server: The server.
    """

    def begin(self, *models: str, dialect: str = "kiro-acp", **options: Any) -> None:
        self.server = MemoryServer(ModelAcp, dialect, models=models, **options)

    @property
    def used(self) -> list[str]:
        """
        Return the models that answered, one for each prompt.
        """
        return [name for program in self.server.reactor.programs for name in program.used]  # type: ignore[attr-defined]

    def chat(self, model: str, **more: Any) -> Response:
        body = {"model": model, "messages": [{"role": "user", "content": "Hi"}], **more}
        return self.server.request("POST", CHAT, body)

    def body(self, response: Response) -> Any:
        return json.loads(response.content)

    def job(self, **headers: str) -> Any:
        """
        Create a job, and return it when it has ended.
        """
        response = self.server.story(Prefer="respond-async", **headers)
        self.assertEqual(response.status, 202, response)
        return self.body(self.server.request("GET", self.body(response)["location"]))


class HeaderTests(ModelsTestCase):
    """
    Tests for ``X-Model``, and for the model of a task.
    """

    def test_chosen(self) -> None:
        """
        The model that the client chooses answers, and a header names it; the next request gets
        the agent's own again, and no header.
        """
        self.begin("gpt-*")
        response = self.server.story(X_Model="gpt-5")
        self.assertEqual((response.status, response.headers["x-kiroworkers-model"]), (200, "gpt-5"))
        response = self.server.story()
        self.assertEqual((response.status, self.used), (200, ["gpt-5", "auto"]))
        self.assertNotIn("x-kiroworkers-model", response.headers)

    def test_refused(self) -> None:
        """
        A model that no pattern allows, that the agent does not offer, or that is no name is
        refused before anything is queued, with the name of the header.
        """
        self.begin("gpt-*", "with*")
        for model in ("auto", "gpt-6", "GPT-5", "with space", "", "\xe4", "gpt-" + "5" * 1000):
            # An empty value would be left out.
            response = self.server.story(X_Model=model or " ")
            error = response.error
            self.assertEqual((response.status, error["code"]), (400, "unknown_model"), model)
            self.assertEqual(error["field"], "X-Model")
            self.assertLess(len(error["error"]), 300)
        self.begin()
        self.assertEqual(self.server.story(X_Model="gpt-5").error["code"], "unknown_model")
        self.assertEqual(self.used, [])

    def test_other_agent(self) -> None:
        """
        An agent that cannot be given a model refuses each.
        """
        server = MemoryServer(models=("*",))
        self.assertEqual(server.story(X_Model="auto").error["code"], "unknown_model")

    def test_task(self) -> None:
        """
        The task's model answers whatever clients may choose, unless the client chooses another.
        """
        self.begin("gpt-5")
        task = self.server.tasks["generate-story"]
        self.server.tasks["generate-story"] = evolve(task, model="anthropic/claude")
        response = self.server.story()
        self.assertEqual(response.headers["x-kiroworkers-model"], "anthropic/claude")
        self.server.story(X_Model="gpt-5")
        self.assertEqual(self.used, ["anthropic/claude", "gpt-5"])

    def test_task_of_another_agent(self) -> None:
        """
        A task whose model its agent does not offer is refused, with the key of the task file.
        """
        self.begin("*")
        task = self.server.tasks["generate-story"]
        self.server.tasks["generate-story"] = evolve(task, model="gpt-6")
        error = self.server.story().error
        self.assertEqual((error["code"], error["field"]), ("unknown_model", "model"))

    def test_idempotency(self) -> None:
        """
        A request for another model is another request, and an answer is replayed with its
        headers.
        """
        self.begin("gpt-*")
        key = {"Idempotency_Key": "k1", "X_Model": "gpt-5"}
        for replayed in (None, "true"):
            response = self.server.story(**key)
            self.assertEqual(response.headers.get("idempotency-replayed"), replayed)
            self.assertEqual(response.headers["x-kiroworkers-model"], "gpt-5")
        for headers in ({"X_Model": "gpt-5-mini"}, {"X_Model": ""}):
            error = self.server.story(**{**key, **headers}).error
            self.assertEqual(error["code"], "idempotency_mismatch", headers)

    def test_job(self) -> None:
        """
        A job keeps the model that was chosen for it.
        """
        self.begin("gpt-*")
        job = self.job(X_Model="gpt-5")
        self.assertEqual((job["state"], job["model"], self.used), ("done", "gpt-5", ["gpt-5"]))
        self.assertIsNone(self.job()["model"])
        response = self.server.story(Prefer="respond-async", X_Model="gpt-6")
        self.assertEqual(response.error["code"], "unknown_model")

    def test_queue(self) -> None:
        """
        An operator sees the model of a request.
        """
        self.begin("gpt-*")
        self.server.dispatcher.pause()
        self.server.begin("POST", STORY, {"idea": "An idea"}, X_Model="gpt-5")
        requests = self.body(self.server.request("GET", "/operator/queue"))["requests"]
        self.assertEqual([request["model"] for request in requests], ["gpt-5"])


class OpenAITests(ModelsTestCase):
    """
    Tests for models of the form ``AGENT/MODEL``.
    """

    def names(self) -> list[str]:
        models = self.body(self.server.request("GET", "/v1/models"))["data"]
        return [model["id"] for model in models]

    def test_listed(self) -> None:
        """
        The models that clients may choose are listed beside the agents.
        """
        self.begin("gpt-*", "*/claude", "with*")
        agents = ["kiro", "default", "kiroworkers"]
        chosen = ["kiro/gpt-5", "kiro/gpt-5-mini", "kiro/anthropic/claude"]
        self.assertEqual(self.names(), agents + chosen)
        self.begin()
        self.assertEqual(self.names(), agents)

    def test_retrieved(self) -> None:
        """
        A model is retrieved by its name, whose slashes may be encoded; one that cannot be chosen
        gets 404, as one that does not exist.
        """
        self.begin("gpt-*", "*/claude")
        for name in ("kiro", "default", "kiro/gpt-5", "kiro/anthropic/claude", "default/gpt-5"):
            for path in (name, name.replace("/", "%2F"), name.replace("/", "%2f")):
                response = self.server.request("GET", f"/v1/models/{path}")
                self.assertEqual((response.status, self.body(response)["id"]), (200, name))
        for path in ("kiro/auto", "kiro%2Fauto", "q/gpt-5", "q", "kiro%2F%C3%A4"):
            response = self.server.request("GET", f"/v1/models/{path}")
            self.assertEqual(
                (response.status, response.error["code"]), (404, "model_not_found"), path
            )
        for path in ("kiro/", "kiro//gpt-5", "kiro/../kiro", "kiro%2F", "kiro%2F%2e%2E"):
            response = self.server.request("GET", f"/v1/models/{path}")
            self.assertEqual((response.status, response.error["code"]), (404, "not_found"), path)

    def test_completed(self) -> None:
        """
        The agent's model answers, whole or as a stream; the completion has the name that was
        asked for.
        """
        self.begin("gpt-*", "*/claude")
        for name in ("kiro/gpt-5", "default/gpt-5-mini", "kiro/anthropic/claude", "kiro"):
            response = self.chat(name)
            self.assertEqual((response.status, self.body(response)["model"]), (200, name))
            model = name.partition("/")[2] or None
            self.assertEqual(response.headers.get("x-kiroworkers-model"), model)
        self.assertEqual(self.chat("kiro/gpt-5", stream=True).status, 200)
        self.assertEqual(self.used, ["gpt-5", "gpt-5-mini", "anthropic/claude", "auto", "gpt-5"])

    def test_refused(self) -> None:
        """
        Another model of an agent gets 400 with the field, and another agent 404, both in the
        format of OpenAI's API and before anything is queued.
        """
        self.begin("gpt-*", "*\ud800")
        for name in (
            "kiro/auto",
            "default/gpt-6",
            "kiro/gpt-5 ",
            "kiro/\ud800",
            "kiro/gpt-" + "5" * 9000,
        ):
            response = self.chat(name)
            self.assertEqual(response.status, 400, name)
            error = response.error
            self.assertEqual((error["code"], error["param"]), ("unknown_model", "model"))
            self.assertEqual(error["type"], "invalid_request_error")
        for name in ("q/gpt-5", "gpt-5", "kiro/", "/gpt-5", "/"):
            response = self.chat(name)
            self.assertEqual((response.status, response.error["code"]), (404, "model_not_found"))
        self.assertEqual(self.used, [])

    def test_discarded(self) -> None:
        """
        If Kiro's service restarts an answer of which text was sent, the stream goes on with the
        new answer if it begins with that text, and otherwise ends with an error.
        """

        def answer(acp: ModelAcp) -> None:
            acp.chunk('{"reply": "One t')
            update = {"sessionUpdate": "stream_discarded"}
            params = {"sessionId": f"s{acp.session}", "update": update}
            acp._send(method="_kiro.dev/session/update", params=params)
            acp.chunk(f'{{"reply": "{reply}"}}')
            acp.end_turn()

        self.patch(ModelAcp, "answer", answer)
        self.begin()
        for reply, end in (("One two", "[DONE]"), ("Two", '"code":"taken_back"')):
            content = self.chat("kiro", stream=True).content.decode()
            texts = re.findall(r'"content":"([^"]+)"', content)
            self.assertIn(end, content)
            self.assertEqual("".join(texts), "One two" if reply == "One two" else "One t")

    def test_described(self) -> None:
        """
        The API's description has the header and the names only if there are models to choose.
        """
        for models, names in [(("gpt-*",), ["gpt-5", "gpt-5-mini"]), ((), None), (("x",), None)]:
            self.begin(*models)
            document = self.body(self.server.request("GET", "/openapi.json"))
            header = document["components"]["parameters"].get("AgentModel")
            self.assertEqual(header and header["schema"]["enum"], names)
            operation = document["paths"][STORY]["post"]
            references = [parameter["$ref"] for parameter in operation["parameters"]]
            self.assertIs("#/components/parameters/AgentModel" in references, names is not None)


class UsageTests(ModelsTestCase):
    """
    Tests for what an agent reports about the cost of a turn.
    """

    def begin_paid(self) -> None:
        """
        Start a server whose agent reports credits.
        """
        self.patch(ModelAcp, "credits", 0.05)
        self.begin()

    def test_headers(self) -> None:
        """
        The credits and the share of the context are in headers, and the credits in the log.
        """
        self.begin_paid()
        with capturedLogs() as events:
            response = self.server.story()
        self.assertEqual(response.headers["x-kiroworkers-credits"], "0.05")
        self.assertEqual(response.headers["x-kiroworkers-context"], "12.5")
        lines = [eventAsText(event) for event in events]
        self.assertTrue(any(" credits=0.050 " in line for line in lines), lines)

    def test_repaired(self) -> None:
        """
        The credits are those of all turns of the request, also if it fails in the end.
        """
        self.begin_paid()
        texts = iter(["No", "No"])
        self.patch(ModelAcp, "text_for", lambda acp, prompt: next(texts, None) or story_for(prompt))
        response = self.server.story()
        # The first worker was asked to correct its answer, and then a second one was asked.
        self.assertEqual(response.headers["x-kiroworkers-attempts"], "2")
        self.assertEqual(response.headers["x-kiroworkers-credits"], "0.15")
        self.patch(ModelAcp, "text_for", lambda acp, prompt: "No")
        with capturedLogs() as events:
            response = self.server.story()
        self.assertEqual(response.error["code"], "answer_unfit")
        lines = [eventAsText(event) for event in events]
        self.assertTrue(any(" credits=0.200 " in line for line in lines), lines)

    def test_unknown(self) -> None:
        """
        An agent that reports nothing gets no such headers, and nothing is made up.
        """
        self.begin()
        headers = self.server.story().headers
        self.assertFalse({"x-kiroworkers-credits", "x-kiroworkers-context"} & {*headers})
        self.assertNotIn("usage", self.job())

    def test_stream(self) -> None:
        """
        A stream has the headers in an event before the answer.
        """
        self.begin_paid()
        content = self.server.story(Accept="text/event-stream").content.decode()
        [text] = re.findall(r"^event: headers\ndata: (.*)$", content, re.M)
        data = json.loads(text)
        self.assertEqual(data["X-Kiroworkers-Credits"], "0.05")
        self.assertEqual(data["X-Kiroworkers-Worker"], "worker1")
        self.assertLess(content.index("event: headers"), content.index("event: answer"))

    def test_job(self) -> None:
        """
        A job has what it used beside its result.
        """
        self.begin_paid()
        self.assertEqual(self.job()["usage"], {"credits": 0.05, "contextPercent": 12.5})

    def test_chat(self) -> None:
        """
        A completion has the headers; its token counts stay estimates.
        """
        self.begin_paid()
        response = self.chat("default")
        self.assertEqual(response.headers["x-kiroworkers-credits"], "0.05")
        self.assertEqual(response.headers["x-kiroworkers-usage"], "estimated")
        self.assertEqual(self.body(response)["usage"]["completion_tokens"], 1)
