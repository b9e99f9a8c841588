"""
Run some schedules of `tests.cluster.simulation`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.cluster.simulation import World


class SimulationTests(SynchronousTestCase):
    """
    Tests for runners and memberships of several servers, with faults in a random order.
    """

    def test_faults(self) -> None:
        """
        Each job ends exactly once, whatever breaks and whoever dies.
        """
        for seed in range(4):
            World(seed).run()

    def test_slow_database(self) -> None:
        """
        While the database is only slow and notifications are lost, no agent is asked twice about
        a job, and the end of each is reported.
        """
        for seed in range(4):
            World(seed, faults=False).run()
