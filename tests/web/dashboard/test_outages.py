"""
Tests for `kiroworkers.web.dashboard.outages`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.pool.dispatcher import PoolState
from kiroworkers.web.dashboard.outages import MAX_OUTAGES, Outages

_SERVING = PoolState("serving")
_THROTTLED = PoolState("throttled", "Too many requests", 30)


class OutagesTests(SynchronousTestCase):
    """
    Tests for `Outages`.
    """

    def setUp(self) -> None:
        self.outages = Outages()

    def update(self, *states: PoolState) -> list[bool]:
        """
        Update with `states`, one a second.
        """
        return [self.outages.update("kiro", state, now) for now, state in enumerate(states)]

    def seen(self) -> list[tuple[str, int, int | None]]:
        return [
            (outage["kind"], outage["since"], outage["until"])
            for outage in self.outages.to_json()["outages"]
        ]

    def test_begins_and_ends(self) -> None:
        """
        An outage lasts from the first state that shows it to the first that does not.
        """
        states = (_SERVING, _THROTTLED, _THROTTLED, _SERVING, _SERVING)
        self.assertEqual(self.update(*states), [False, True, False, True, False])
        self.assertEqual(self.seen(), [("throttled", 1000, 3000)])

    def test_trying(self) -> None:
        """
        It is not over while the agent is being tried, and not known to be while the server stops.
        """
        self.update(_THROTTLED, PoolState("trying"), PoolState("draining"), _THROTTLED)
        self.assertEqual(self.seen(), [("throttled", 0, None)])

    def test_fine(self) -> None:
        """
        What an operator does, and a start, are no outages.
        """
        states = [PoolState(name) for name in ("starting", "paused", "drained", "draining")]
        self.assertEqual(self.update(*states), [False] * 4)
        self.assertEqual(self.seen(), [])

    def test_another(self) -> None:
        """
        An outage of another kind ends the one before, and another reason changes it.
        """
        other = PoolState("login_required", "Log in")
        reason = PoolState("login_required", "Log in again")
        self.assertEqual(self.update(_THROTTLED, other, reason), [True] * 3)
        self.assertEqual(self.seen(), [("throttled", 0, 1000), ("login_required", 1000, None)])
        current = self.outages.current("kiro")
        assert current is not None
        self.assertEqual(current.detail, "Log in again")

    def test_clock_set_back(self) -> None:
        """
        No outage ends before it began, also if the clock was set back.
        """
        for now, state in ((9, _THROTTLED), (5, PoolState("login_required")), (3, _SERVING)):
            self.outages.update("kiro", state, now)
        self.assertEqual(self.seen(), [("throttled", 9000, 9000), ("login_required", 5000, 5000)])

    def test_agents(self) -> None:
        """
        Each agent has outages of its own.
        """
        self.update(_THROTTLED)
        self.assertFalse(self.outages.update("q", _SERVING, 1))
        self.assertIsNone(self.outages.current("q"))
        self.assertIsNotNone(self.outages.current("kiro"))

    def test_bounded(self) -> None:
        """
        Only the last ones are kept.
        """
        self.update(*[_THROTTLED, _SERVING] * (MAX_OUTAGES + 3))
        seen = self.seen()
        self.assertEqual((len(seen), seen[0][1]), (MAX_OUTAGES, 6000))
