"""
Tests for `bench.cluster_sql`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from tests.postgres import SKIP, postgres

if SKIP is None:
    from bench import cluster_sql


class MeasureTests(SynchronousTestCase):
    """
    Tests for the measurement.
    """

    skip = SKIP

    def test_small(self) -> None:
        """
        With few servers and jobs, everything is measured, and no job is lost or refused.
        """
        small = {
            "_SERVERS": 3,
            "_SESSIONS": 2,
            "_CLIENTS": 5,
            "_QUEUED": 2000,
            "_RATE": 30,
            "_SECONDS": 0.5,
            "_CYCLES": 5,
            "_FAST": 2,
        }
        for name, value in small.items():
            self.patch(cluster_sql, name, value)
        figures = cluster_sql.measure_with(postgres())
        self.assertEqual(len(figures), 7)
        for figure in figures:
            self.assertGreater(figure.value, 0, figure.what)
