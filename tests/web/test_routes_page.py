"""
Tests for `docs.routes`.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from docs import routes
from kiroworkers.web.app import Application
from kiroworkers.web.headers import ANSWER_HEADERS
from kiroworkers.web.openapi.stream_events import TASK_EVENTS
from kiroworkers.web.routing import routes_of


class PageTests(SynchronousTestCase):
    """
    Tests for the page about the routes.
    """

    def test_current(self) -> None:
        """
        The page is what the routes give; if not, run ``python docs/routes.py``.
        """
        self.assertEqual(routes.PAGE.read_text(encoding="utf-8"), routes.page())

    def test_complete(self) -> None:
        """
        The page has every documented route, every header of an answer and every event.
        """
        page = routes.page()
        for route in routes_of(Application.app):
            if route.tag is not None:
                self.assertIn(f"\n{route.method} {route.path}\n~~~", page)
        for header in ANSWER_HEADERS:
            self.assertIn(f"* - ``{header.decode()}``\n", page)
        for event in TASK_EVENTS:
            self.assertIn(f"* - ``{event}``\n", page)
