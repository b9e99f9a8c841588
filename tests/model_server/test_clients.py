"""
Tests for `kiroworkers.model_server` with the official clients of each protocol, if installed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, TestCase
from twisted.web.server import Site

from kiroworkers.model_server import ModelReply, ModelRequest, ModelServer
from tests.model_server.samples import HARD_CALL, HARD_STRINGS, HARD_TEXT
from tests.realagents import AbortableFactory
from tests.servers import real

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}}
RESULT = "the result of a tool"


def answer(request: ModelRequest) -> ModelReply:
    """
    Return a call if there are tools and no result of one; otherwise the text that is named.
    """
    if request.tools and all(message.role != "tool" for message in request.messages):
        return HARD_CALL
    prompts = [message.text for message in request.messages if message.role == "user"]
    return ModelReply(HARD_STRINGS[prompts[-1]])


class ClientTestCase(TestCase):
    """
    Serve a model, and run clients in threads.
    """

    timeout = 120

    async def use(self, module: str, work: Callable[[Any, str], None]) -> None:
        """
        Call `work` in a thread with the client's module and the server's address.
        """
        try:
            client = await deferToThread(__import__, module, fromlist=["*"])
        except ImportError:
            raise SkipTest(f"{module} is not installed: pip install '.[clients]'") from None
        self.requests: list[ModelRequest] = []
        server = ModelServer(real, answer, on_request=self.requests.append)
        factory = AbortableFactory(Site(server, timeout=None))
        port: Any = real.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(factory.abort_connections)
        self.addCleanup(port.stopListening)
        await deferToThread(work, client, f"http://127.0.0.1:{port.getHost().port}")

    def names(self) -> Iterator[str]:
        """
        Yield the names of all strings that a client can be asked for.

        No client's types allow for half a surrogate pair.
        """
        yield from (name for name in HARD_STRINGS if name != "half a pair")

    def check_call(self, text: str, name: str, arguments: Any) -> None:
        """
        Check the text and the call of `HARD_CALL`.
        """
        assert HARD_CALL.tool is not None
        self.assertEqual((text, name), (HARD_TEXT, "echo"))
        self.assertEqual(arguments, HARD_CALL.tool.arguments)

    def check_result(self) -> None:
        """
        Check that the last request has the result of the tool.
        """
        results = [message.text for message in self.requests[-1].messages if message.role == "tool"]
        self.assertEqual(len(results), 1)
        self.assertIn(RESULT, results[0])


class OpenAITests(ClientTestCase):
    """
    Tests with OpenAI's client.
    """

    async def test_completions(self) -> None:
        """
        Completions are exact, streamed or not, with and without the call of a tool.
        """

        def work(openai: Any, url: str) -> None:
            with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
                completions = client.chat.completions
                for name in self.names():
                    message = {"role": "user", "content": name}
                    body: dict[str, Any] = {"model": "m", "messages": [message]}
                    whole = completions.create(**body)
                    self.assertEqual(whole.choices[0].message.content, HARD_STRINGS[name])
                    with completions.stream(**body) as stream:
                        final = stream.get_final_completion()
                    self.assertEqual(final.choices[0].message.content or "", HARD_STRINGS[name])
                function = {"name": "echo", "parameters": SCHEMA}
                body["tools"] = [{"type": "function", "function": function}]
                with completions.stream(**body) as stream:
                    final = stream.get_final_completion()
                for completion in (completions.create(**body), final):
                    [choice] = completion.choices
                    self.assertEqual(choice.finish_reason, "tool_calls")
                    [call] = choice.message.tool_calls
                    arguments = json.loads(call.function.arguments)
                    self.check_call(choice.message.content, call.function.name, arguments)
                messages = [
                    choice.message.to_dict(),
                    {"role": "tool", "tool_call_id": call.id, "content": RESULT},
                ]
                completions.create(**{**body, "messages": body["messages"] + messages})
                self.check_result()
                self.assertEqual([model.id for model in client.models.list()], ["loopback"])
                with self.assertRaises(openai.NotFoundError):
                    client.embeddings.create(model="m", input="text")

        await self.use("openai", work)

    async def test_responses(self) -> None:
        """
        Responses are exact, streamed or not, with and without the call of a tool.
        """

        def work(openai: Any, url: str) -> None:
            with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
                for name in self.names():
                    body: dict[str, Any] = {"model": "m", "input": name}
                    whole = client.responses.create(**body)
                    with client.responses.stream(**body) as stream:
                        final = stream.get_final_response()
                    for response in (whole, final):
                        self.assertEqual(response.output_text, HARD_STRINGS[name])
                body["tools"] = [{"type": "function", "name": "echo", "parameters": SCHEMA}]
                with client.responses.stream(**body) as stream:
                    final = stream.get_final_response()
                for response in (client.responses.create(**body), final):
                    message, call = response.output
                    self.check_call(message.content[0].text, call.name, json.loads(call.arguments))
                items = [
                    {"role": "user", "content": name},
                    message.to_dict(),
                    call.to_dict(),
                    {"type": "function_call_output", "call_id": call.call_id, "output": RESULT},
                ]
                client.responses.create(**{**body, "input": items})
                self.check_result()
                with self.assertRaisesRegex(openai.BadRequestError, "keeps no conversations"):
                    client.responses.create(previous_response_id="resp_1", **body)

        await self.use("openai", work)


class AnthropicTests(ClientTestCase):
    """
    Tests with Anthropic's client.
    """

    async def test_messages(self) -> None:
        """
        Messages are exact, streamed or not, with and without the use of a tool.
        """

        def work(anthropic: Any, url: str) -> None:
            with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
                for name in self.names():
                    body: dict[str, Any] = {
                        "model": "m",
                        "max_tokens": 100,
                        "messages": [{"role": "user", "content": name}],
                    }
                    whole = client.messages.create(**body)
                    with client.messages.stream(**body) as stream:
                        pieces = list(stream.text_stream)
                        final = stream.get_final_message()
                    self.assertEqual("".join(pieces), HARD_STRINGS[name])
                    for message in (whole, final):
                        self.assertEqual(message.stop_reason, "end_turn")
                        self.assertEqual(message.content[0].text, HARD_STRINGS[name])
                body["tools"] = [{"name": "echo", "input_schema": SCHEMA}]
                with client.messages.stream(**body) as stream:
                    final = stream.get_final_message()
                for message in (client.messages.create(**body), final):
                    self.assertEqual(message.stop_reason, "tool_use")
                    text, call = message.content
                    self.check_call(text.text, call.name, call.input)
                blocks = [{"type": "tool_result", "tool_use_id": call.id, "content": RESULT}]
                messages = [
                    {
                        "role": "assistant",
                        "content": [block.to_dict() for block in message.content],
                    },
                    {"role": "user", "content": [*blocks, {"type": "text", "text": "quotes"}]},
                ]
                client.messages.create(**{**body, "messages": body["messages"] + messages})
                self.check_result()
                del body["max_tokens"]
                self.assertEqual(client.messages.count_tokens(**body).input_tokens, 1)
                self.assertEqual([model.id for model in client.models.list()], ["loopback"])

        await self.use("anthropic", work)


class GoogleTests(ClientTestCase):
    """
    Tests with Google's client.
    """

    async def test_contents(self) -> None:
        """
        Contents are exact, streamed or not, with and without the call of a function.
        """

        def work(genai: Any, url: str) -> None:
            options = {"base_url": url, "api_version": "v1beta"}
            client = genai.Client(api_key="none", http_options=options)
            models = client.models
            for name in self.names():
                whole = models.generate_content(model="m", contents=name)
                self.assertEqual(whole.text, HARD_STRINGS[name])
                stream = models.generate_content_stream(model="m", contents=name)
                pieces = [response.text or "" for response in stream]
                self.assertEqual("".join(pieces), HARD_STRINGS[name])
            tool = {"function_declarations": [{"name": "echo", "parameters": SCHEMA}]}
            body = {"model": "m", "config": {"tools": [tool]}}
            whole = models.generate_content(contents=name, **body)
            stream = models.generate_content_stream(contents=name, **body)
            for responses in ([whole], list(stream)):
                parts = [part for response in responses for part in response.parts]
                text = "".join(part.text for part in parts if part.text is not None)
                call = parts[-1].function_call
                self.check_call(text, call.name, call.args)
            result = {"name": "echo", "response": {"output": RESULT}}
            contents = [
                {"role": "user", "parts": [{"text": name}]},
                {"role": "model", "parts": [part.model_dump() for part in parts[-1:]]},
                {"role": "user", "parts": [{"function_response": result}]},
            ]
            models.generate_content(contents=contents, **body)
            self.check_result()
            self.assertEqual(models.count_tokens(model="m", contents="a").total_tokens, 1)
            client.close()

        await self.use("google.genai", work)
