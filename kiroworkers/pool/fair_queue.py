"""
Queue items by fair share between clients, then by priority and arrival.

The client that has the fewest turns running is served first.  Among clients with
equally many, each has one turn per round, and gets its own most urgent item
served.  So no client can hold more of the pool than the others that are waiting, however
many requests it makes, but a client that is alone can use all of it.

Each step of priority is worth a head start of some seconds, so nothing waits forever behind
more urgent items that arrive later.

Every operation takes time logarithmic in the number of waiting items, except choosing the
item to evict from a full queue, which is linear.
"""

from __future__ import annotations

from collections import Counter
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from typing import Generic, TypeVar

from attrs import define, field

#: The lowest priority, the default and the highest.
MIN_PRIORITY, DEFAULT_PRIORITY, MAX_PRIORITY = 0, 5, 9

T = TypeVar("T")

#: A heap is rebuilt when its dead entries outnumber the live ones by more than this:
#: entries are not removed from the middle of a heap.
_MAX_DEAD_ENTRIES = 64

#: The number of clients that are remembered after their last item and turn.
_MAX_ABSENT_CLIENTS = 1000


@define(eq=False)
class _Entry(Generic[T]):
    """
    Represent an item in its client's heap.

    Attributes:
        sort_key: The arrival time minus the head start; the smallest is served first.
        number: The sequence number, which decides between equal keys.
        waiting: Whether the item is still in the queue; otherwise the entry is dead.
    """

    sort_key: float
    number: int
    item: T
    priority: int
    client: _Client[T]
    waiting: bool = True

    def __lt__(self, other: _Entry[T]) -> bool:
        return (self.sort_key, self.number) < (other.sort_key, other.number)


@define(eq=False)
class _Client(Generic[T]):
    """
    Represent a client that has items waiting or turns running, or had some recently.

    Attributes:
        name: The client's name.
        round: The round of the client's next turn; each client has one turn a round.
        entries: A heap of its items, some of which may be dead.
        waiting_by_priority: How many of its items wait, by priority.
        waiting: How many of its items wait.
        running: How many of its turns are running.
        version: The number of its current entry in the heap of clients; entries with
            other numbers are dead.
        rank: The turns running and the round under which it is counted in
            `FairQueue._ranks`; None while it has nothing waiting.
    """

    name: str
    round: int
    entries: list[_Entry[T]] = field(factory=list)
    waiting_by_priority: list[int] = field(factory=lambda: [0] * (MAX_PRIORITY + 1))
    waiting: int = 0
    running: int = 0
    version: int = 0
    rank: tuple[int, int] | None = None


class FairQueue(Generic[T]):
    """
    Hold waiting items, each of one client, and count the clients' running turns.

    Args:
        head_start: How many seconds earlier an item counts as having arrived for each
            step of its priority.
    """

    def __init__(self, head_start: float) -> None:
        self._head_start = head_start
        self._clients: dict[str, _Client[T]] = {}
        self._client_heap: list[tuple[int, int, float, int, int, _Client[T]]] = []
        self._entries: dict[T, _Entry[T]] = {}
        self._numbers = count()
        self._round = 0
        self._ranks: Counter[tuple[int, int]] = Counter()
        self._absent: dict[str, None] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def waiting_of(self, client: str) -> int:
        """
        Return how many items of `client` wait.
        """
        known = self._clients.get(client)
        return 0 if known is None else known.waiting

    def add(self, item: T, client: str, priority: int, arrived: float) -> None:
        """
        Add an item to the queue.

        Args:
            item: The item; it must not be in the queue.
            client: The client whose fair share it counts towards.
            priority: From `MIN_PRIORITY` to `MAX_PRIORITY`.
            arrived: When it arrived, in seconds on any clock.
        """
        self._add(item, client, priority, arrived - priority * self._head_start)

    def put_back(self, item: T, client: str, priority: int) -> None:
        """
        Put an item whose turn failed back into the queue, before all others of its client.
        """
        self._add(item, client, priority, -inf)

    def remove(self, item: T) -> bool:
        """
        Remove `item` from the queue, and return whether it was there.
        """
        entry = self._entries.pop(item, None)
        if entry is None:
            return False
        self._mark_dead(entry)
        client = entry.client
        if len(client.entries) > 2 * client.waiting + _MAX_DEAD_ENTRIES:
            client.entries = [entry for entry in client.entries if entry.waiting]
            heapify(client.entries)
        self._update_rank(client)
        return True

    def pop(self) -> T:
        """
        Remove and return the next item, and begin a turn of its client.

        Call `end_turn` when the turn is over.  The queue must not be empty.
        """
        while True:
            *_, version, client = heappop(self._client_heap)
            if version == client.version and client.waiting:
                break
        entry = self._head(client)
        heappop(client.entries)
        del self._entries[entry.item]
        self._mark_dead(entry)
        self._count_turn(client)
        return entry.item

    def begin_turn(self, client: str) -> None:
        """
        Begin a turn of `client` for an item that did not wait.

        Call `end_turn` when the turn is over.
        """
        self._count_turn(self._get_client(client))

    def end_turn(self, client: str) -> None:
        """
        End a running turn of `client`.
        """
        known = self._clients[client]
        known.running -= 1
        self._update_rank(known)

    def turns_ahead(self, client: str, priority: int) -> int:
        """
        Return the least number of turns that would begin before that of a new item.

        These are the client's own items that are at least as urgent, and one item of each
        client that is served before it.

        Args:
            client: The client of the new item.
            priority: The priority of the new item.
        """
        known = self._clients.get(client)
        own = 0 if known is None else sum(known.waiting_by_priority[priority:])
        is_counted = known is not None and known.waiting > 0
        own_rank = (0, self._round) if known is None else (known.running, known.round)
        before = sum(count for rank, count in self._ranks.items() if rank <= own_rank)
        return own + before - is_counted

    def newest_of_largest(self, client: str) -> T | None:
        """
        Return the item to evict from a full queue in favour of a new item of `client`.

        This is the last item of the client that has the most items waiting, provided
        that it has at least two more than `client`.  An item that was put back after
        a failed turn is never evicted.

        Returns:
            The item, or None if there is none to evict; it stays in the queue.
        """
        largest = max(self._clients.values(), key=lambda other: other.waiting, default=None)
        if largest is None or largest.waiting < self.waiting_of(client) + 2:
            return None
        newest = max(entry for entry in largest.entries if entry.waiting)
        return None if newest.sort_key == -inf else newest.item

    def _add(self, item: T, name: str, priority: int, sort_key: float) -> None:
        client = self._get_client(name)
        entry = _Entry(sort_key, next(self._numbers), item, priority, client)
        heappush(client.entries, entry)
        self._entries[item] = entry
        client.waiting += 1
        client.waiting_by_priority[priority] += 1
        self._update_rank(client)

    def _mark_dead(self, entry: _Entry[T]) -> None:
        entry.waiting = False
        entry.client.waiting -= 1
        entry.client.waiting_by_priority[entry.priority] -= 1

    def _count_turn(self, client: _Client[T]) -> None:
        if client.round > self._round:
            self._next_round()
        client.round = self._round + 1
        client.running += 1
        self._update_rank(client)

    def _get_client(self, name: str) -> _Client[T]:
        if name not in self._clients:
            self._clients[name] = _Client(name, self._round)
        self._absent.pop(name, None)
        client = self._clients[name]
        if not client.waiting:
            # A client that was absent has not saved up turns.
            client.round = max(client.round, self._round)
        return client

    def _next_round(self) -> None:
        """
        Begin the next round, and forget the absent clients: their next turn is due.
        """
        self._round += 1
        for name in self._absent:
            del self._clients[name]
        self._absent.clear()

    def _head(self, client: _Client[T]) -> _Entry[T]:
        while not client.entries[0].waiting:
            heappop(client.entries)
        return client.entries[0]

    def _update_rank(self, client: _Client[T]) -> None:
        """
        Put `client` in its place among the clients after its items or turns have changed.
        """
        client.version = next(self._numbers)
        if client.rank is not None:
            self._ranks[client.rank] -= 1
            if not self._ranks[client.rank]:
                del self._ranks[client.rank]
            client.rank = None
        if client.waiting:
            client.rank = (client.running, client.round)
            self._ranks[client.rank] += 1
            self._push(client)
        elif not client.running:
            self._mark_absent(client)
        if len(self._client_heap) > 2 * len(self._clients) + _MAX_DEAD_ENTRIES:
            self._client_heap.clear()
            for other in self._clients.values():
                if other.waiting:
                    self._push(other)

    def _mark_absent(self, client: _Client[T]) -> None:
        """
        Forget a client with no items and no turns, or remember it until its next turn is due.

        If it were forgotten at once, a client that sends one request at a time would get
        more turns than its share.
        """
        if client.round <= self._round:
            del self._clients[client.name]
            return
        self._absent[client.name] = None
        if len(self._absent) > _MAX_ABSENT_CLIENTS:
            self._next_round()

    def _push(self, client: _Client[T]) -> None:
        head = self._head(client)
        place = (client.running, client.round, head.sort_key, head.number, client.version, client)
        heappush(self._client_heap, place)
