"""
A stand-in that prints a prompt and reads a line, asks a model server, and has bad habits.

See `tests.badhabits` for the habits.
"""

from __future__ import annotations

import os
import random
import sys
import time

from tests.badhabits import Agent, ModelError, agent_from, cut
from tests.fakekiro import faults_in

_SPINNER = "⠋⠙⠹"


class BadLine:
    """
    Act as the agent, on standard input and output.
    """

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._chance = random.Random(1)
        self._conversation = agent.begin(os.getcwd())

    def run(self) -> int:
        """
        Answer lines until the end of input, and return the exit status.
        """
        print("Chatting with a stand-in. Type 'exit' to leave.", flush=True)
        if "lostenter" in self._agent.habits:
            input("> ")  # the prompt is not drawn again, and the text is gone
            time.sleep(3600)
        while True:
            try:
                self._answer(input("> "))
            except (EOFError, KeyboardInterrupt):
                return 1
            except ModelError as error:
                print(f"Error: {error}", flush=True)

    def _write(self, text: str) -> None:
        for piece in cut(text.encode(), self._chance):
            while piece:
                piece = piece[os.write(1, piece) :]

    def _answer(self, line: str) -> None:
        stale = self._agent.last_answer if "stale" in self._agent.habits else ""
        self._conversation.messages.append({"role": "user", "content": line})
        for frame in _SPINNER:
            self._write(f"\r{frame}")
        self._write("\r\x1b[K")
        answer = self._agent.shown(self._converse())
        self._agent.end_turn(self._conversation, line, answer)
        self._write("Answer:\n")
        late = self._agent.habits.get("late")
        if late is None:
            self._write(f"{answer}\n{stale}")
            return
        half = len(answer) // 2
        self._write(f"{answer[:half]}\n> ")
        time.sleep(float(late or "0"))
        self._write(f"\r\x1b[K{answer[half:]}\n")

    def _converse(self) -> str:
        while True:
            request = self._agent.ask(self._conversation)
            text = ""
            while not request.ended:
                text += request.read()
            said = {"role": "assistant", "content": text}
            if request.call is None:
                self._conversation.messages.append(said)
                self._agent.run_blocks(text)
                return text
            result = self._agent.use_tool(request.call, self._permit, self._announce)
            self._conversation.messages += [said, {"role": "tool", "content": result}]

    def _permit(self, title: str) -> bool:
        self._write(f"Tool: {title}\n")
        return input("Allow this tool? [y/n] ") == "y"

    def _announce(self, title: str) -> None:
        self._write(f"Used the tool {title}\n")


def main() -> int:
    """
    Act as the agent, and return the exit status.
    """
    if sys.argv[1:] == ["--version"]:
        print("badhabits-line 1.0")
        return 0
    import readline  # noqa: F401  # `input` edits with it from now on

    return BadLine(agent_from(os.environ, faults_in(os.environ.get("BADHABITS", "")))).run()


if __name__ == "__main__":
    sys.exit(main())
