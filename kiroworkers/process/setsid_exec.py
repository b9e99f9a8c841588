"""
Run a program as the leader of its own session, and so of its own process group.

A program on a PTY leads a session anyway.  One with pipes would share the server's process
group, so a signal could not be sent to it and its children alone.

A bare interpreter runs this file, so it imports the standard library only.
"""

import os
import signal
import sys

#: The exit status of a shell that cannot run a command.
_CANNOT_RUN = 127


def main(command: list[str]) -> None:
    """
    Replace this process with `command`, whose first item is the path of a program.
    """
    os.setsid()
    # Python ignores these signals, and a program it starts would inherit that.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execv(command[0], command)
    except OSError as error:
        print(f"{command[0]}: {error.strerror}", file=sys.stderr)
        sys.exit(_CANNOT_RUN)


if __name__ == "__main__":
    main(sys.argv[1:])
