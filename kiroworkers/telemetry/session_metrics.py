"""
Count the bytes that sessions exchange with their agents.
"""

from __future__ import annotations

from attrs import define

from kiroworkers.request_record import RequestRecord
from kiroworkers.session.observer import SessionInfo
from kiroworkers.session.state import SessionState
from kiroworkers.telemetry import metric_families as families
from kiroworkers.telemetry.metrics import Samples


@define(eq=False)
class _Traffic:
    """
    Count the bytes of all sessions of one agent, as their `SessionObserver`.

    Attributes:
        received: The bytes that its sessions have printed.
        sent: The bytes that were typed into them.
    """

    received: int = 0
    sent: int = 0

    def output(self, data: bytes) -> None:
        """
        Count output.
        """
        self.received += len(data)

    stderr = output

    def typed(self, data: bytes) -> None:
        """
        Count input.
        """
        self.sent += len(data)

    def state_changed(self, old: SessionState, new: SessionState, reason: str) -> None:
        """
        Ignore a change of the state, which the metrics of workers show.
        """

    def asked(self, record: RequestRecord | None, prompt: str) -> None:
        """
        Ignore a prompt, which is counted when it is typed.
        """

    def replied(self, text: str) -> None:
        """
        Ignore a reply, which was counted as output.
        """


class SessionMetrics:
    """
    Count the traffic of the sessions of each agent.
    """

    def __init__(self) -> None:
        self._traffic: dict[str, _Traffic] = {}

    def observe(self, info: SessionInfo) -> _Traffic:
        """
        Return the observer of a session: the same for all sessions of an agent.
        """
        return self._traffic.setdefault(info.agent, _Traffic())

    def collect(self, samples: Samples) -> None:
        """
        Add the number of bytes to `samples`, as a source of metrics.
        """
        for agent, traffic in self._traffic.items():
            samples.add(families.RECEIVED_BYTES, traffic.received, agent)
            samples.add(families.SENT_BYTES, traffic.sent, agent)
