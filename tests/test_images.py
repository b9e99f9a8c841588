"""
Tests for `kiroworkers.images`.
"""

from __future__ import annotations

import json
import random
import time
from base64 import b64encode
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import InvalidInput
from kiroworkers.images import (
    LEFT_OUT,
    Image,
    after_base64,
    check_accepted,
    image_from_base64,
    image_from_url,
    without_base64,
    without_images,
)

#: The beginning of a file of each type.
STARTS = {
    "image/png": b"\x89PNG\r\n\x1a\n",
    "image/jpeg": b"\xff\xd8\xff\xe0",
    "image/gif": b"GIF89a",
    "image/webp": b"RIFF\x24\x00\x00\x00WEBPVP8 ",
}

FIELD = "messages[0].content[1]"


def encoded(data: bytes) -> str:
    """
    Return `data` in base64.
    """
    return b64encode(data).decode()


def png(content: bytes = b"", field: str = FIELD) -> Image:
    """
    Return an image with this content, which no program could show.
    """
    return image_from_base64("image/png", encoded(STARTS["image/png"] + content), field)


class Base64Tests(SynchronousTestCase):
    """
    Tests for `image_from_base64`.
    """

    def refusal(self, media_type: Any, data: Any) -> str:
        with self.assertRaises(InvalidInput) as raised:
            image_from_base64(media_type, data, FIELD)
        self.assertEqual(raised.exception.field, FIELD)
        text = str(raised.exception)
        self.assertTrue(text.startswith(f"{FIELD}: "), text)
        return text.removeprefix(f"{FIELD}: ")

    @given(st.sampled_from(sorted(STARTS)), st.binary(max_size=60))
    def test_accepted(self, media_type: str, content: bytes) -> None:
        """
        Each type is accepted, with any content, and its text and size are those of its bytes.
        """
        data = STARTS[media_type] + content
        image = image_from_base64(media_type, encoded(data), FIELD)
        self.assertEqual((image.media_type, image.data), (media_type, encoded(data)))
        self.assertEqual((image.size, image.field), (len(data), FIELD))

    def test_names(self) -> None:
        """
        The name of the type may be in capitals, and JPEG's may be the one that is not registered.
        """
        data = encoded(STARTS["image/jpeg"])
        for name in ("image/jpeg", "IMAGE/JPEG", "image/jpg"):
            self.assertEqual(image_from_base64(name, data, FIELD).media_type, "image/jpeg")

    def test_other_type(self) -> None:
        """
        Another type is refused, and so is what is no type.
        """
        names: list[Any] = ["image/svg+xml", "application/pdf", "png", "", None, 7, ["image/png"]]
        for name in names:
            self.assertEqual(
                self.refusal(name, encoded(STARTS["image/png"])),
                "the media type must be one of image/png, image/jpeg, image/gif, image/webp",
            )

    def test_wrong_type(self) -> None:
        """
        Data that does not begin as the type demands is refused.
        """
        for name in STARTS:
            for data in (b"\0", b"<svg/>", b"RIFF\0\0\0\0WAVEfmt ", STARTS["image/png"][1:]):
                self.assertEqual(
                    self.refusal(name, encoded(data)),
                    f"the data is not an image of the type {name}",
                )
        self.assertIn("not an image", self.refusal("image/gif", encoded(STARTS["image/png"])))

    def test_no_base64(self) -> None:
        """
        Text that a strict decoder would refuse is refused.
        """
        good = encoded(STARTS["image/png"] + b"ab")
        for text in (
            good[:-1],
            good + "=",
            good + "====",
            good + "AAA",
            good[:8] + "\n" + good[8:],
            good[:8] + "-_-_" + good[8:],
            good[:8] + "====" + good[8:],
            good[:8] + "\u00e9aaa" + good[8:],
            " " + good,
            # The last letter has bits that belong to no byte.
            encoded(STARTS["image/png"])[:-2] + "p=",
        ):
            with self.subTest(text=text):
                self.assertEqual(self.refusal("image/png", text), "the image is not valid base64")

    def test_nothing(self) -> None:
        """
        An empty text is refused, and so is what is no text.
        """
        values: list[Any] = ["", None, 7, b"abcd", ["a"], {}]
        for value in values:
            self.assertEqual(
                self.refusal("image/png", value), "the image is empty; it must be base64 text"
            )

    def test_not_quoted(self) -> None:
        """
        Neither the representation of an image nor an error has the image's text.
        """
        image = png(b"secret" * 20)
        self.assertNotIn(image.data[:40], f"{image!r} {image}")
        self.assertEqual(str(image), "image/png, 128 bytes")
        self.assertNotIn("iVBOR", self.refusal("image/gif", image.data))

    def test_cost(self) -> None:
        """
        The check of a megabyte takes less time than any callback may.
        """
        data = encoded(STARTS["image/png"] + bytes(1_000_000))
        began = time.process_time()
        image_from_base64("image/png", data, FIELD)
        self.assertLess(time.process_time() - began, 0.05)


class UrlTests(SynchronousTestCase):
    """
    Tests for `image_from_url`.
    """

    def refusal(self, url: Any) -> str:
        with self.assertRaises(InvalidInput) as raised:
            image_from_url(url, "f")
        self.assertEqual(raised.exception.field, "f")
        return str(raised.exception)

    def test_accepted(self) -> None:
        """
        A data URL is an image, with or without parameters and in any case.
        """
        data = encoded(STARTS["image/png"] + b"abc")
        for start in (
            "data:image/png;base64,",
            "DATA:Image/PNG;BASE64,",
            "data:image/png;name=a.png;base64,",
        ):
            self.assertEqual(image_from_url(start + data, "f"), Image("image/png", data, "f"))

    def test_remote(self) -> None:
        """
        A URL that the server would have to fetch is refused, and so is what is no URL.
        """
        values: list[Any] = [
            "https://example.org/a.png",
            "http://127.0.0.1/",
            "file:///etc/passwd",
            "iVBORw0KGgo=",
            "",
            None,
            {"url": "data:"},
        ]
        for value in values:
            self.assertEqual(
                self.refusal(value),
                "f must be a data URL, such as data:image/png;base64,…: "
                "the server fetches no images",
            )

    def test_form(self) -> None:
        """
        A data URL without base64, or without data, is refused.
        """
        for url in (
            "data:image/png,abc",
            "data:image/png;base64",
            "data:;base64;x,aaaa",
            f"data:image/png{';a' * 200};base64,aaaa",
        ):
            self.assertEqual(self.refusal(url), "f must have the form data:MEDIA-TYPE;base64,DATA")
        self.assertIn("the media type must be", self.refusal("data:;base64,aaaa"))
        self.assertIn("is empty", self.refusal("data:image/png;base64,"))
        self.assertIn("not valid base64", self.refusal("data:image/png;base64,%2B%2B"))


class AcceptedTests(SynchronousTestCase):
    """
    Tests for `check_accepted`.
    """

    def test_refused(self) -> None:
        """
        An agent that accepts no images is named, with the field of the first image.
        """
        with self.assertRaises(InvalidInput) as raised:
            check_accepted([png(), png(field="g")], False, "kiro")
        self.assertEqual(raised.exception.field, FIELD)
        self.assertEqual(str(raised.exception), f"{FIELD}: agent kiro does not accept images")
        check_accepted([], False, "kiro")


class DescriptionTests(SynchronousTestCase):
    """
    Tests for the functions that leave images out.
    """

    def test_without_images(self) -> None:
        """
        Each image of a message is replaced, even if one is the beginning of another or is in the
        text as well, and nothing else is.
        """
        images = [png(), png(b"1" * 300), png(), png(b"2")]
        text = f'{images[1].data} and "{images[3].data}"'
        data = json.dumps([text, *(image.data for image in images), 1]).encode()
        sizes = ("(image/png, 8 bytes)", "(image/png, 308 bytes)")
        self.assertEqual(
            json.loads(without_images(data, images)),
            [text, sizes[0], sizes[1], sizes[0], "(image/png, 9 bytes)", 1],
        )
        self.assertEqual(without_images(b"{}", images), b"{}")

    def test_cost(self) -> None:
        """
        Many large images are left out in less time than any callback may take.
        """
        images = [png(random.Random(seed).randbytes(20_000)) for seed in range(50)]
        data = json.dumps([image.data for image in images]).encode()
        began = time.process_time()
        self.assertLess(len(without_images(data, images)), 3000)
        self.assertLess(time.process_time() - began, 0.05)

    def test_without_base64(self) -> None:
        """
        Long base64 in a message of an agent is left out; text with the same words is not.
        """
        data = b64encode(bytes(300))
        for before, after in (
            (b'{"data":"%b"}', b'{"data":"%b"}'),
            (b'{"blob" : "%b","a":1}', b'{"blob" : "%b","a":1}'),
            (b"see data:image/png;base64,%b.", b"see data:image/png;base64,%b."),
        ):
            self.assertEqual(without_base64(before % data), after % LEFT_OUT)
        for kept in (
            b'{"data":"%b"}' % data[:200],
            b'{"text":"%b"}' % data,
            b'{"text":"{\\"data\\": \\"%b\\"}"}' % data,
        ):
            self.assertEqual(without_base64(kept), kept)

    def test_after_base64(self) -> None:
        """
        What follows base64 that goes on is found.
        """
        self.assertEqual(after_base64(b'AbZ/+19=="}'), b'"}')
        self.assertEqual(after_base64(b"AbZ"), b"")
