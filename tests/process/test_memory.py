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

from kiroworkers.process.memory import held_by, is_free
from tests.programs import Program, environment

real: Any = reactor

_SIZE = 50 * 1024**2

#: Leads a group, and has a child that holds memory.
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
    Tests for `held_by` and `is_free`.
    """

    timeout = 30

    async def test_children_count(self) -> None:
        """
        A group holds what its processes hold, children included, and others hold
        nothing of it.
        """
        program = Program()
        program.start(real, ["-c", _FAMILY], environment(), Path("/"))
        await program.says("ready")
        group = program.pid
        held = held_by([group])
        self.assertTrue(_SIZE < held[group] < 4 * _SIZE, held)
        transport: Any = program.transport
        transport.closeStdin()
        await program.ended
        self.assertEqual(held_by([group]), {group: 0})

    def test_free(self) -> None:
        """
        A byte is there; more than the machine has is not.
        """
        self.assertTrue(is_free(1))
        self.assertFalse(is_free(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")))
        self.assertFalse(is_free(sys.maxsize))
