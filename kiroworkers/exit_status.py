"""
Define the exit statuses of the server, and set those that twistd cannot.

The numbers of what keeps a server from starting are those of the C header ``sysexits.h``.
They tell a service manager that another start would fail as well; for systemd, set
``RestartPreventExitStatus=64 78``.
"""

from __future__ import annotations

import atexit
import os
import sys

#: The server stopped before it finished every accepted request.
UNFINISHED_REQUESTS = 1

#: An option is unknown, an option or a variable has an invalid value, or the configuration
#: file cannot be used (``EX_USAGE``).
INVALID_OPTION = 64

#: Something that the server needs is missing or cannot be used: an agent, a file, a folder,
#: a port (``EX_CONFIG``).
CANNOT_START = 78


class ExitStatus:
    """
    Make the process exit with the server's own status, which twistd has no way to set.

    Create it before anything else registers with `atexit`, so that it is called last.

    Attributes:
        value: The status; 0 leaves that of twistd.
    """

    def __init__(self) -> None:
        self.value = 0
        atexit.register(self._exit)

    def _exit(self) -> None:
        if self.value:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(self.value)
