"""
Share what both engines of the stand-in do.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from uuid import UUID

from tests.fakeacp import FakeAcp, log_entry
from tests.fakekiro import mock_answers

#: The models that both engines offer.
MODELS = ("auto", "claude-haiku-4.5", "claude-sonnet-5")

#: Answers with more characters than this are sent in pieces of the largest size.
_LONG = 100_000
_LARGEST_PIECE = 40

#: How much output is held back for one write, in bytes.
_MAX_HELD = 65_536


class Options(NamedTuple):
    """
    Hold the command line.

    Attributes:
        version: The version of Kiro.
        agent: The agent to use; empty for Kiro's own.
        model: The model to use; empty for Kiro's choice.
        effort: The reasoning effort; empty for Kiro's choice.
        keeps_token: Whether the program looks for its token itself.
        trusts: Whether all tools are trusted.
    """

    version: tuple[int, ...]
    agent: str = ""
    model: str = ""
    effort: str = ""
    keeps_token: bool = False
    trusts: bool = False


class KiroEngine(FakeAcp):
    """
    Act as an engine, with the faults of the whole session.
    """

    accepts_images = True

    def __init__(self, faults: Mapping[str, str], options: Options) -> None:
        super().__init__(faults)
        self._options = options
        self._rng = random.Random(os.getpid())
        self._held = bytearray()
        self._models: dict[str, str] = {}
        self._mock_answers = mock_answers()

    # Writing.

    def _write(self, data: bytes) -> None:
        with self._writing:
            self._held += data
        alone = threading.current_thread() is not threading.main_thread()
        if alone or "tidy" in self._faults or len(self._held) > _MAX_HELD:
            self._flush()

    def _flush(self) -> None:
        """
        Write what is held back: many messages at once, or one in two pieces.
        """
        with self._writing:
            data = bytes(self._held)
            self._held.clear()
            if len(data) > 1 and "tidy" not in self._faults and self._rng.random() < 0.3:
                cut = self._rng.randrange(1, len(data))
                self._put(data[:cut])
                time.sleep(0.0005)
                data = data[cut:]
            self._put(data)

    def _next(self, timeout: float | None) -> Any:
        self._flush()
        return super()._next(timeout)

    def _end_of_input(self) -> NoReturn:
        self._flush()
        super()._end_of_input()

    def _die(self) -> NoReturn:
        self._flush()
        super()._die()

    def _uuid(self) -> str:
        return str(UUID(int=self._rng.getrandbits(128), version=4))

    def _pieces(self, answer: str) -> list[str]:
        """
        Return the pieces in which an answer is sent.
        """
        pieces, start = [], 0
        while start < len(answer):
            size = self._rng.randint(1, _LARGEST_PIECE) if len(answer) < _LONG else _LARGEST_PIECE
            pieces.append(answer[start : start + size])
            start += size
        return pieces

    def _stream(self, session: str, answer: str, faults: Mapping[str, str]) -> None:
        if "whole" in faults or "cut" in faults:
            super()._stream(session, answer, faults)
        else:
            for piece in self._pieces(answer):
                self._chunk(session, piece)

    # Sessions.

    def _session_files(self) -> Path | None:
        """
        Return the folder of the files of sessions, or None.
        """
        home = os.environ.get("KIRO_HOME")
        return Path(home, "sessions", "cli") if home else None

    def _open_session(self, session: str) -> None:
        """
        Begin to remember a session, in memory and in its files.
        """
        self._prompts[session] = 0
        self._models[session] = self._options.model or MODELS[0]
        folder = self._session_files()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{session}.json").write_text(json.dumps({"session_id": session}))
            (folder / f"{session}.jsonl").write_text("")
            (folder / f"{session}.lock").write_text(str(os.getpid()))

    def _forget_session(self, session: str, delete: bool = False) -> None:
        """
        Forget a session; its history stays on the disk unless `delete`.
        """
        self._prompts.pop(session, None)
        self._models.pop(session, None)
        folder = self._session_files()
        if folder is not None:
            for ending in ("json", "jsonl", "lock") if delete else ("lock",):
                (folder / f"{session}.{ending}").unlink(missing_ok=True)

    def _remember(self, session: str, text: str) -> None:
        """
        Append a prompt to the history of its session.
        """
        folder = self._session_files()
        if folder is not None:
            with (folder / f"{session}.jsonl").open("a") as history:
                history.write(json.dumps({"kind": "Prompt", "length": len(text)}) + "\n")

    def _begin_turn(self, session: str, text: str, faults: Mapping[str, str]) -> None:
        self._remember(session, text)

    def _answer_text(self, session: str, text: str, faults: Mapping[str, str]) -> str:
        if self._mock_answers is not None:
            return next(self._mock_answers, "")
        answer = super()._answer_text(session, text, faults)
        if "whose" in faults:
            answer = answer.replace("an answer {of my own}", f"{self._models[session]}'s answer")
        if "quoted" in faults:
            answer = f'It may say "{INTERRUPTED}", and be silent.\n{answer}'
        return answer

    def _context(self, session: str) -> float:
        """
        Return how many percent of the context are used.
        """
        used = self._faults.get("used")
        return float(used) if used else 2.5 + 0.5 * self._prompts.get(session, 0)

    def _credits(self, faults: Mapping[str, str]) -> Sequence[float]:
        """
        Return the credits of each model call of a turn.
        """
        return (0.02, 0.01) if faults.keys() & {"tool", "approve"} else (0.02,)

    def _error_of(self, error: Mapping[str, Any]) -> dict[str, Any]:
        return {"error": dict(error)}

    def _stay_silent(self, faults: Mapping[str, str]) -> NoReturn:
        """
        Serve everything except the turn, until it is cancelled.
        """
        while True:
            self._wait(3600, "deaf" in faults)

    def _log_request(self, method: str, detail: str) -> None:
        log_entry(f"{method} {detail}")


#: The whole text of a piece after which v2 is silent.
INTERRUPTED = "Tool uses were interrupted, waiting for the next user prompt"
