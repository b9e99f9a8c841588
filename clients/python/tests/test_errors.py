"""
Tests for `kiroworkers_client.errors` and the program that writes it.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from unittest import TestCase

import generate_errors
import kiroworkers_client
from kiroworkers.errors import CATALOGUE
from kiroworkers_client import errors
from kiroworkers_client.responses import error_from


class GeneratedTests(TestCase):
    """
    Tests for the generated module.
    """

    def test_current(self) -> None:
        """
        The module is what `generate_errors` writes for the catalogue.
        """
        source = Path(errors.__file__).read_text(encoding="utf-8")
        self.assertEqual(source, generate_errors.page(), "run clients/python/generate_errors.py")

    def test_complete(self) -> None:
        """
        Every failure of the server's catalogue is raised as a class of its own.
        """
        classes = set()
        for failure in CATALOGUE:
            with self.subTest(code=failure):
                error = error_from(failure.status, {"error": "No", "code": str(failure)})
                self.assertEqual((error.code, error.status), (failure, failure.status))
                self.assertEqual(str(error), "No")
                self.assertNotIsInstance(error, errors.UnknownError)
                self.assertEqual(isinstance(error, errors.Unavailable), failure.retryable)
                for status in failure.statuses:
                    other = error_from(status, {"error": "No", "code": str(failure)})
                    self.assertEqual((type(other), other.status), (type(error), status))
                classes.add(type(error))
        self.assertEqual(len(classes), len(CATALOGUE))

    def test_distinct_categories(self) -> None:
        """
        Each failure is in exactly one category.
        """
        categories = (errors.BadRequest, errors.Unavailable, errors.TimedOut, errors.Failed)
        for kind in errors.BY_CODE.values():
            with self.subTest(kind=kind):
                self.assertEqual(sum(issubclass(kind, parent) for parent in categories), 1)

    def test_made_by_hand(self) -> None:
        """
        An error that a user's test makes has the code and the status of its class.
        """
        error = errors.AllWorkersBusyError("busy", retry_after=3)
        self.assertEqual(
            (error.code, error.status, error.retry_after), ("all_workers_busy", 503, 3)
        )


class ErrorFromTests(TestCase):
    """
    Tests for `error_from`.
    """

    def test_fields(self) -> None:
        """
        A failure's own fields are attributes of its class.
        """
        invalid = error_from(400, {"error": "No", "code": "invalid_input", "field": "idea"})
        assert isinstance(invalid, errors.InvalidInputError)
        self.assertEqual(invalid.field, "idea")
        details = {"reasons": ["a", "b"], "worker": "worker1", "request": 7}
        unfit = error_from(502, {"error": "No", "code": "answer_unfit", **details})
        assert isinstance(unfit, errors.AnswerUnfitError)
        self.assertEqual((unfit.reasons, unfit.worker, unfit.request), (("a", "b"), "worker1", 7))
        queue = {"queue": {"length": 3, "limit": 4}, "retryAfter": 6}
        busy = error_from(503, {"error": "No", "code": "all_workers_busy", **queue})
        assert isinstance(busy, errors.AllWorkersBusyError)
        self.assertEqual((busy.queue_length, busy.queue_limit, busy.retry_after), (3, 4, 6))

    def test_wrong_types(self) -> None:
        """
        Fields that are missing or of the wrong type are None or empty.
        """
        for body in ({}, {"field": 1, "reasons": "a", "worker": [], "queue": 1, "retryAfter": "x"}):
            with self.subTest(body=body):
                unfit = error_from(502, {"code": "answer_unfit", **body})
                assert isinstance(unfit, errors.AnswerUnfitError)
                self.assertEqual((unfit.reasons, unfit.worker, unfit.request), ((), None, None))
                busy = error_from(503, {"code": "all_workers_busy", **body})
                assert isinstance(busy, errors.AllWorkersBusyError)
                self.assertEqual((busy.queue_length, busy.retry_after), (None, None))
                self.assertEqual(str(busy), "The server answered 503")

    def test_retry_after_header(self) -> None:
        """
        The header says when to ask again if the body does not.
        """
        for value, seconds in (("7", 7.0), ("soon", None), ("-1", None), ("9" * 400, None)):
            with self.subTest(value=value):
                error = error_from(503, {}, {"retry-after": value})
                self.assertEqual(error.retry_after, seconds)

    def test_retry_after_not_finite(self) -> None:
        """
        A number of seconds that no client can wait for is none.
        """
        for value in (float("inf"), float("nan"), -1, True):
            with self.subTest(value=value):
                self.assertIsNone(error_from(503, {"retryAfter": value}).retry_after)

    def test_unknown(self) -> None:
        """
        A failure that this client does not know keeps its code, and fits the usual categories.
        """
        for status, kind in (
            (400, errors.BadRequest),
            (408, errors.TimedOut),
            (418, errors.BadRequest),
            (429, errors.Unavailable),
            (500, errors.Failed),
            (503, errors.Unavailable),
            (504, errors.TimedOut),
        ):
            with self.subTest(status=status):
                error = error_from(status, {"error": "It rains", "code": "raining", "since": 1})
                self.assertIsInstance(error, kind)
                self.assertIsInstance(error, errors.UnknownError)
                self.assertEqual((error.code, error.status), ("raining", status))
                self.assertEqual(error.body["since"], 1)

    def test_pickle(self) -> None:
        """
        An error can be passed from one process to another.
        """
        body = {"error": "No", "code": "invalid_input", "field": "idea"}
        error = pickle.loads(pickle.dumps(error_from(400, body)))
        self.assertIsInstance(error, errors.InvalidInputError)
        self.assertEqual((str(error), error.status, error.field), ("No", 400, "idea"))


class PackageTests(TestCase):
    """
    Tests for the package.
    """

    def test_without_server(self) -> None:
        """
        No module of the client imports the server.
        """
        folder = Path(kiroworkers_client.__file__).parent
        for path in folder.glob("*.py"):
            with self.subTest(path=path.name):
                self.assertNotRegex(
                    path.read_text(encoding="utf-8"), r"(from|import) kiroworkers\b"
                )

    def test_exports(self) -> None:
        """
        Everything that the package exports exists.
        """
        for name in kiroworkers_client.__all__:
            self.assertTrue(hasattr(kiroworkers_client, name), name)
