"""
Measure what the transport costs.

The same agent is driven over a terminal, over ACP, and started anew for each request.

Requests follow one another on one worker, so each pays for the turn and for the clear
before the next.  The model answers at once.  The stand-ins, which do nothing but
talk, are always measured; Gemini CLI is measured where AGENTS_BIN has it
(``tests/agents/install.sh``), against the tests' model server.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Thread

from attrs import frozen

from bench.exchange import prompt
from bench.server import agent, client, serving, story
from kiroworkers.conversations import load_dialect
from kiroworkers.proof.setup import write_home
from tests.programs import environment

#: A function that requests a story for an idea.
Ask = Callable[[str], object]


def once(command: list[str], env: Mapping[str, str], folder: Path, stdin: str = "") -> str:
    """
    Run a program for a single request and return its output.
    """
    done = subprocess.run(
        command, env=dict(env), cwd=folder, input=stdin, capture_output=True, text=True, check=True
    )
    return done.stdout


@frozen
class Home:
    """
    Describe where an agent with settings of its own is started.
    """

    folder: Path
    environment: dict[str, str]


def stand_ins(stack: ExitStack) -> dict[str, Ask]:
    """
    Start the stand-ins for Kiro.
    """
    kiro = stack.enter_context(agent())

    def served(name: str) -> Ask:
        server = stack.enter_context(serving(kiro, 1, "--agent", name, "--max-requests", "100000"))
        connection = stack.enter_context(client(server.port))
        return lambda idea: story(connection, idea)

    def anew(idea: str) -> None:
        new = {"cwd": "/", "mcpServers": []}
        payload = {"sessionId": "session-0", "prompt": [{"type": "text", "text": prompt(idea)}]}
        lines = [
            {"id": 1, "method": "initialize", "params": {"protocolVersion": 1}},
            {"id": 2, "method": "session/new", "params": new},
            {"id": 3, "method": "session/prompt", "params": payload},
        ]
        stdin = "".join(json.dumps({"jsonrpc": "2.0", **message}) + "\n" for message in lines)
        printed = once([sys.executable, "-m", "tests.fakeacp"], environment(), kiro.folder, stdin)
        assert "end_turn" in printed, printed

    return {
        "over ACP": served("kiro-acp"),
        "over the terminal": served("kiro-classic"),
        "a new process each": anew,
    }


@contextmanager
def model() -> Iterator[str]:
    """
    Run a model server and yield its URL.
    """
    command = [sys.executable, "-m", "tests.modelserver", "0"]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        rest = Thread(target=server.stdout.read)
        rest.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.terminate()
            server.wait()
            rest.join()


def gemini(stack: ExitStack, program: str) -> dict[str, Ask]:
    """
    Start Gemini CLI.
    """
    root = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    home = root / "home"
    settings = load_dialect("gemini").model_server
    assert settings is not None, "it can use another model server"
    url = stack.enter_context(model())
    env = environment(HOME=str(home), **write_home(settings, home, home, url, root / "answers"))
    env["PATH"] = f"{Path(program).parent}{os.pathsep}{env['PATH']}"

    def served(name: str) -> Ask:
        server = stack.enter_context(
            serving(Home(home, env), 1, "--agent", name, "--max-requests", "100000")
        )
        connection = stack.enter_context(client(server.port))
        return lambda idea: story(connection, idea)

    def anew(idea: str) -> None:
        printed = once([program, "-p", prompt(idea)], env, home)
        assert "acceptanceCriteria" in printed, printed

    return {
        "over ACP": served("gemini-acp"),
        "over the terminal": served("gemini"),
        "a new process each": anew,
    }


def measure(asking: Mapping[str, Ask], turns: int) -> dict[str, float]:
    """
    Return the median seconds from one answer to the next.

    The contenders take turns, so that all meet the same conditions.
    """
    samples: dict[str, list[float]] = {name: [] for name in asking}
    for number in range(turns + 1):
        for name, ask in asking.items():
            began = time.monotonic()
            # The second request includes the clear after the first.
            ask(f"turn {number}")
            ask(f"turn {number}, too")
            if number:  # the first pair warms up
                samples[name].append((time.monotonic() - began) / 2)
    return {name: statistics.median(times) for name, times in samples.items()}


def main() -> None:
    """
    Measure, and print a table for each agent.
    """
    parser = argparse.ArgumentParser("python -m bench.transport", description=__doc__)
    parser.add_argument("--turns", type=int, default=20, help="pairs of each kind [20]")
    turns = parser.parse_args().turns
    with ExitStack() as stack:
        show("the stand-in of Kiro", measure(stand_ins(stack), turns), turns)
    program = shutil.which("gemini", path=os.environ.get("AGENTS_BIN", ""))
    if program is None:
        print("Gemini CLI: not measured, AGENTS_BIN does not have it")
        return
    with ExitStack() as stack:
        show("Gemini CLI", measure(gemini(stack, program), turns), turns)


def show(agent: str, samples: Mapping[str, float], turns: int) -> None:
    """
    Print a table.
    """
    least = samples["over ACP"]
    print(f"{agent}: one request after the other, median of {turns} pairs")
    for name, seconds in samples.items():
        print(f"  {name:24}{seconds * 1000:>9.1f} ms{seconds / least:>8.1f}x")


if __name__ == "__main__":
    main()
