"""
Tests for `kiroworkers.request_record`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.request_record import RequestRecord


class OutcomeTests(SynchronousTestCase):
    """
    Tests for `RequestRecord.outcome`.
    """

    def test_outcomes(self) -> None:
        """
        A request that was queued fails, one that was not is rejected, and one whose client hangs
        up is cancelled; one that creates a job, or is answered as before, says so.
        """
        for record, outcome in [
            (RequestRecord(status=200, attempts=1), "answered"),
            (RequestRecord(status=304), "answered"),
            (RequestRecord(status=502, code="answer_unfit", attempts=2), "failed"),
            # A stream has begun before its request fails.
            (RequestRecord(status=200, code="timed_out", attempts=1), "failed"),
            (RequestRecord(status=503, code="queue_timeout", wait=30.0), "failed"),
            (RequestRecord(status=404), "rejected"),
            (RequestRecord(status=503, code="busy"), "rejected"),
            (RequestRecord(status=499), "cancelled"),
            (RequestRecord(status=200, attempts=1, aborted=True), "cancelled"),
            (RequestRecord(method="POST", status=202, job="x"), "accepted"),
            (RequestRecord(method="JOB", status=200, job="x", attempts=1), "answered"),
            (RequestRecord(status=200, replayed=True), "replayed"),
            (RequestRecord(method="POST", status=202, job="x", replayed=True), "replayed"),
        ]:
            self.assertEqual(record.outcome, outcome, record)
