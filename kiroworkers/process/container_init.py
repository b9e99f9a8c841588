"""
Run the server below an "init" process where it is the first process of a container.

The kernel gives orphaned processes to the first process (PID 1), which must reap them, or they
stay as zombies.  Twisted reaps only the processes that it has started itself.  So the first
process does nothing else, and its child is the server.
"""

from __future__ import annotations

import os
import signal
from typing import NoReturn

#: The signals that are passed on to the server.
_FORWARDED = {
    signal.SIGTERM,
    signal.SIGINT,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
}

#: What a shell adds to the number of the signal that ended a program.
_KILLED = 128


def run_below_init() -> None:
    """
    If this is the first process of a container, fork, and return in the child only.

    The first process ends with the exit status of the child, and the container with it.  Call
    this before anything is opened.
    """
    if os.getpid() != 1:
        return
    blocked = {*_FORWARDED, signal.SIGCHLD, signal.SIGTTOU}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, blocked)
    server = os.fork()
    if server != 0:
        _reap_until_exit(server)
    # Otherwise Ctrl-C would reach the server twice: from the terminal and from the parent.
    os.setpgid(0, 0)
    if os.isatty(0):
        os.tcsetpgrp(0, os.getpid())
    # Nobody could resume it after Ctrl-Z.
    signal.signal(signal.SIGTSTP, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _reap_until_exit(server: int) -> NoReturn:
    """
    Reap all children and pass signals on, until the process `server` has ended.
    """
    while True:
        number = signal.sigwait({*_FORWARDED, signal.SIGCHLD})
        if number != signal.SIGCHLD:
            os.kill(server, number)
            continue
        pid, status = os.waitpid(-1, os.WNOHANG)
        while pid not in (0, server):
            pid, status = os.waitpid(-1, os.WNOHANG)
        if pid == server:
            code = os.waitstatus_to_exitcode(status)
            os._exit(code if code >= 0 else _KILLED - code)
