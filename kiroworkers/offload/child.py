"""
Run calls for a server: this is the program of a helper process.

It reads calls from standard input and writes their outcomes to standard output, one after
the other, and ends when the server closes the pipe or is gone.  A call that uses too much
CPU time ends the process with SIGPROF, whatever it is doing.
"""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import sys
from typing import BinaryIO

from kiroworkers.offload.framing import HEADER

#: The outcome of a call that needed too much memory.
OUT_OF_MEMORY = b""

#: The server comes first: on a busy machine, its event loop gets most of the time.
_NICENESS = 5


def main(cpu_seconds: float, memory: int) -> None:
    """
    Serve until standard input ends.

    Args:
        cpu_seconds: The CPU time of one call.
        memory: The memory of this process for data, in bytes.
    """
    # Ctrl-C in a terminal is meant for the server.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(_NICENESS)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with os.fdopen(os.dup(1), "wb") as output:
        # What a library may print is no outcome.
        os.dup2(2, 1)
        while (frame := _read_frame(sys.stdin.buffer)) is not None:
            outcome = _outcome(frame, cpu_seconds)
            del frame
            output.write(HEADER.pack(len(outcome)))
            output.write(outcome)
            output.flush()
            if outcome is OUT_OF_MEMORY:
                return


def _outcome(frame: bytes, cpu_seconds: float) -> bytes:
    """
    Run the call in `frame`, and return its outcome as JSON.
    """
    try:
        call = pickle.loads(frame)
        signal.setitimer(signal.ITIMER_PROF, cpu_seconds)
        outcome = json.dumps(call.run(), ensure_ascii=False, separators=(",", ":"))
        signal.setitimer(signal.ITIMER_PROF, 0)
        return outcome.encode("utf-8", "surrogatepass")
    except MemoryError:
        signal.setitimer(signal.ITIMER_PROF, 0)
        return OUT_OF_MEMORY


def _read_frame(stream: BinaryIO) -> bytes | None:
    """
    Return the next frame of `stream`, or None at its end.
    """
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    [length] = HEADER.unpack(header)
    frame = stream.read(length)
    return frame if len(frame) == length else None
