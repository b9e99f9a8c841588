"""
Tests for `kiroworkers_client.callbacks`.
"""

from __future__ import annotations

import json
from unittest import TestCase

from kiroworkers.jobs.webhooks import signature
from kiroworkers_client import InvalidSignature, verify_callback
from tests.test_calls import JOB

SECRET = "a secret of the operator"
BODY = json.dumps({**JOB, "state": "done", "result": {"title": "x"}}).encode()
SIGNATURE = signature(SECRET.encode(), BODY)


class VerifyCallbackTests(TestCase):
    """
    Tests for `verify_callback`.
    """

    def test_valid(self) -> None:
        """
        A call that the server has signed is the job.
        """
        for name, secret in (
            ("X-Kiroworkers-Signature", SECRET),
            ("x-kiroworkers-signature", f" {SECRET}\n".encode()),
        ):
            with self.subTest(name=name):
                job = verify_callback({"Host": "x", name: SIGNATURE}, BODY, secret)
                self.assertEqual(job.result(), {"title": "x"})

    def test_invalid(self) -> None:
        """
        A call that was changed, has no signature or another secret is refused.
        """
        header = "X-Kiroworkers-Signature"
        for headers, body in (
            ({}, BODY),
            ({header: ""}, BODY),
            ({header: "sha256=ü"}, BODY),
            ({header: SIGNATURE}, BODY + b" "),
            ({header: signature(b"another secret", BODY)}, BODY),
            ({header: SIGNATURE.removeprefix("sha256=")}, BODY),
        ):
            with self.subTest(headers=headers), self.assertRaises(InvalidSignature):
                verify_callback(headers, body, SECRET)

    def test_no_secret(self) -> None:
        """
        Without a secret nothing is checked, so that is an error.
        """
        headers = {"X-Kiroworkers-Signature": signature(b"", BODY)}
        with self.assertRaisesRegex(ValueError, "secret is empty"):
            verify_callback(headers, BODY, " \n")

    def test_no_job(self) -> None:
        """
        A signed call that describes no job is an error of another kind.
        """
        headers = {"X-Kiroworkers-Signature": signature(SECRET.encode(), b"[]")}
        with self.assertRaises(ValueError) as caught:
            verify_callback(headers, b"[]", SECRET)
        self.assertNotIsInstance(caught.exception, InvalidSignature)
