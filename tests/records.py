"""
Collect the records of requests that are logged.
"""

from __future__ import annotations

from typing import Any

from twisted.logger import ILogObserver, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from kiroworkers.request_record import RequestRecord


@implementer(ILogObserver)
class _RecordObserver:
    """
    Keep the records of the events that have one.
    """

    def __init__(self) -> None:
        self.records: list[RequestRecord] = []

    def __call__(self, event: dict[str, Any]) -> None:
        if "record" in event:
            self.records.append(event["record"])


def logged_records(case: SynchronousTestCase) -> list[RequestRecord]:
    """
    Return a list to which each record that is logged is added, until the end of the test.
    """
    observer = _RecordObserver()
    globalLogPublisher.addObserver(observer)
    case.addCleanup(globalLogPublisher.removeObserver, observer)
    return observer.records
