"""
Tests for `kiroworkers.process.memory`.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import TestCase

from kiroworkers.process.memory import has_free_memory, memory_by_tree
from tests.programs import Program, environment

real: Any = reactor

_SIZE = 50 * 1024**2

#: A program that has a child, in another session, that holds memory.
_FAMILY = f"""
import os, sys
if os.fork() == 0:
    os.setsid()
    block = bytearray(os.urandom(1) * {_SIZE})
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)
os.wait()
"""


class MemoryTests(TestCase):
    """
    Tests for `memory_by_tree` and `has_free_memory`.
    """

    async def test_children_count(self) -> None:
        """
        The memory of all processes below one counts, until they end.
        """
        program = Program()
        program.start(real, ["-c", _FAMILY], environment(), Path("/"))
        await program.says("ready")
        root = program.pid
        held = memory_by_tree([root])
        self.assertTrue(_SIZE < held[root] < 4 * _SIZE, held)
        transport: Any = program.transport
        transport.closeStdin()
        await program.ended
        self.assertEqual(memory_by_tree([root]), {root: 0})

    def test_free(self) -> None:
        """
        One byte is free; more than the machine has is not.
        """
        self.assertTrue(has_free_memory(1))
        self.assertFalse(has_free_memory(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
        self.assertFalse(has_free_memory(sys.maxsize))
