"""
Kill process groups when standard input closes: the program that `watchdog` starts.

A bare interpreter runs this file, so it imports the standard library only.
"""

import os
import signal
import sys
from contextlib import suppress
from typing import BinaryIO


def remaining_groups(source: BinaryIO) -> set[int]:
    """
    Read `source` to its end and return the process groups that are still registered.

    Each line is ``+PGID`` for a group that was started or ``-PGID`` for one that ended.
    """
    groups: set[int] = set()
    for line in source:
        if line.startswith(b"+"):
            groups.add(int(line[1:]))
        else:
            groups.discard(int(line[1:]))
    return groups


def main() -> None:
    """
    Wait until standard input closes, then kill the groups that are left.
    """
    # A signal to the server's own group must not end this program first.
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for group in remaining_groups(sys.stdin.buffer):
        with suppress(OSError):
            # The leader may not have created its group yet.
            os.kill(group, signal.SIGKILL)
        with suppress(OSError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
