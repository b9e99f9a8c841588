"""
Run a server, and count in which code it spends its CPU time.

``python -m bench.sampled FILE FUNCTION ...`` calls the function of that name, with the arguments
that follow.  A signal SIGUSR2 begins to count, and the next one writes the counts to `FILE`.
"""

from __future__ import annotations

import json
import signal
import sys
import sysconfig
from collections import Counter
from pathlib import Path
from types import FrameType

from twisted.python.reflect import namedAny

#: Seconds of CPU time from one sample to the next.
_INTERVAL = 0.001

_PACKAGES = (f"{sysconfig.get_path('purelib')}/", f"{sysconfig.get_path('platlib')}/")
_ROOT = f"{Path(__file__).parents[1]}/"


def part_of(frame: FrameType | None) -> str:
    """
    Return the package that a frame belongs to, or of its caller if it is in Python's own library.

    Of this project, that is a package of its own, such as ``kiroworkers.web``.
    """
    while frame is not None:
        file = frame.f_code.co_filename
        for folder in _PACKAGES:
            if file.startswith(folder):
                return file.removeprefix(folder).partition("/")[0]
        if file.startswith(_ROOT):
            names = file.removeprefix(_ROOT).removesuffix(".py").split("/")
            return ".".join(names[:2])
        frame = frame.f_back
    return "python"


class Sampler:
    """
    Count where the CPU time goes between two signals.

    Args:
        file: Where to write the counts.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._samples: Counter[str] = Counter()
        self._wakeup = -1

    def toggle(self, *_: object) -> None:
        """
        Begin, or end and write the counts.
        """
        if signal.getsignal(signal.SIGPROF) == self._sample:
            signal.setitimer(signal.ITIMER_PROF, 0)
            signal.set_wakeup_fd(self._wakeup)
            self._file.write_text(json.dumps(self._samples))
        else:
            signal.signal(signal.SIGPROF, self._sample)
            # Else each sample would wake the reactor.
            self._wakeup = signal.set_wakeup_fd(-1)
            signal.setitimer(signal.ITIMER_PROF, _INTERVAL, _INTERVAL)

    def _sample(self, _: int, frame: FrameType | None) -> None:
        self._samples[part_of(frame)] += 1


def main() -> None:
    """
    Serve until killed.
    """
    _, file, function, *arguments = sys.argv
    signal.signal(signal.SIGUSR2, Sampler(Path(file)).toggle)
    sys.argv = [function, *arguments]
    namedAny(function)()


if __name__ == "__main__":
    main()
