"""
Log prompts and answers, for operators who ask for that with --log-prompts.
"""

from __future__ import annotations

from twisted.logger import Logger

from kiroworkers.request_record import RequestRecord
from kiroworkers.session.observer import SessionInfo
from kiroworkers.session.state import SessionState
from kiroworkers.telemetry.log_format import bounded

#: The longest part of a prompt or an answer that is logged, in characters.
_MAX_TEXT = 4096

_log = Logger("kiroworkers.prompts")


class PromptLog:
    """
    Log the prompts that one session gets, and what it replies.

    Args:
        info: What is known about the session.
    """

    def __init__(self, info: SessionInfo) -> None:
        self._worker = info.worker
        self._request = ""

    def asked(self, record: RequestRecord | None, prompt: str) -> None:
        """
        Log `prompt`.
        """
        self._request = "" if record is None else record.id
        _log.info(
            "{worker}: prompt of request {requestId}: {prompt}",
            worker=self._worker,
            requestId=self._request or "-",
            prompt=bounded(prompt, _MAX_TEXT),
            characters=len(prompt),
        )

    def replied(self, text: str) -> None:
        """
        Log the reply `text`.
        """
        _log.info(
            "{worker}: answer to request {requestId}: {answer}",
            worker=self._worker,
            requestId=self._request or "-",
            answer=bounded(text, _MAX_TEXT),
            characters=len(text),
        )

    def state_changed(self, old: SessionState, new: SessionState, reason: str) -> None:
        """
        Ignore a change of the session's state.
        """

    def output(self, data: bytes) -> None:
        """
        Ignore what the agent has printed.
        """

    def stderr(self, data: bytes) -> None:
        """
        Ignore what the agent has printed to its standard error.
        """

    def typed(self, data: bytes) -> None:
        """
        Ignore what was typed.
        """
