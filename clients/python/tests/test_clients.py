"""
Tests for `Kiro` and `AsyncKiro` that need no server.
"""

from __future__ import annotations

from unittest import IsolatedAsyncioTestCase

from kiroworkers_client import AsyncKiro, Kiro

#: Nothing listens there.
NOWHERE = "http://127.0.0.1:1"


class UnopenedStreamTests(IsolatedAsyncioTestCase):
    """
    Tests for streams that nobody would close.
    """

    def test_sync(self) -> None:
        """
        A stream outside a ``with`` statement is an error before anything is sent.
        """
        with Kiro(NOWHERE) as kiro:
            with self.assertRaisesRegex(RuntimeError, "in a with statement"):
                next(iter(kiro.stream("t", {})))
            with self.assertRaisesRegex(RuntimeError, "in a with statement"):
                kiro.stream("t", {}).answer()

    async def test_async(self) -> None:
        """
        A stream outside an ``async with`` statement is an error before anything is sent.
        """
        async with AsyncKiro(NOWHERE) as kiro:
            with self.assertRaisesRegex(RuntimeError, "in an async with statement"):
                await anext(aiter(kiro.stream("t", {})))
            with self.assertRaisesRegex(RuntimeError, "in an async with statement"):
                await kiro.stream("t", {}).answer()
