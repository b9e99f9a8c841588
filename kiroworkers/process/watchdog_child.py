"""
The program behind `watchdog.Guard`: ends process groups when its input ends.

Run as a file by a bare interpreter, so it imports the standard library only.
"""

import os
import signal
import sys
from contextlib import suppress
from typing import BinaryIO


def left_in(source: BinaryIO) -> set[int]:
    """
    The groups that were begun (``+PGID``) and not ended (``-PGID``) when
    `source` ends.
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
    Wait for standard input to end, then kill the groups that are left.
    """
    # Whatever ends the server's own group must not end this program first.
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for group in left_in(sys.stdin.buffer):
        with suppress(OSError):
            # Its leader may not have made it a group yet.
            os.kill(group, signal.SIGKILL)
        with suppress(OSError):
            os.killpg(group, signal.SIGKILL)


if __name__ == "__main__":
    main()
