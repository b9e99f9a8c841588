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

from kiroworkers.process.memory import has_free_memory, memory_by_group
from tests.programs import Program, environment

real: Any = reactor

_SIZE = 50 * 1024**2

#: A program that leads a group and has a child that holds memory.
_FAMILY = f"""
import os, sys
os.setpgid(0, 0)
if os.fork() == 0:
    block = bytearray(os.urandom(1) * {_SIZE})
    print("ready", flush=True)
    sys.stdin.read()
    os._exit(0)
os.wait()
"""


class MemoryTests(TestCase):
    """
    Tests for `memory_by_group` and `has_free_memory`.
    """

    timeout = 30

    async def test_children_count(self) -> None:
        """
        The memory of a group includes that of its children, until they end.
        """
        program = Program()
        program.start(real, ["-c", _FAMILY], environment(), Path("/"))
        await program.says("ready")
        group = program.pid
        held = memory_by_group([group])
        self.assertTrue(_SIZE < held[group] < 4 * _SIZE, held)
        transport: Any = program.transport
        transport.closeStdin()
        await program.ended
        self.assertEqual(memory_by_group([group]), {group: 0})

    def test_free(self) -> None:
        """
        One byte is free; more than the machine has is not.
        """
        self.assertTrue(has_free_memory(1))
        self.assertFalse(has_free_memory(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
        self.assertFalse(has_free_memory(sys.maxsize))
