"""
Tests for `kiroworkers.cli.output`, with real files.
"""

from __future__ import annotations

import io
import os
import sys

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.cli.output import print_output


class OutputTests(SynchronousTestCase):
    """
    Tests for `print_output`.
    """

    def print_to(self, descriptor: int) -> str:
        """
        Print to a descriptor that cannot be written, and return what is on standard error.
        """
        errors = io.StringIO()
        self.patch(sys, "stderr", errors)
        # Leaving the context writes what is left, which must not fail again.
        with open(descriptor, "w") as output:
            self.patch(sys, "stdout", output)
            with self.assertRaises(SystemExit) as raised:
                print_output("text")
        self.assertEqual(raised.exception.code, 1)
        return errors.getvalue()

    def test_prints(self) -> None:
        """
        The text is printed as a line.
        """
        output = io.StringIO()
        self.patch(sys, "stdout", output)
        print_output("text")
        self.assertEqual(output.getvalue(), "text\n")

    def test_encoding(self) -> None:
        """
        The output is UTF-8 in any locale, and a file's name that is not is shown with escapes.
        """
        data = io.BytesIO()
        self.patch(sys, "stdout", io.TextIOWrapper(data, encoding="ascii"))
        print_output("é \udcff")
        self.assertEqual(data.getvalue(), "é \\udcff\n".encode())

    def test_full(self) -> None:
        """
        A full disk ends the command with the reason.
        """
        self.assertEqual(
            self.print_to(os.open("/dev/full", os.O_WRONLY)),
            "kiroworkers: cannot print the output: No space left on device\n",
        )

    def test_nobody_reads(self) -> None:
        """
        A reader that has gone away ends the command in silence.
        """
        reading, writing = os.pipe()
        os.close(reading)
        self.assertEqual(self.print_to(writing), "")
