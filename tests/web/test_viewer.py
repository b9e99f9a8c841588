"""
Tests for `kiroworkers.web.viewer`.

`tests.end_to_end.test_viewer` shows it in a browser.
"""

from __future__ import annotations

import re

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.web import viewer
from kiroworkers.web.viewer import ViewerMissing, load_viewer


class ViewerTests(SynchronousTestCase):
    """
    Tests for `load_viewer`.
    """

    def test_addresses(self) -> None:
        """
        The page names each file with its version, and there is no file that it does not name.
        """
        files = load_viewer()
        page = files[""].content.decode()
        addresses = dict(re.findall(r'"docs/([\w.-]+)\?(\w+)"', page))
        self.assertEqual({*addresses}, {*files} - {""})
        for name, version in addresses.items():
            self.assertEqual(version, files[name].version)

    def test_packaged(self) -> None:
        """
        The package has Swagger UI, which shows OpenAPI 3.1 and has a dark mode.
        """
        files = load_viewer()
        self.assertIn(b"SwaggerUIBundle", files["swagger-ui-bundle.js"].content)
        self.assertIn(b".dark-mode", files["swagger-ui.css"].content)

    def test_not_installed(self) -> None:
        """
        Without the package, or with one that lacks files, the error says what to do.
        """
        for package in ("not_installed", "tests"):
            self.patch(viewer, "_PACKAGE", package)
            with self.assertRaisesRegex(ViewerMissing, "install kiroworkers again"):
                load_viewer.__wrapped__()
