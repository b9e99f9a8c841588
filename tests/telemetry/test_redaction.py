"""
Tests for `kiroworkers.telemetry.redaction`.
"""

from __future__ import annotations

import json
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.telemetry.redaction import (
    REDACTED,
    RedactingStream,
    SecretFinder,
    secrets_in,
)

SECRETS = ["hunter22", "sk-abcabcabd", "hunter22-and-more", 'quo"te\\/d é']

#: Text around secrets: beginnings of them, and other characters.
FILLER = st.text('hunter2sk-abcq" \\\n', max_size=12)

#: A secret, in one of the forms in which it may be printed.
FORM = st.sampled_from(SECRETS).flatmap(
    lambda secret: st.sampled_from(
        [
            secret,
            json.dumps(secret)[1:-1],
            json.dumps(secret, ensure_ascii=False)[1:-1],
        ]
    )
)


@st.composite
def cut_texts(draw: st.DrawFn) -> tuple[list[str], str]:
    """
    Draw a text with secrets in it, in pieces, and the text.
    """
    text = "".join(draw(st.lists(st.one_of(FILLER, FORM), max_size=6)))
    cuts = sorted(draw(st.lists(st.integers(0, len(text)), max_size=8)))
    edges = [0, *cuts, len(text)]
    return [text[start:end] for start, end in pairwise(edges)], text


class RedactingStreamTests(SynchronousTestCase):
    """
    Tests for `RedactingStream`.
    """

    @given(cut_texts())
    def test_cut_anywhere(self, drawn: tuple[list[str], str]) -> None:
        """
        However a text is cut, the pieces together are the text without its secrets.
        """
        pieces, text = drawn
        finder = SecretFinder(SECRETS)
        stream = RedactingStream(finder)
        redacted = [done for piece in pieces for done in stream.feed(piece)]
        redacted += stream.flush()
        self.assertEqual(len(redacted), len(pieces))
        joined = "".join(redacted)
        for secret in SECRETS:
            self.assertNotIn(secret, joined)
        if finder.open_length(text) == 0:
            self.assertEqual(joined, finder.redact(text))
        if not any(form in text for form in finder.forms) and not finder.open_length(text):
            self.assertEqual(redacted, pieces)

    @given(FILLER)
    def test_split(self, piece: str) -> None:
        """
        When both parts of a piece were fed, the first is decided: what is undecided is short.
        """
        stream = RedactingStream(SecretFinder(SECRETS))
        first, second = stream.split(piece)
        self.assertEqual(first + second, piece)
        self.assertTrue(stream.feed(first) + stream.feed(second))

    def test_bounded(self) -> None:
        """
        A text that repeats the beginning of a secret for ever is not kept for ever.
        """
        stream = RedactingStream(SecretFinder(["a" * 400_000 + "b"]))
        fed = 0
        for _ in range(100):
            fed += 10_000 * len(stream.feed("a" * 10_000))
        self.assertGreater(fed, 600_000)

    def test_end(self) -> None:
        """
        At the end, most of a secret is replaced, and a few characters are not.
        """
        for text, expected in [("x hunter2", f"x {REDACTED}"), ("x hunt", "x hunt")]:
            stream = RedactingStream(SecretFinder(["hunter22"]))
            self.assertEqual([*stream.feed(text), *stream.flush()], [expected])

    def test_bytes(self) -> None:
        """
        A secret that is not ASCII is found in bytes.
        """
        finder = SecretFinder(["pässwörd"], in_terminal=True)
        text = "x pässwörd y".encode().decode("latin-1")
        self.assertEqual(finder.redact(text), f"x {REDACTED} y")

    def test_wrapped(self) -> None:
        """
        On a terminal, a secret is found that is wrapped or coloured, wherever it is cut.
        """
        shown = "a \x1b[1mhun\x1b[0m\x1b[3;1Hte\r\n\x1b[Kr22\x1b[m b hunt\x1b[0m\r\ndown"
        for cut in range(len(shown) + 1):
            stream = RedactingStream(SecretFinder(["hunter22"], in_terminal=True))
            redacted = [*stream.feed(shown[:cut]), *stream.feed(shown[cut:]), *stream.flush()]
            expected = f"a \x1b[1m{REDACTED}\x1b[m b hunt\x1b[0m\r\ndown"
            self.assertEqual("".join(redacted), expected, cut)

    def test_key(self) -> None:
        """
        A key of several lines is found on a terminal, also byte by byte.
        """
        key = "-----BEGIN KEY-----\nAAAABBBBCCCCDDDD\nshort\n-----END KEY-----"
        stream = RedactingStream(SecretFinder([key], in_terminal=True))
        shown = f"> {key}\n> ".replace("\n", "\r\n")
        redacted = [done for char in shown for done in stream.feed(char)] + stream.flush()
        self.assertEqual("".join(redacted), f"> {REDACTED}\r\n> ")

    def test_nothing(self) -> None:
        """
        Without secrets, every piece is decided at once.
        """
        stream = RedactingStream(SecretFinder([]))
        self.assertEqual(stream.feed("anything"), ["anything"])
        self.assertEqual(stream.flush(), [])


class SecretsTests(SynchronousTestCase):
    """
    Tests for `secrets_in`.
    """

    def test_names(self) -> None:
        """
        The names of variables tell which values are secret; short ones are not looked for.
        """
        environment = {
            "KIRO_API_KEY": "value-1",
            "github_token": "value-2",
            "DB_PASSWORD": "value-3\n",
            "AWS_CREDENTIALS": "value-4",
            "GIT_AUTHOR_NAME": "innocent",
            "HOME": "/home/user",
            "MY_KEY": "short",
            "HTTPS_PROXY": "http://user:value-5@proxy:3128",
            "DATABASE": "value-6",
            "ALSO": "value-7",
        }
        self.assertEqual(
            secrets_in(environment, ["DATABASE", "kiro:AL*", "*"]),
            [f"value-{number}" for number in range(1, 8)],
        )

    def test_lines(self) -> None:
        """
        The long lines of a value with several lines are secret, too.
        """
        key = "-----BEGIN KEY-----\nAAAABBBBCCCCDDDDEEEE\nshort\n-----END KEY-----\n"
        self.assertEqual(
            secrets_in({"PRIVATE": key}),
            [key.strip(), "-----BEGIN KEY-----", "AAAABBBBCCCCDDDDEEEE", "-----END KEY-----"],
        )
