"""
Tests for `kiroworkers.web.tokens`.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.errors import InvalidSetting
from kiroworkers.web.tokens import find_token, read_tokens

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
        Each line is a name, scopes and a token, which is not shown.
        """
        path = self.file(f"# a comment\n\nme  ask,watch  {TOKEN}\nyou operate {TOKEN}2\n")
        me, you = read_tokens(path)
        self.assertEqual((me.name, me.scopes), ("me", {"ask", "watch"}))
        self.assertNotIn(TOKEN, repr(me))
        self.assertEqual([me.may(scope) for scope in ("ask", "watch", "operate")],
                         [True, True, False])  # fmt: skip
        self.assertEqual([you.may(scope) for scope in ("ask", "watch", "operate")],
                         [False, True, True])  # fmt: skip
        self.assertIs(find_token(TOKEN, [me, you]), me)
        for wrong in ("", TOKEN[:-1], TOKEN + "3", "\udcff"):
            self.assertIs(find_token(wrong, [me, you]), None)

    def test_wrong(self) -> None:
        """
        A line that is wrong is named, and its token is not.
        """
        for text, reason in [
            ("", "has no token"),
            (f"me ask\n{TOKEN}", "line 1: must be a name, scopes and a token"),
            (f"me ask {TOKEN}\nme ask {TOKEN}2", "line 2: the name 'me' is taken"),
            (f"me ask {TOKEN}\nyou ask {TOKEN}", "line 2: the token is another's"),
            (f"me ask,fly {TOKEN}", "'fly' is no scope"),
            ("me ask short", "at least 16"),
            ("me ask " + "ä" * 20, "ASCII"),
        ]:
            with self.assertRaises(InvalidSetting) as raised:
                read_tokens(self.file(text))
            self.assertIn(reason, str(raised.exception))
            self.assertNotIn(TOKEN, str(raised.exception))

    def test_no_file(self) -> None:
        """
        A file that cannot be read is named.
        """
        with self.assertRaises(InvalidSetting) as raised:
            read_tokens(Path("/no/such/tokens"))
        self.assertIn("/no/such/tokens", str(raised.exception))
