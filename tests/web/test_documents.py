"""
Tests for `kiroworkers.web.documents`.
"""

from __future__ import annotations

from collections.abc import Callable

from attrs import evolve
from twisted.internet.defer import CancelledError, Deferred
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.tasks import builtin_tasks
from kiroworkers.web.app import Application
from kiroworkers.web.documents import DescribedApi, DocumentCache, Documents
from kiroworkers.web.routing import routes_of


class CacheTests(SynchronousTestCase):
    """
    Tests for `DocumentCache`, with a thread in memory.
    """

    def setUp(self) -> None:
        routes, tasks = tuple(routes_of(Application.app)), tuple(builtin_tasks().values())
        self.described = DescribedApi(routes, tasks, ("kiro",), False, False)
        self.building: list[tuple[Callable[[], Documents], Deferred[Documents]]] = []
        self.cache = DocumentCache(lambda: self.described, self.run_in_thread)

    def run_in_thread(self, build: Callable[[], Documents]) -> Deferred[Documents]:
        built: Deferred[Documents] = Deferred()
        self.building.append((build, built))
        return built

    def request(self) -> Deferred[Documents]:
        return Deferred.fromCoroutine(self.cache.current())

    def build(self) -> Documents:
        """
        Finish the only build that is in progress.
        """
        [(build, built)] = self.building
        self.building.clear()
        documents = build()
        built.callback(documents)
        return documents

    def test_built_once(self) -> None:
        """
        Requests at the same time share one build, and later ones need none.
        """
        requests = [self.request() for _ in range(3)]
        documents = self.build()
        for request in (*requests, self.request()):
            self.assertIs(self.successResultOf(request), documents)
        self.assertEqual(self.building, [])

    def test_changed(self) -> None:
        """
        A change of a task, an agent or the need for a token is seen by the next request.
        """
        self.request()
        last = self.build()
        task = evolve(self.described.tasks[0], title="Another title")
        for described in (
            evolve(self.described, tasks=(task, *self.described.tasks[1:])),
            evolve(self.described, agents=("gemini",)),
            evolve(self.described, needs_token=True),
        ):
            self.described = described
            request = self.request()
            documents = self.build()
            self.assertIs(self.successResultOf(request), documents)
            self.assertNotEqual(documents.openapi.etag, last.openapi.etag)
            last = documents

    def test_unchanged(self) -> None:
        """
        Tasks that were read again and are the same need no new documents.
        """
        self.request()
        documents = self.build()
        again = tuple(evolve(task) for task in self.described.tasks)
        self.described = evolve(self.described, tasks=again)
        self.assertIs(self.successResultOf(self.request()), documents)

    def test_failed(self) -> None:
        """
        After a build that failed, and after a client that hung up, the next request builds.
        """
        first, second = self.request(), self.request()
        self.building.pop()[1].errback(ValueError())
        self.failureResultOf(first, ValueError)
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.building.clear()
        third = self.request()
        self.build()
        self.successResultOf(third)
