"""
Who is next: requests that wait, by fair share, then priority and arrival.

A client that has fewer turns running than another is served first; among
equals, clients take turns, each with the most urgent of its own.  So nobody can
hold more of the pool than others who wait, however much is asked, and a client
that is alone has all of it.

A step of priority is worth a head start of some seconds: nothing waits for ever
behind what is more urgent and came later.

Every step costs the logarithm of what waits, but for the choice of who gives a
place up when there is room for no more.
"""

from __future__ import annotations

from collections import Counter
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Generic, TypeVar

from attrs import define, field

#: The range of priorities, from the least to the most urgent, and the usual one.
LEAST_URGENT, USUAL, MOST_URGENT = 0, 5, 9

T = TypeVar("T")

#: Entries that are of no use any more are swept out when they outnumber the rest
#: and these.
_SLACK = 64

#: So many clients that had a turn and are gone are remembered.
_MOST_RESTING = 1000


@define(eq=False)
class _Entry(Generic[T]):
    key: float
    number: int
    item: T
    priority: int
    client: _Client[T]
    waiting: bool = True

    def __lt__(self, other: _Entry[T]) -> bool:
        return (self.key, self.number) < (other.key, other.number)


@define(eq=False)
class _Client(Generic[T]):
    """
    Attributes:
        entries: a heap, in which some do not wait any more.
        urgency: how many wait, by priority.
        round: in which of the rounds, in which each client has one turn, its
            next one is.
        stamp: of its newest place in the heap of clients.
        standing: its turns that run and its round, as they are counted, while it
            waits.
    """

    name: str
    round: int
    entries: list[_Entry[T]] = field(factory=list)
    urgency: list[int] = field(factory=lambda: [0] * (MOST_URGENT + 1))
    waiting: int = 0
    running: int = 0
    stamp: int = 0
    standing: tuple[int, int] | None = None


class FairQueue(Generic[T]):
    """
    Items that wait, each of some client, and the turns that clients have.

    Args:
        head_start: what a step of priority is worth, in seconds of arrival.
    """

    def __init__(self, head_start: float) -> None:
        self._head_start = head_start
        self._clients: dict[str, _Client[T]] = {}
        self._places: list[tuple[int, int, float, int, int, _Client[T]]] = []
        self._entries: dict[T, _Entry[T]] = {}
        self._numbers = count()
        self._round = 0
        self._standings: Counter[tuple[int, int]] = Counter()
        self._resting: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, item: T, client: str, priority: int, arrived: float) -> None:
        """
        `item` waits.
        """
        self._add(item, client, priority, arrived - priority * self._head_start)

    def put_back(self, item: T, client: str, priority: int) -> None:
        """
        `item` had its turn in vain, and is its client's next.
        """
        self._add(item, client, priority, -inf)

    def remove(self, item: T) -> bool:
        """
        `item` waits no more.  Did it?
        """
        entry = self._entries.pop(item, None)
        if entry is None:
            return False
        self._leave(entry)
        client = entry.client
        if len(client.entries) > 2 * client.waiting + _SLACK:
            client.entries = [each for each in client.entries if each.waiting]
            heapify(client.entries)
        self._place(client)
        return True

    def next(self) -> T:
        """
        Take the item that is next; its client has one more turn, until `release`.
        """
        while True:
            *_, stamp, client = heappop(self._places)
            if stamp == client.stamp and client.waiting:
                break
        entry = self._head(client)
        heappop(client.entries)
        del self._entries[entry.item]
        self._leave(entry)
        self._begin(client)
        return entry.item

    def take(self, client: str) -> None:
        """
        A turn of `client` begins that did not wait.
        """
        self._begin(self._client(client))

    def release(self, client: str) -> None:
        """
        A turn of `client` is over.
        """
        known = self._clients[client]
        known.running -= 1
        self._place(known)

    def ahead(self, client: str, priority: int) -> int:
        """
        How many turns begin at least before one that `client` would now wait for:
        its own that are as urgent, and one of each client whose turn it is before.
        """
        known = self._clients.get(client)
        own = 0 if known is None else sum(known.urgency[priority:])
        waits = known is not None and known.waiting > 0
        mine = (0, self._round) if known is None else (known.running, known.round)
        before = sum(count for each, count in self._standings.items() if each <= mine)
        return own + before - waits

    def newest_of_largest(self, client: str) -> T | None:
        """
        What is to go where there is room for no more and `client` comes with
        one: the last item of the client that has most, if that is at least two
        more than `client` has.  What was put back keeps its place.
        """
        largest = max(self._clients.values(), key=lambda each: each.waiting, default=None)
        known = self._clients.get(client)
        own = 0 if known is None else known.waiting
        if largest is None or largest.waiting < own + 2:
            return None
        last = max(each for each in largest.entries if each.waiting)
        return None if last.key == -inf else last.item

    def _add(self, item: T, name: str, priority: int, key: float) -> None:
        client = self._client(name)
        entry = _Entry(key, next(self._numbers), item, priority, client)
        heappush(client.entries, entry)
        self._entries[item] = entry
        client.waiting += 1
        client.urgency[priority] += 1
        self._place(client)

    def _leave(self, entry: _Entry[T]) -> None:
        entry.waiting = False
        entry.client.waiting -= 1
        entry.client.urgency[entry.priority] -= 1

    def _begin(self, client: _Client[T]) -> None:
        if client.round > self._round:
            self._next_round()
        client.round = self._round + 1
        client.running += 1
        self._place(client)

    def _client(self, name: str) -> _Client[T]:
        if name not in self._clients:
            self._clients[name] = _Client(name, self._round)
        self._resting.pop(name, None)
        client = self._clients[name]
        if not client.waiting:
            # Who comes back has not saved up turns.
            client.round = max(client.round, self._round)
        return client

    def _next_round(self) -> None:
        """
        Everybody who rests may have a turn again, and need not be remembered.
        """
        self._round += 1
        for name in self._resting:
            del self._clients[name]
        self._resting.clear()

    def _head(self, client: _Client[T]) -> _Entry[T]:
        while not client.entries[0].waiting:
            heappop(client.entries)
        return client.entries[0]

    def _place(self, client: _Client[T]) -> None:
        """
        Put `client` where it belongs now.
        """
        client.stamp = next(self._numbers)
        if client.standing is not None:
            self._standings[client.standing] -= 1
            if not self._standings[client.standing]:
                del self._standings[client.standing]
            client.standing = None
        if client.waiting:
            client.standing = (client.running, client.round)
            self._standings[client.standing] += 1
            self._push(client)
        elif not client.running:
            self._become_idle(client)
        if len(self._places) > 2 * len(self._clients) + _SLACK:
            self._places.clear()
            for each in self._clients.values():
                if each.waiting:
                    self._push(each)

    def _become_idle(self, client: _Client[T]) -> None:
        """
        `client` has nothing here.  Until its next turn would be due, it is
        remembered that it had one, or asking one at a time would be a way to more.
        """
        if client.round <= self._round:
            del self._clients[client.name]
            return
        self._resting[client.name] = None
        if len(self._resting) > _MOST_RESTING:
            self._next_round()

    def _push(self, client: _Client[T]) -> None:
        head = self._head(client)
        place = (client.running, client.round, head.key, head.number, client.stamp, client)
        heappush(self._places, place)
