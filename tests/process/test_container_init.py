"""
Tests for `kiroworkers.process.container_init`, in a namespace of processes.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.trial.unittest import SkipTest, TestCase

from tests.programs import ROOT, Program, environment

real: Any = reactor

_NAMESPACE = ("unshare", "-rpf", "--mount-proc")

#: A server in miniature, which is told to stop as by Ctrl-Z.
_SERVER = """
import os, signal
from kiroworkers.process.container_init import run_below_init

run_below_init()
os.kill(os.getpid(), signal.SIGTSTP)
print("process", os.getpid(), "goes on")
"""


class ContainerInitTests(TestCase):
    """
    Tests for `run_below_init`.
    """

    async def test_not_suspended(self) -> None:
        """
        Ctrl-Z does not suspend the server, since there is no shell that could resume it.
        """
        if subprocess.run([*_NAMESPACE, "true"], check=False).returncode:
            raise SkipTest("this machine allows no namespaces")
        script = Path(self.mktemp()).absolute()
        script.write_text(f'#!/bin/sh\nexec {" ".join(_NAMESPACE)} {sys.executable} "$@"\n')
        script.chmod(0o755)
        self.patch(sys, "executable", str(script))
        program = Program()
        program.start(real, ["-c", _SERVER], environment(), ROOT)
        self.assertEqual(await program.ended, 0)
        self.assertEqual(program.output, "process 2 goes on\n")
