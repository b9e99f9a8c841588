"""
Decide from a seed what each request to the cluster does.
"""

from __future__ import annotations

import random

from attrs import frozen

from bench.chaos.plan import CLIENTS

#: What clients do with a job after it was accepted, and how often in percent.
_AFTERWARDS = {"": 70, "follow": 12, "poll": 12, "cancel": 6}

#: The share of turns that take longer than others, and how many times as long.
_LONG, LONGEST = 0.2, 5

#: The share of live requests with an idempotency key, and of jobs with a callback.
_KEYED, _CALLED_BACK = 0.75, 0.2


@frozen
class Plan:
    """
    Say what one client does.

    Attributes:
        number: The number of the request, among those of its kind.
        kind: ``job`` or ``live``.
        client: The name of its token.
        think: How long the agent's turn takes, in seconds.
        keyed: Whether the request has an idempotency key.
        called_back: Whether the job has a callback.
        afterwards: What the client does with the job: one of `_AFTERWARDS`.
        delay: Seconds until it does that.
    """

    number: int
    kind: str
    client: str
    think: float
    keyed: bool
    called_back: bool
    afterwards: str
    delay: float

    @property
    def name(self) -> str:
        """
        Return the name of the idea, which no other request has.
        """
        return f"{self.kind}-{self.number}"

    @property
    def idea(self) -> str:
        """
        Return the idea, which is the answer's title as well.
        """
        return f"idea {self.name} [[think={self.think:.3f}]]"


def draw(seed: int, kind: str, number: int, think: float) -> Plan:
    """
    Return what request `number` of a kind does, if most turns take `think` seconds.
    """
    rng = random.Random(f"{seed} {kind} {number}")
    job = kind == "job"
    return Plan(
        number=number,
        kind=kind,
        client=CLIENTS[number % len(CLIENTS)],
        think=think * (LONGEST if rng.random() < _LONG else 1),
        keyed=job or rng.random() < _KEYED,
        called_back=job and rng.random() < _CALLED_BACK,
        afterwards=rng.choices([*_AFTERWARDS], [*_AFTERWARDS.values()])[0] if job else "",
        delay=rng.uniform(0, 4 * think),
    )
