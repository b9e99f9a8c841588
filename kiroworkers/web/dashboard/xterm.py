"""
Fetch xterm.js, with which the page shows terminals.

Its files are not a part of this project's sources, and no package has them alone.  They are taken
from the wheel of ``pyttyd``, a package that serves them: two files of it, as their author publishes
them, are put into the folder ``vendor`` and become a part of the wheel that is built.  Nothing of
``pyttyd`` is installed or run.

``setup.py`` does so for every build.  If the package index could not be reached then, do it later
in the Python that has kiroworkers::

    python -m kiroworkers.web.dashboard.xterm

``setup.py`` runs this file alone, so it imports nothing of the package.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import BadZipFile, ZipFile

#: Where the files are.
VENDOR = Path(__file__).with_name("vendor")

#: The wheel that has the files.
_REQUIREMENT = "pyttyd==2.0.2"

#: For each file, its path in the wheel and its SHA-256 digest: that of xterm.js 5.5.0.
_FILES = {
    "xterm.js": (
        "pyttyd/static/js/xterm.js",
        "4196e242ef1cf4c2adead8d97f4a772a69576076f70b095e004b4abbb049e7bf",
    ),
    "xterm.css": (
        "pyttyd/static/css/xterm.css",
        "125f4259737b69cb58502a0fe1fe993540b813f4f3351481652bc6458f3b1abb",
    ),
}

#: Seconds that a download may take.
_TIMEOUT = 60


class CannotFetch(Exception):
    """
    Raised when the files cannot be fetched; the message is the reason.
    """


def fetch(vendor: Path = VENDOR, download: Callable[[Path], Path] | None = None) -> None:
    """
    Put the files into the folder `vendor`, unless they are there.

    Args:
        vendor: The folder.
        download: Puts the wheel into a folder and returns its path; pip by default.

    Raises:
        CannotFetch: The wheel cannot be downloaded, or does not have the files.
    """
    if is_complete(vendor):
        return
    with TemporaryDirectory() as folder:
        contents = _read_wheel((download or _download)(Path(folder)))
    try:
        vendor.mkdir(exist_ok=True)
        for name, content in contents.items():
            (vendor / name).write_bytes(content)
    except OSError as error:
        raise CannotFetch(f"cannot write to {vendor}: {error.strerror}") from None


def is_complete(vendor: Path) -> bool:
    """
    Return whether the folder `vendor` has the files, unchanged.
    """
    try:
        return all(
            sha256((vendor / name).read_bytes()).hexdigest() == digest
            for name, (_, digest) in _FILES.items()
        )
    except OSError:
        return False


def _read_wheel(wheel: Path) -> dict[str, bytes]:
    """
    Return the contents of the files in `wheel`, by name.
    """
    contents = {}
    try:
        with ZipFile(wheel) as archive:
            for name, (path, digest) in _FILES.items():
                contents[name] = archive.read(path)
                if sha256(contents[name]).hexdigest() != digest:
                    raise CannotFetch(f"{path} in {wheel.name} has another digest")
    except (OSError, BadZipFile, KeyError) as error:
        raise CannotFetch(f"{wheel.name}: {error}") from None
    return contents


def _download(folder: Path) -> Path:
    """
    Download the wheel into `folder` with pip, from the index that pip is configured to use.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps"]
    command += ["--disable-pip-version-check", "--only-binary", ":all:", "--retries", "1"]
    command += ["--timeout", "10", "--dest", str(folder), _REQUIREMENT]
    try:
        done = subprocess.run(
            command,
            # The environment of a build is not a virtual environment.
            env={**os.environ, "PIP_REQUIRE_VIRTUALENV": "0"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise CannotFetch(f"pip took more than {_TIMEOUT} seconds") from None
    wheels = [*folder.glob("*.whl")]
    if done.returncode or not wheels:
        *_, reason = done.stderr.strip().splitlines() or ["pip failed"]
        raise CannotFetch(reason.removeprefix("ERROR: "))
    return wheels[0]


def main() -> int:
    """
    Fetch the files, and return the exit status.
    """
    try:
        fetch()
    except CannotFetch as problem:
        print(f"kiroworkers: cannot fetch xterm.js: {problem}", file=sys.stderr)
        return 1
    print(f"xterm.js is in {VENDOR}; restart the server to use it")
    return 0


if __name__ == "__main__":
    sys.exit(main())
