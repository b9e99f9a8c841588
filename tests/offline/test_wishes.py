"""
Tests for `kiroworkers.offline.wishes`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.offline.statements import statements
from kiroworkers.offline.wishes import read_wish


class WishTests(SynchronousTestCase):
    """
    Tests for `read_wish`.
    """

    def test_stated(self) -> None:
        """
        Actor, wish and benefit are found where they are stated in a fixed form.
        """
        for text, expected in [
            ("As a nurse, I want to confirm a dose so that nobody is harmed.",
             ("nurse", "confirm a dose", "nobody is harmed")),
            ("As the owner of a shop I would like to be able to block a customer",
             ("owner of a shop", "block a customer", "")),
            ("Als Händler möchte ich alles exportieren, damit ich es auswerten kann.",
             ("Händler", "alles exportieren", "ich es auswerten kann")),
            ("En tant que responsable, je veux exporter la liste afin de planifier",
             ("responsable", "exporter la liste", "planifier")),
            ("Only admins can delete projects", ("admin", "delete projects", "")),
            ("Warehouse managers should be able to print labels",
             ("Warehouse manager", "print labels", "")),
            ("Let managers approve timesheets", ("manager", "approve timesheets", "")),
            ("In order to pass the audit, we must log every login",
             ("", "log every login", "it is possible to pass the audit")),
            ("It should be possible to undo a step", ("", "undo a step", "")),
        ]:  # fmt: skip
            wish = read_wish(statements(text))
            self.assertEqual((wish.actor, wish.wish, wish.benefit), expected, text)
            self.assertTrue(wish.stated)

    def test_not_stated(self) -> None:
        """
        Without a fixed form, the wish is the text, and nothing is inferred.
        """
        for text in ("CSV export", "We lose orders because nobody reads mails", "在庫の一覧",
                     "Search for stories", "Users must not see others' drafts",
                     "A portal with chat, reports for managers"):  # fmt: skip
            wish = read_wish(statements(text))
            self.assertEqual((wish.actor, wish.wish, wish.benefit), ("", text, ""))
            self.assertFalse(wish.stated)

    def test_partly_stated(self) -> None:
        """
        A purpose or a person may be stated although the wish is not.
        """
        wish = read_wish(statements("Dashboard for warehouse managers"))
        self.assertEqual((wish.actor, wish.stated), ("warehouse manager", False))
        wish = read_wish(statements("Set a header for compliance reasons."))
        self.assertEqual(wish.benefit, "this reason is met: compliance reasons")
        wish = read_wish(statements("Show all orders because support asks for them"))
        self.assertEqual(wish.benefit, "this reason is met: support asks for them")

    def test_several_statements(self) -> None:
        """
        The first statement in a fixed form is the wish, and others may add the benefit.
        """
        wish = read_wish(
            statements("Orders get lost. We should show them. This is for audit purposes.")
        )
        self.assertEqual(wish.wish, "show them")
        self.assertEqual(wish.benefit, "this reason is met: audit purposes")

    def test_giants(self) -> None:
        """
        A large statement without a fixed form costs little.
        """
        for text in ("as a " * 12_000, "so that " * 7_000, "for users, " * 5_000, "only " * 12_000):
            read_wish(statements(text))
