"""
End-to-end tests for the routes of Anthropic's API, with its official client.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

from tests.servers import ServerTestCase

_TOKEN = "0123456789abcdef"


class ClientTests(ServerTestCase):
    """
    Tests with the official client for Python, which runs in a thread.
    """

    async def test_client(self) -> None:
        """
        The client gets messages, streams, objects, counts, models and errors, with a token in
        either header.
        """
        try:
            anthropic = await deferToThread(__import__, "anthropic")
        except ImportError:
            raise SkipTest("anthropic is not installed: pip install '.[clients]'") from None
        tokens = self.folder / "tokens"
        tokens.write_text(f"app ask {_TOKEN}\n")
        tokens.chmod(0o600)
        await self.start("--agent", "kiro-acp", "--token-file", str(tokens), workers=1)

        def work() -> None:
            with anthropic.Anthropic(base_url=self.base, api_key=_TOKEN) as client:
                self.check_messages(client)
                self.check_streams(client, anthropic)
                self.check_others(client)
                self.check_errors(client, anthropic)
            key = {"X-Api-Key": _TOKEN, "Authorization": anthropic.Omit()}
            with anthropic.Anthropic(
                base_url=self.base,
                api_key="unused",
                default_headers={**key, "anthropic-version": "2023-06-01"},
            ) as client:
                self.assertEqual(client.messages.create(**asking("Hi")).type, "message")

        await deferToThread(work)

    def check_messages(self, client: Any) -> None:
        """
        Check whole messages.
        """
        message = client.messages.create(**asking("Hi", system="Be brief"))
        self.assertEqual(message.content[0].text, "You said: Hi")
        self.assertEqual((message.role, message.stop_reason), ("assistant", "end_turn"))
        self.assertEqual((message.usage.input_tokens, message.usage.output_tokens), (3, 3))
        self.assertTrue(message._request_id)
        message = client.messages.create(**asking("One END Two", stop_sequences=["x", "END"]))
        self.assertEqual(message.content[0].text, "You said: One ")
        self.assertEqual((message.stop_reason, message.stop_sequence), ("stop_sequence", "END"))
        history = [*asking("Hi")["messages"], message.to_param(), *asking("Well?")["messages"]]
        message = client.messages.create(**asking("", messages=history))
        self.assertEqual(message.content[0].text, "You said: Well?")

        schema = {
            "type": "object",
            "properties": {"size": {"type": "integer"}},
            "required": ["size"],
        }
        wanted = {"format": {"type": "json_schema", "schema": schema}}
        message = client.messages.create(**asking('{"size": 3}', output_config=wanted))
        self.assertEqual(message.content[0].text, '{"size": 3}')

    def check_streams(self, client: Any, anthropic: Any) -> None:
        """
        Check streams, and one that fails after its beginning.
        """
        words = "word & \n" * 30
        with client.messages.stream(**asking(words)) as stream:
            pieces = [*stream.text_stream]
            message = stream.get_final_message()
        self.assertEqual("".join(pieces), f"You said: {words}")
        self.assertGreater(len(pieces), 3)
        self.assertEqual(message.content[0].text, f"You said: {words}")
        self.assertEqual((message.stop_reason, message.usage.output_tokens), ("end_turn", 63))
        self.assertEqual(message.usage.input_tokens, 60)
        events = client.messages.create(**asking("Stop it", stop_sequences=["p"], stream=True))
        self.assertEqual(
            [event.type for event in events],
            [
                *("message_start", "content_block_start", "content_block_delta"),
                *("content_block_stop", "message_delta", "message_stop"),
            ],
        )

        def fail_late() -> None:
            with client.messages.stream(**asking("Hi [[lame stay=0.3]]")) as stream:
                self.assertTrue(stream.get_final_message())

        error = self.failure(anthropic.APIStatusError, fail_late)
        self.assertEqual((error.status_code, code_of(error)), (200, "answer_unfit"))

    def check_others(self, client: Any) -> None:
        """
        Check the count of tokens and the models.
        """
        asked = asking("x" * 40, system="y" * 8)
        del asked["max_tokens"]
        self.assertEqual(client.messages.count_tokens(**asked).input_tokens, 12)
        names = [model.id for model in client.models.list(limit=2)]
        self.assertEqual(names, ["kiro-acp", "default", "kiroworkers"])
        model = client.models.retrieve("default")
        self.assertEqual((model.id, model.type), ("default", "model"))

    def check_errors(self, client: Any, anthropic: Any) -> None:
        """
        Check that failures are raised as what they are, and that nothing is asked twice.
        """
        create = client.messages.create
        error = self.failure(
            anthropic.BadRequestError,
            lambda: create(**asking("Hi", tools=[{"name": "add", "input_schema": {}}])),
        )
        self.assertEqual(error.body["error"]["type"], "invalid_request_error")
        self.assertEqual(error.body["error"]["details"]["field"], "tools")
        self.assertEqual(error.request_id, error.body["request_id"])
        error = self.failure(
            anthropic.NotFoundError, lambda: create(**asking("Hi", model="claude-opus-9"))
        )
        self.assertEqual(code_of(error), "model_not_found")
        error = self.failure(
            anthropic.AuthenticationError,
            lambda: client.with_options(api_key="wrong").messages.create(**asking("Hi")),
        )
        self.assertEqual(code_of(error), "wrong_token")
        error = self.failure(anthropic.InternalServerError, lambda: create(**asking("[[lame]]")))
        self.assertEqual((error.status_code, code_of(error)), (502, "answer_unfit"))
        self.assertEqual(error.response.request.headers["x-stainless-retry-count"], "0")

    def failure(self, kind: type[Exception], call: Callable[[], Any]) -> Any:
        """
        Return the exception of this type that `call` raises.
        """
        with self.assertRaises(kind) as raised:
            call()
        return raised.exception


def asking(content: str, **others: Any) -> dict[str, Any]:
    """
    Return the arguments of a request with one message of the user.
    """
    messages = [{"role": "user", "content": content}]
    return {"model": "default", "max_tokens": 100, "messages": messages, **others}


def code_of(error: Any) -> str:
    """
    Return our code of an error that the client raised.
    """
    code: str = error.body["error"]["details"]["error_code"]
    return code
