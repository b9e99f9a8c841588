"""
End-to-end tests for images in conversations.
"""

from __future__ import annotations

import random
from typing import Any

import treq
from twisted.internet.defer import Deferred

from tests.fakeacp import describe_image
from tests.servers import ServerTestCase
from tests.test_images import STARTS, encoded

#: What no file of the server, and no response, may have of an image.
_LENGTH = 60


def image(media_type: str, seed: int, size: int) -> bytes:
    """
    Return the bytes of a file of this type, with random content.
    """
    return STARTS[media_type] + random.Random(seed).randbytes(size)


def part(media_type: str, data: bytes) -> dict[str, Any]:
    """
    Return a part of a message that has an image.
    """
    url = f"data:{media_type};base64,{encoded(data)}"
    return {"type": "image_url", "image_url": {"url": url}}


class ImageTests(ServerTestCase):
    """
    Tests for a server with both engines of Kiro over ACP, and one with a terminal.
    """

    async def chat(self, model: str, *content: Any) -> tuple[int, Any]:
        """
        Send a message; return the status and the words of the reply, or the error.
        """
        response, body = await self.fetch(
            "POST",
            "/v1/chat/completions",
            json={"model": model, "messages": [{"role": "user", "content": [*content]}]},
        )
        if response.code != 200:
            return response.code, body["error"]
        return 200, " ".join(body["choices"][0]["message"]["content"].split())

    async def test_images(self) -> None:
        """
        The agents get the exact bytes of images in their order, a terminal's agent is not asked,
        and nothing that the server writes or shows has the bytes.
        """
        state = self.folder / "state"
        await self.start(
            *("--agent", "kiro-acp", "--agent", "kiro-acp-v3", "--agent", "kiro-classic"),
            *("--record", "--log-prompts", "--trace-content", "--state-dir", str(state)),
            workers=1,
            FAKEKIRO_VERSION="2.28.0",
        )
        for agent in ("kiro-acp-v3", "kiro-classic"):
            await self.server.says(f"{agent}-worker1: ready")
        text = {"type": "text", "text": "See "}
        large, small = image("image/png", 1, 700_000), image("image/gif", 2, 100)
        parts = [text, part("image/png", large), text, part("image/gif", small)]
        seen = [describe_image("image/png", large), describe_image("image/gif", small)]
        expected = f"You said: See [image 1] = {seen[0]} See [image 2] = {seen[1]}"
        for model in ("kiro-acp", "kiro-acp-v3"):
            for number in range(2):
                self.assertEqual(await self.chat(model, *parts), (200, expected), number)
            # The next conversation has none.
            self.assertEqual(await self.chat(model, text), (200, "You said: See"))
        status, error = await self.chat("kiro-classic", *parts)
        field = "messages[0].content[1].image_url.url"
        self.assertEqual((status, error["param"], error["code"]), (400, field, "invalid_input"))
        self.assertEqual(error["message"], f"{field}: agent kiro-classic does not accept images")
        self.assertEqual((await self.chat("kiro-classic", text))[0], 200)
        shown = [await self.shown(path) for path in ("/requests", "/recordings", "/health")]
        _, listed = await self.fetch("GET", "/recordings")
        recordings = [
            await self.shown(f"/recordings/{each['name']}") for each in listed["recordings"]
        ]
        await self.stop()
        files = [path.read_bytes() for path in state.rglob("*") if path.is_file()]
        self.assertIn(b"(image/png, 700008 bytes)", b"".join(recordings))
        self.assertIn(f"[image 1: image/png, {len(large)} bytes]", self.server.output)
        everything = b"".join((*files, *shown, *recordings, self.server.output.encode()))
        for data in (large, small):
            self.assertNotIn(encoded(data)[:_LENGTH].encode(), everything)
            self.assertNotIn(encoded(data)[-_LENGTH:].encode(), everything)

    async def shown(self, path: str) -> bytes:
        response = await treq.get(self.base + path, persistent=False)
        content: Deferred[bytes] = response.content()
        return await content
