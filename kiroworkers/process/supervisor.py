"""
Run a session's agent, and end everything that the agent has started.

`agent_process` starts this program once for each session.  The agent is its child, with the
terminal or the pipes that this program was given.  It leads a process group, which is the
terminal's foreground group, as if a shell had started it.  This program stays the leader of the
terminal's session: when that ends, the kernel sends SIGHUP to the foreground group.

On Linux, whatever the agent starts stays below this program, even if it leaves its process
group and session (`setsid`) or its parent ends (a daemon): a process whose parent has ended
gets the nearest ancestor that is a "child subreaper" as its new parent (prctl(2)).

The agent's processes are told to end, by SIGTERM, when this program gets SIGTERM, when the
server dies, and when the agent has ended by itself.  What is left after the grace period is
killed.  This program ends last, with the agent's exit status or by the same signal.

The kernel reports the death of the server with SIGCONT, because this program may have been
stopped (SIGSTOP).  Only SIGCONT and SIGKILL act on a stopped process, and after SIGKILL nobody
would end the processes that have left the agent's group.

A bare interpreter runs this file, so it imports the standard library only.  It does not import
`contextlib` and `typing`, which would add a third to the time of its start.
"""

import ctypes
import os
import signal
import sys
import time

#: The exit status of a shell that cannot run a command.
_CANNOT_RUN = 127

#: Seconds between two attempts to kill what is left, and after which to give up: a process
#: can neither be killed while the kernel waits for a disk, nor by another user.
_KILL_INTERVAL = 0.05
_KILL_TIMEOUT = 10.0

#: Options of prctl(2).
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36

#: The signals that this program reacts to, and those that it ignores because they concern
#: the terminal.  They are blocked, so that none is lost or interrupts anything.
_AWAITED = {
    signal.SIGCHLD,
    signal.SIGTERM,
    signal.SIGALRM,
    signal.SIGCONT,
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGQUIT,
    signal.SIGTTOU,
}


def descendants(pid: int) -> list[int]:
    """
    Return the ids of all processes below the process `pid`, parents first.

    It is empty where the system does not list children (``/proc/PID/task/TID/children``).
    """
    pids: list[int] = []
    parents = [pid]
    while parents:
        children = _children(parents.pop())
        pids += children
        parents += children
    return pids


def _children(pid: int) -> list[int]:
    children: list[int] = []
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []  # It has ended.
    for thread in threads:
        try:
            with open(f"/proc/{pid}/task/{thread}/children", "rb", buffering=0) as file:
                children += map(int, file.read().split())
        except OSError:
            continue  # The thread has ended.
    return children


class Supervisor:
    """
    Wait for an agent and everything below this process.

    Args:
        agent: The agent's process id.
        grace: Seconds from SIGTERM to SIGKILL.
        server: The id of the parent process.
    """

    def __init__(self, agent: int, grace: float, server: int) -> None:
        self._agent = agent
        self._grace = grace
        self._server = server
        self._status: int | None = None
        self._ending = False
        self._give_up_at: float | None = None

    def wait(self) -> int:
        """
        Wait until no process is left, and return how the agent ended, as from waitpid(2).
        """
        while True:
            number = signal.sigwait(_AWAITED)
            if not self._reap():
                break
            if number == signal.SIGALRM or self._give_up_at is not None:
                if not self._kill():
                    break
            elif number == signal.SIGTERM or self._status is not None or self._is_orphan():
                self._end()
        return signal.SIGKILL if self._status is None else self._status

    def _reap(self) -> bool:
        """
        Reap the children that have ended, and return whether any child is left.
        """
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._agent:
                self._status = status

    def _is_orphan(self) -> bool:
        """
        Return whether the server has died.
        """
        return os.getppid() != self._server

    def _end(self) -> None:
        """
        Tell every process to end, once.
        """
        if not self._ending:
            self._ending = True
            self._send_signal(signal.SIGTERM)
            # A stopped process does not notice the signal.
            self._send_signal(signal.SIGCONT)
            signal.setitimer(signal.ITIMER_REAL, max(self._grace, _KILL_INTERVAL))

    def _kill(self) -> bool:
        """
        Kill what is left, and return whether to go on: processes may have started others.
        """
        now = time.monotonic()
        if self._give_up_at is None:
            self._give_up_at = now + _KILL_TIMEOUT
        self._send_signal(signal.SIGKILL)
        signal.setitimer(signal.ITIMER_REAL, _KILL_INTERVAL)
        return now < self._give_up_at

    def _send_signal(self, number: int) -> None:
        """
        Send the signal `number` to every process below this one.

        All processes of a group are signalled at once, so that none can escape by starting
        another.  A group never reaches beyond its session, and so not above this process.
        """
        targets = {-self._agent}
        for pid in descendants(os.getpid()):
            try:
                group = os.getpgid(pid)
            except ProcessLookupError:
                continue
            # The agent is in this process's own group until it has created its own.
            targets.add(pid if group == os.getpgrp() else -group)
        for target in targets:
            try:
                os.kill(target, number)
            except OSError:
                continue  # They have ended, or belong to another user.


def start(command: list[str]) -> int:
    """
    Start the agent and return its process id.

    Args:
        command: The path of the program, and its arguments.

    Raises:
        OSError: If no process can be created.
    """
    agent = os.fork()
    if agent == 0:
        try:
            _become(command)
        finally:
            os._exit(_CANNOT_RUN)
    return agent


def _become(command: list[str]) -> None:
    """
    Replace this process, a child of the supervisor, by the agent.
    """
    os.setpgid(0, 0)
    if os.isatty(0):
        os.tcsetpgrp(0, os.getpid())
    # The agent must not outlive a supervisor that was killed.
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # Python ignores some signals, and a program that it starts would inherit that.
    for number in signal.valid_signals():
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)
    try:
        os.execve(command[0], command, _environment())
    except OSError as error:
        os.write(2, f"{command[0]}: {error.strerror}\n".encode(errors="replace"))
    os._exit(_CANNOT_RUN)


def _environment() -> dict[bytes, bytes]:
    """
    Return the environment that this process was given.

    It is not `os.environ` if the interpreter has set LC_CTYPE (PEP 538).
    """
    try:
        with open("/proc/self/environ", "rb") as file:
            entries = file.read().split(b"\0")
    except OSError:
        return dict(os.environb)
    pairs = (entry.partition(b"=") for entry in entries if entry)
    return {name: value for name, _, value in pairs}


def _prctl(option: int, argument: int) -> None:
    """
    Call prctl(2), or do nothing on systems other than Linux.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(option, *map(ctypes.c_ulong, (argument, 0, 0, 0)))


def _release_files() -> None:
    """
    Give up the terminal or the pipes, and the working folder.

    The agent's output then ends when its own processes have closed it.
    """
    os.chdir("/")
    devnull = os.open(os.devnull, os.O_RDWR)
    for descriptor in range(3):
        os.dup2(devnull, descriptor)
    os.close(devnull)


def _end_like(status: int) -> None:
    """
    End this process as another one has ended, with `status` as from waitpid(2).
    """
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        _prctl(_PR_SET_DUMPABLE, 0)  # One core dump is enough.
        if number != signal.SIGKILL:
            signal.signal(number, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {number})
        os.kill(os.getpid(), number)
    os._exit(os.WEXITSTATUS(status))


def main(grace: float, server: int, command: list[str]) -> None:
    """
    Run `command` for the process `server`, and end when everything below has ended.

    Args:
        grace: Seconds from SIGTERM to SIGKILL.
        server: The id of the parent process.
        command: The path of a program, and its arguments.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGCONT)
    if os.getppid() != server:
        sys.exit("the server is gone")
    if os.getsid(0) != os.getpid():
        os.setsid()
    try:
        agent = start(command)
    except OSError as error:
        sys.exit(f"{command[0]}: {error.strerror}")
    _release_files()
    _end_like(Supervisor(agent, grace, server).wait())


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
