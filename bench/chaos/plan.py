"""
Decide from a seed what each request does.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from attrs import field, frozen

#: The names of the clients' tokens.
CLIENTS = ("alpha", "bravo", "charlie")

#: The agents, with their workers and their shares of the requests in percent.
AGENTS = {"kiro-classic": (3, 60), "kiro-acp": (2, 32), "kiro-tui": (1, 8)}

#: What clients do, and how often in percent.
_KINDS = {
    "story": 50,
    "stream": 8,
    "job": 12,
    "keyed": 8,
    "chat": 6,
    "hang_up": 4,
    "half_close": 3,
    "slow": 2,
    "pipeline": 2,
    "unread": 1,
    "unread_stream": 1,
    "page": 3,
}

#: What agents do in a turn, how often in percent, and the client's deadline.
_FAULTS = [
    ("", 55, 20.0),
    ("think=0.05", 8, 20.0),
    ("pretty", 2, 20.0),
    ("twice", 2, 20.0),
    ("prose mend", 1, 20.0),
    ("lame mend", 1, 20.0),
    ("prose", 0.4, 20.0),
    ("example", 0.4, 20.0),
    ("approve", 0.4, 20.0),
    ("killed={number}", 5, 20.0),
    ("die", 2, 20.0),
    ("litter", 3, 20.0),
    ("litter die", 1, 20.0),
    ("litter killed={number}", 1, 20.0),
    ("flood={flood}", 2, 20.0),
    ("costly={costly}", 2, 20.0),
    ("costly={costly} first", 1, 20.0),
    ("silent", 2, 0.5),
    ("hang", 1, 0.5),
    ("late", 3, 0.5),
    ("trouble=context_full", 0.2, 20.0),
    ("trouble=throttled_shortly", 0.1, 20.0),
]

#: The same, of those over ACP only.
_ACP_FAULTS = [
    ("after=0.05", 6, 20.0),
    ("after=0.05 late", 2, 0.5),
    ("stay=0.05", 2, 20.0),
    ("garbage", 1, 20.0),
    ("stranger", 2, 20.0),
    ("unknown", 1, 20.0),
    ("cut", 2, 20.0),
    ("deaf silent", 1, 0.5),
]

_COSTLY = ("objects", "stories", "unlike", "joined", "lists", "nested", "colours", "returns")
_FOLLOWING = tuple(kind for kind in _COSTLY if kind != "stories")

_T = TypeVar("_T")


@frozen
class Plan:
    """
    Say what one client does.

    Attributes:
        number: The number of the request.
        kind: What the client does: one of `_KINDS`.
        client: The name of its token.
        agent: The agent that it asks.
        fault: What the agent does.
        deadline: The client's deadline in seconds.
        steady: Whether nothing is to go wrong.
        rng: Decides the rest.
    """

    number: int
    kind: str
    client: str
    agent: str
    fault: str
    deadline: float
    steady: bool
    rng: random.Random = field(repr=False)

    def idea(self, part: str = "") -> str:
        """
        Return the idea of the request, or of a part of it.
        """
        return f"idea {self.number}{part}" + (f" [[{self.fault}]]" if self.fault else "")

    @property
    def repaired(self) -> bool:
        """
        Return whether the agent is likely to be asked to correct its answer.
        """
        # Over ACP, what follows the flood on its line is lost with it, be it a part of the answer.
        swallowed = self.agent == "kiro-acp" and "flood" in self.fault
        return "mend" in self.fault or "after" in self.fault or swallowed

    @property
    def key(self) -> str:
        """
        Return the idempotency key, which a request of each other client has as well.
        """
        return f"key-{self.number // len(CLIENTS)}"


def draw(seed: int, number: int, steady: bool = False) -> Plan:
    """
    Return what request `number` does; nothing of it is a fault if `steady`.
    """
    rng = random.Random(f"{seed} {number}")
    client = CLIENTS[number % len(CLIENTS)]
    if steady:
        kind = _pick(rng, ("story", "stream", "job", "keyed", "chat", "page"), (80, 5, 3, 3, 4, 5))
        return Plan(number, kind, client, "kiro-classic", "", 20.0, True, rng)
    kind = _pick(rng, tuple(_KINDS), tuple(_KINDS.values()))
    agent = _pick(rng, tuple(AGENTS), [share for _, share in AGENTS.values()])
    faults = _FAULTS + (_ACP_FAULTS if agent == "kiro-acp" else [])
    if kind == "chat":
        # Any object may fit a client's own schema, and the last one is the answer.
        faults = [row for row in faults if not row[0].startswith(("twice", "example", "costly"))]
    fault, _, deadline = _pick(rng, faults, [weight for _, weight, _ in faults])
    # The last story of an answer is the answer, whoever's it is.
    costly = _costly(rng, agent, _FOLLOWING if "first" in fault else _COSTLY)
    text = fault.format(number=number, flood=_flood(rng, agent), costly=costly)
    if "costly" in text and agent == "kiro-acp":
        text += " whole"
    return Plan(number, kind, client, agent, text, deadline, False, rng)


def _flood(rng: random.Random, agent: str) -> int:
    """
    Return a number of bytes around --max-output, or fewer where drawing takes long.
    """
    return rng.randrange(1_000, 200_000 if agent == "kiro-tui" else 6_000_000)


def _costly(rng: random.Random, agent: str, kinds: Sequence[str]) -> str:
    """
    Return what the text before or after an answer is made of, and its length.
    """
    largest = {"kiro-classic": 3_000_000, "kiro-acp": 2_000_000, "kiro-tui": 100_000}[agent]
    return f"{rng.choice(kinds)},{int(largest ** rng.uniform(0.6, 1))}"


def _pick(rng: random.Random, choices: Sequence[_T], weights: Sequence[float]) -> _T:
    return rng.choices(choices, weights)[0]
