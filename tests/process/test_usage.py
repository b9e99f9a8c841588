"""
Tests for `kiroworkers.process.usage`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from kiroworkers.process.usage import TreeUsage, usage_by_tree
from tests.programs import Program, environment

real: Any = reactor

#: A program that has a child with a strange name that uses CPU time and memory.
_FAMILY = """
import os, sys, time
if os.fork() == 0:
    with open("/proc/self/comm", "w") as name:
        name.write("a) R (b")
    block = bytearray(os.urandom(1) * 20_000_000)
    while time.process_time() < 0.2:
        pass
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)
os.wait()
"""


class UsageTests(TestCase):
    """
    Tests for `usage_by_tree`.
    """

    async def test_children_count(self) -> None:
        """
        What all processes below one use counts, until they end.
        """
        program = Program()
        program.start(real, ["-c", _FAMILY], environment(), Path("/"))
        await program.says("ready")
        root = program.pid
        used = usage_by_tree([root])[root]
        self.assertTrue(20_000_000 < used.memory < 200_000_000, used)
        self.assertTrue(0.15 <= used.cpu < 5, used)
        transport: Any = program.transport
        transport.closeStdin()
        await program.ended
        self.assertEqual(usage_by_tree([root]), {root: TreeUsage()})
