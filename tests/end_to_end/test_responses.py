"""
End-to-end tests for ``/v1/responses`` with OpenAI's client, if it is installed.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest

from tests.servers import ServerTestCase

#: The beginning of an image, as base64 text.
GIF = "R0lGODlhAQABAAAAACw="


class ClientTests(ServerTestCase):
    """
    Tests with OpenAI's client for Python, which runs in a thread.
    """

    async def test_openai(self) -> None:
        """
        The client gets responses, streams and parsed objects, continues a conversation, and raises
        what is refused and what fails in the middle of a stream.
        """
        try:
            openai = await deferToThread(__import__, "openai")
            pydantic = await deferToThread(__import__, "pydantic")
        except ImportError:
            raise SkipTest("openai is not installed: pip install '.[clients]'") from None
        await self.start("--agent", "kiro-acp", workers=1)
        size_model = pydantic.create_model("Size", size=(int, ...))

        def raised(kind: type[Exception], call: Any, **arguments: Any) -> Any:
            try:
                call(**arguments)
            except kind as error:
                return error
            raise AssertionError(f"{call} raises nothing")

        def work() -> None:
            with openai.OpenAI(base_url=f"{self.base}/v1", api_key="none") as client:
                check(client.responses)

        def fits(model: Any) -> None:
            # The client itself takes whatever comes.
            type(model).model_validate_json(model.model_dump_json(exclude_unset=True))

        def check(responses: Any) -> None:
            asked: Any = {"model": "kiro-acp", "input": "Hi"}
            first = responses.create(**asked, instructions="Be brief", metadata={"a": "b"})
            self.assertEqual(first.output_text, "You said: Hi")
            fits(first)
            self.assertEqual((first.status, first.metadata), ("completed", {"a": "b"}))
            self.assertEqual((first.usage.input_tokens, first.usage.output_tokens), (3, 3))

            user = {"role": "user", "content": [{"type": "input_text", "text": "And now"}]}
            history = [{"role": "user", "content": "Hi"}, *first.output, user]
            self.assertEqual(
                responses.create(model="default", input=history).output_text, "You said: And now"
            )
            picture = {"type": "input_image", "image_url": f"data:image/gif;base64,{GIF}"}
            seen = responses.create(**{**asked, "input": [{"role": "user", "content": [picture]}]})
            self.assertIn("[image 1] = image/gif, 14 bytes", seen.output_text)

            events = [*responses.create(**asked, stream=True)]
            for event in events:
                fits(event)
            self.assertEqual([event.sequence_number for event in events], [*range(len(events))])
            with responses.stream(**asked) as stream:
                streamed = [event.type for event in stream]
                final = stream.get_final_response()
            self.assertEqual(final.output_text, "You said: Hi")
            # The agent's pieces may arrive together.
            kinds = [
                [*dict.fromkeys(types)] for types in (streamed, [event.type for event in events])
            ]
            self.assertEqual(*kinds)
            self.assertEqual(streamed[-1], "response.completed")

            sized = {**asked, "input": '{"size": 3}', "text_format": size_model}
            self.assertEqual(responses.parse(**sized).output_parsed.size, 3)
            with responses.stream(**sized) as stream:
                self.assertEqual(stream.get_final_response().output_parsed.size, 3)

            tools = [{"type": "web_search"}]
            for changes in ({"tools": tools}, {"previous_response_id": first.id}):
                error = raised(openai.BadRequestError, responses.create, **asked, **changes)
                self.assertEqual([error.param], [*changes])
            raised(openai.NotFoundError, responses.retrieve, response_id=first.id)
            error = raised(openai.NotFoundError, responses.create, **{**asked, "model": "gpt-9"})
            self.assertEqual(error.code, "model_not_found")

            deltas = []
            with responses.stream(model="kiro-acp", input="Hi [[lame stay=1]]") as stream:

                def read() -> None:
                    for event in stream:
                        if event.type == "response.output_text.delta":
                            deltas.append(event.delta)

                error = raised(openai.APIError, read)
            self.assertEqual(error.code, "answer_unfit")
            self.assertTrue("".join(deltas).startswith("You said: Hi"), deltas)

        await deferToThread(work)
