"""
Tests for `kiroworkers.web.dashboard.xterm`.
"""

from __future__ import annotations

import sys
from hashlib import sha256
from pathlib import Path
from zipfile import ZipFile

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.web.dashboard import xterm
from kiroworkers.web.dashboard.assets import XTERM_FILES
from kiroworkers.web.dashboard.xterm import CannotFetch, fetch, is_complete

_CONTENTS = {"xterm.js": b"a terminal", "xterm.css": b"its colours"}


class FetchTests(SynchronousTestCase):
    """
    Tests for `fetch`, with a wheel of the test.
    """

    def setUp(self) -> None:
        self.patch(
            xterm,
            "_FILES",
            {
                name: (f"folder/{name}", sha256(content).hexdigest())
                for name, content in _CONTENTS.items()
            },
        )
        self.vendor = Path(self.mktemp())
        self.contents = dict(_CONTENTS)
        self.downloads = 0

    def download(self, folder: Path) -> Path:
        self.downloads += 1
        wheel = folder / "some.whl"
        with ZipFile(wheel, "w") as archive:
            for name, content in self.contents.items():
                archive.writestr(f"folder/{name}", content)
            archive.writestr("other/code.py", b"")
        return wheel

    def test_fetched(self) -> None:
        """
        The files, and nothing else, are put into the folder, once.
        """
        self.assertFalse(is_complete(self.vendor))
        for _ in range(2):
            fetch(self.vendor, self.download)
            found = {path.name: path.read_bytes() for path in self.vendor.iterdir()}
            self.assertEqual(found, _CONTENTS)
            self.assertTrue(is_complete(self.vendor))
        self.assertEqual(self.downloads, 1)

    def test_changed(self) -> None:
        """
        A file that is not what its author published is never used, and nothing is left behind.
        """
        self.contents["xterm.css"] = b"other colours"
        with self.assertRaisesRegex(CannotFetch, "another digest"):
            fetch(self.vendor, self.download)
        self.assertFalse(self.vendor.exists())

    def test_damaged(self) -> None:
        """
        A file that has been changed or lost since is replaced.
        """
        for damage in (
            lambda: (self.vendor / "xterm.js").write_bytes(b"damaged"),
            (self.vendor / "xterm.css").unlink,
        ):
            fetch(self.vendor, self.download)
            damage()
            fetch(self.vendor, self.download)
            self.assertTrue(is_complete(self.vendor))

    def test_incomplete(self) -> None:
        """
        A wheel without a file, and what is no wheel, are errors with a reason.
        """
        del self.contents["xterm.js"]
        with self.assertRaisesRegex(CannotFetch, r"some\.whl: .*folder/xterm\.js"):
            fetch(self.vendor, self.download)

        def broken(folder: Path) -> Path:
            (folder / "some.whl").write_bytes(b"<html>")
            return folder / "some.whl"

        with self.assertRaisesRegex(CannotFetch, "not a zip file"):
            fetch(self.vendor, broken)

    def test_read_only(self) -> None:
        """
        If the folder cannot be written to, the error says so.
        """
        self.vendor.write_bytes(b"a file")
        with self.assertRaisesRegex(CannotFetch, "cannot write to"):
            fetch(self.vendor, self.download)

    def pip(self, script: str) -> None:
        """
        Let `script` act as the Python that runs pip.
        """
        program = Path(self.mktemp())
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        self.patch(sys, "executable", str(program.absolute()))

    def test_pip(self) -> None:
        """
        The wheel is downloaded by pip, exactly the version whose digests are known.
        """
        folder = Path(self.mktemp())
        folder.mkdir()
        wheel = self.download(folder).absolute()
        self.pip(
            f'echo "$@" > {self.vendor}.arguments; '
            f'while [ "$1" != --dest ]; do shift; done; cp {wheel} "$2"'
        )
        fetch(self.vendor)
        self.assertTrue(is_complete(self.vendor))
        arguments = Path(f"{self.vendor}.arguments").read_text()
        self.assertRegex(arguments, r"^-m pip download .*--no-deps .* pyttyd==2\.0\.2$")

    def test_no_index(self) -> None:
        """
        If pip fails, its last line is the reason; a pip that does nothing is an error as well.
        """
        for script, reason in (
            ("echo trying >&2; echo ERROR: No matching distribution >&2; exit 1", "No matching"),
            ("exit 1", "pip failed"),
            ("exit 0", "pip failed"),
        ):
            self.pip(script)
            with self.assertRaisesRegex(CannotFetch, reason):
                fetch(self.vendor)
            self.assertFalse(self.vendor.exists())

    def test_names(self) -> None:
        """
        The files have the names that the page asks for.
        """
        self.assertEqual({*xterm._FILES}, {*XTERM_FILES})
