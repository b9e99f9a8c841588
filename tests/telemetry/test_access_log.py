"""
Tests for `kiroworkers.telemetry.access_log`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.request_record import RequestRecord
from kiroworkers.telemetry.access_log import (
    combined_line,
    request_fields,
    request_summary,
    write_record,
)
from tests.records import logged_records


class LineTests(SynchronousTestCase):
    """
    Tests for `combined_line`.
    """

    def test_all(self) -> None:
        """
        A line begins as the combined format does, and goes on with the other facts.
        """
        record = RequestRecord(
            "0191f3b1c2d4",
            host="192.0.2.7",
            user="backend",
            method="POST",
            path="/kiro/generate-story",
            protocol="HTTP/1.1",
            referrer="http://a.example/",
            user_agent="curl/8.5.0",
            task="generate-story",
            agent="kiro",
            worker="worker1",
            attempts=2,
            repairs=1,
            wait=0.0,
            first_output=0.9117,
            turn=3.2144,
            credits=0.0525,
            total=3.25,
            status=502,
            sent=512,
            code="answer_unfit",
            job="x",
            replayed=True,
            aborted=True,
            ended=1e9,
        )
        self.assertEqual(
            combined_line(record),
            '"192.0.2.7" - backend [09/Sep/2001:01:46:40 +0000] '
            '"POST /kiro/generate-story HTTP/1.1" 502 512 "http://a.example/" "curl/8.5.0" '
            "id=0191f3b1c2d4 task=generate-story agent=kiro worker=worker1 attempts=2 repairs=1 "
            "wait=0.000 first=0.912 turn=3.214 credits=0.052 total=3.250 code=answer_unfit job=x "
            "replayed=yes aborted=yes outcome=cancelled",
        )

    def test_little(self) -> None:
        """
        Facts that are not known are left out, or are a dash where the format demands a field.
        """
        record = RequestRecord(host="unix", status=503, code="too_many_connections", ended=0.0)
        self.assertEqual(
            combined_line(record),
            '"unix" - - [01/Jan/1970:00:00:00 +0000] "-" 503 - "-" "-" code=too_many_connections',
        )

    def test_hostile(self) -> None:
        """
        No text of a client can end its field or its line, or holds a control character.
        """
        hostile = '"\x1b[31m\x9b\u202e\r\n" 200 7 \\ \udcff'
        record = RequestRecord(
            host=hostile,
            user="a b\x9b",
            method="GET",
            path=hostile,
            protocol=hostile,
            referrer=hostile,
            user_agent=hostile,
            task="x y\u202e",
            status=404,
            sent=7,
            ended=0.0,
        )
        line = combined_line(record)
        self.assertTrue(line.isascii() and line.isprintable(), line)
        self.assertTrue(line.endswith(r' task="x y\u202e" outcome=rejected'), line)
        self.assertIn(r' - "a b\x9b" [', line)
        self.assertIn('" 404 7 "', line)


class FieldTests(SynchronousTestCase):
    """
    Tests for `request_fields` and `request_summary`.
    """

    def test_same_facts(self) -> None:
        """
        JSON has the facts that a line of text has, with the names of the HTTP API.
        """
        record = RequestRecord(
            "id1",
            host="192.0.2.7",
            method="POST",
            path="/kiro/generate-story",
            task="generate-story",
            worker="worker1",
            attempts=1,
            wait=0.00049,
            first_output=1.0,
            tools_denied=2,
            status=200,
            sent=7,
            replayed=True,
        )
        self.assertEqual(
            request_fields(record),
            {
                "address": "192.0.2.7",
                "method": "POST",
                "path": "/kiro/generate-story",
                "status": 200,
                "bytes": 7,
                "requestId": "id1",
                "task": "generate-story",
                "worker": "worker1",
                "attempts": 1,
                "repairs": 0,
                "wait": 0.0,
                "firstOutput": 1.0,
                "toolsDenied": 2,
                "replayed": True,
                "outcome": "replayed",
            },
        )
        self.assertEqual(request_summary(record), "POST /kiro/generate-story: 200 replayed")

    def test_no_task(self) -> None:
        """
        A request that asks no agent has a status, and no outcome.
        """
        record = RequestRecord(method="GET", path="/health", protocol="HTTP/1.1", status=200)
        self.assertNotIn("outcome", request_fields(record))
        self.assertNotIn("outcome", combined_line(record))
        self.assertEqual(request_summary(record), "GET /health: 200")


class WriteTests(SynchronousTestCase):
    """
    Tests for `write_record`.
    """

    def test_event(self) -> None:
        """
        The event of a line also has the record, with the time.
        """
        records = logged_records(self)
        record = RequestRecord(host="unix", status=200)
        write_record(record, 5.0)
        self.assertEqual(([record], record.ended), (records, 5.0))
