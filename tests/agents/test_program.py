"""
Tests for `kiroworkers.agents.program`.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
from concurrent.futures import ThreadPoolExecutor

from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.agents import read_output, version_line
from kiroworkers.agents.program import RunningCommands


class ProgramTests(SynchronousTestCase):
    """
    Tests for `read_output` and `version_line`.
    """

    def test_read_output(self) -> None:
        """
        The output of a program is returned; it is empty if the program cannot be run.
        """
        script = "print('tool 1.2.3'); print('more')"
        self.assertEqual(read_output([sys.executable, "-c", script], {}), "tool 1.2.3\nmore\n")
        self.assertEqual(read_output(["/nowhere/tool"], {}), "")

    def test_read_output_of_a_wrapper(self) -> None:
        """
        A child that the version command leaves is not waited for, and is killed.
        """
        script = (
            "import subprocess, sys\n"
            "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
            "print('tool 1.2.3', child.pid)"
        )
        line = read_output([sys.executable, "-c", script], {})
        self.assertTrue(line.startswith("tool 1.2.3 "), line)
        with contextlib.suppress(ProcessLookupError):
            ended = os.pidfd_open(int(line.split()[-1]))
            self.addCleanup(os.close, ended)
            self.assertEqual(select.select([ended], [], [], 30)[0], [ended])

    def test_ended_by_another_thread(self) -> None:
        """
        A program that takes long can be ended by another thread, and so can one that starts
        just then.
        """
        started = self.mktemp()
        os.mkfifo(started)
        script = (
            "import time\n"
            "print('tool 1.2.3', flush=True)\n"
            f"open({os.path.abspath(started)!r}, 'w').close()\n"
            "time.sleep(1000)"
        )
        running = RunningCommands()
        with ThreadPoolExecutor(1) as executor:
            output = executor.submit(read_output, [sys.executable, "-c", script], {}, 1000, running)
            with open(started):
                pass
            running.stop()
            self.assertEqual(output.result(30), "tool 1.2.3\n")
        self.assertTrue(running.stopped)
        self.assertEqual(read_output(["sleep", "1000"], {**os.environ}, 1000, running), "")

    def test_version_line(self) -> None:
        """
        The program's own version line is found among notices, however it is written.
        """
        notice = "A new version of kiro-cli is available: 3.1.0"
        for program, output, expected in [
            ("kiro-cli", f"{notice}\nkiro-cli 2.11.0\n", "kiro-cli 2.11.0"),
            ("kiro-cli", f"kiro-cli 2.11.0\n{notice}\n", "kiro-cli 2.11.0"),
            ("kiro-cli", "kiro-cli 3.1.0 is available!\n\nkiro-cli 2.11.0", "kiro-cli 2.11.0"),
            ("kiro-cli", "Update: 3.1.0\nkiro-cli-chat 2.11.0", "kiro-cli-chat 2.11.0"),
            ("q", "update 3.1.0\nq 1.19.7\n", "q 1.19.7"),
            ("codex", "codex-cli 0.169.0\n", "codex-cli 0.169.0"),
            ("llm", "llm, version 0.36\n", "llm, version 0.36"),
            ("gemini", "Update available 0.61.0 -> 0.62.0\n0.61.0\n", "0.61.0"),
            ("claude", "notice 3.0.0\n2.1.39 (Claude Code)\n", "2.1.39 (Claude Code)"),
            ("opencode", "\x1b[1mv1.18.33\x1b[0m", "[1mv1.18.33[0m"),
            ("tool", "Hello\nThe version is 1.2\n", "The version is 1.2"),
            ("tool", "unknown\nflag", "unknown"),
            ("tool", "\n", ""),
        ]:
            self.assertEqual(version_line(output, program), expected)
