"""
Runs a program as the leader of a session, and so of a process group, of its own.

A program on a PTY is one anyway; one that has pipes would share the server's
group, and signals for it could not reach its children alone.  Run as a file by a
bare interpreter, so it imports the standard library only.
"""

import os
import signal
import sys

#: The exit status of a shell that cannot run a command.
_CANNOT_RUN = 127


def main(command: list[str]) -> None:
    """
    Become `command`, whose first part is the path of a program.
    """
    os.setsid()
    # Python ignores these, and what it starts would, too.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execv(command[0], command)
    except OSError as problem:
        print(f"{command[0]}: {problem.strerror}", file=sys.stderr)
        sys.exit(_CANNOT_RUN)


if __name__ == "__main__":
    main(sys.argv[1:])
