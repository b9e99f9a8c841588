"""
Tests for `kiroworkers.cli.token_file`.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.cli.token_file import TOKEN_VARIABLE, InvalidTokenFile, read_token


class TokenFileTests(SynchronousTestCase):
    """
    Tests for `read_token`.
    """

    def file(self, data: bytes) -> str:
        path = Path(self.mktemp())
        path.write_bytes(data)
        return str(path)

    def test_source(self) -> None:
        """
        The token comes from the file, or else from the environment, if it has one.
        """
        self.patch(os, "environ", {TOKEN_VARIABLE: "of-the-environment"})
        self.assertEqual(read_token(self.file(b" of-the-file\n")), "of-the-file")
        self.assertEqual(read_token(None), "of-the-environment")
        for environment in ({}, {TOKEN_VARIABLE: ""}):
            self.patch(os, "environ", environment)
            self.assertIsNone(read_token(None))

    def test_invalid(self) -> None:
        """
        A file must hold exactly one token; the error does not show what it holds instead.
        """
        for data in (b"", b"secret secret", "sécret".encode(), b"secret\xff"):
            with self.assertRaisesRegex(InvalidTokenFile, "^--token-file: ") as raised:
                read_token(self.file(data))
            self.assertNotIn("cret", str(raised.exception))
        with self.assertRaisesRegex(InvalidTokenFile, "No such file"):
            read_token(self.mktemp())
