"""
Tests for `kiroworkers.web.tokens`.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import InvalidSetting
from kiroworkers.web.tokens import SCOPES, find_token, read_tokens

TOKEN = "0123456789abcdef"


class TokenTests(SynchronousTestCase):
    """
    Tests for a file of tokens.
    """

    def file(self, text: str) -> Path:
        path = Path(self.mktemp())
        path.write_text(text)
        return path

    def test_read(self) -> None:
        """
        Each line has a name, scopes and a token, which `repr` does not show.
        """
        path = self.file(f"# a comment\n\nme  ask,watch  {TOKEN}\nyou operate {TOKEN}2\n")
        me, you = read_tokens(path)
        self.assertEqual((me.name, me.scopes), ("me", {"ask", "watch"}))
        self.assertNotIn(TOKEN, repr(me))
        self.assertEqual([me.allows(scope) for scope in SCOPES], [True, True, False])
        self.assertEqual([you.allows(scope) for scope in SCOPES], [False, True, True])
        self.assertIs(find_token(TOKEN, [me, you]), me)
        for wrong in ("", TOKEN[:-1], TOKEN + "3", "\udcff", "\ud800", "ä"):
            self.assertIs(find_token(wrong, [me, you]), None)

    def test_wrong(self) -> None:
        """
        The error names the invalid line, and does not show its token.
        """
        for text, reason in [
            ("", "contains no token"),
            (f"me ask\n{TOKEN}", "line 1: must be a name, scopes and a token"),
            (f"me ask {TOKEN}\nme ask {TOKEN}2", "line 2: the name 'me' is already in use"),
            (f"me ask {TOKEN}\nyou ask {TOKEN}", "line 2: the token is already in use"),
            (f"me ask,fly {TOKEN}", "unknown scope 'fly'"),
            ("me ask short", "at least 16"),
            ("me ask " + "ä" * 20, "ASCII"),
        ]:
            with self.assertRaises(InvalidSetting) as raised:
                read_tokens(self.file(text))
            self.assertIn(reason, str(raised.exception))
            self.assertNotIn(TOKEN, str(raised.exception))

    def test_no_file(self) -> None:
        """
        The error names a file that cannot be read.
        """
        with self.assertRaises(InvalidSetting) as raised:
            read_tokens(Path("/no/such/tokens"))
        self.assertIn("/no/such/tokens", str(raised.exception))
