"""
Tests for `kiroworkers.pool.fair_queue`.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.pool.fair_queue import FairQueue


class OneClientTests(SynchronousTestCase):
    """
    Tests for a queue with one client.
    """

    def setUp(self) -> None:
        self.queue: FairQueue[str] = FairQueue(head_start=2.0)

    def order(self) -> str:
        return "".join(self.queue.pop() for _ in range(len(self.queue)))

    def test_first_come(self) -> None:
        """
        Equal items are served in the order of their arrival.
        """
        for number, item in enumerate("abc"):
            self.queue.add(item, "x", 5, number)
        self.assertEqual(self.order(), "abc")

    def test_priority(self) -> None:
        """
        An urgent item is served first, unless another came so much earlier.
        """
        self.queue.add("a", "x", 0, 0.0)
        self.queue.add("b", "x", 9, 17.0)
        self.queue.add("c", "x", 9, 19.0)
        self.assertEqual(self.order(), "bac")

    def test_put_back(self) -> None:
        """
        An item that is put back is served next.
        """
        self.queue.add("a", "x", 9, 0.0)
        self.queue.put_back("b", "x", 0)
        self.assertEqual(self.order(), "ba")

    def test_remove(self) -> None:
        """
        A removed item is never served, and can be removed only once.
        """
        for item in "abc":
            self.queue.add(item, "x", 5, 0.0)
        self.assertEqual([self.queue.remove(item) for item in "aab"], [True, False, True])
        self.assertEqual((len(self.queue), self.order()), (1, "c"))

    def test_ahead(self) -> None:
        """
        Items that are at least as urgent are ahead.
        """
        for item, priority in zip("abcd", (9, 5, 5, 0), strict=True):
            self.queue.add(item, "x", priority, 0.0)
        ahead = [self.queue.turns_ahead("x", priority) for priority in (9, 5, 0)]
        self.assertEqual(ahead, [1, 3, 4])


class FairnessTests(SynchronousTestCase):
    """
    Tests for a queue with several clients.
    """

    def setUp(self) -> None:
        self.queue: FairQueue[str] = FairQueue(head_start=2.0)

    def add(self, *items: str, priority: int = 5) -> None:
        """
        Add items; the first letter of each is its client.
        """
        for item in items:
            self.queue.add(item, item[0], priority, 0.0)

    def serve(self) -> str:
        item = self.queue.pop()
        self.queue.end_turn(item[0])
        return item

    def test_take_turns(self) -> None:
        """
        A client that came late waits for one turn of a client with many items.
        """
        self.add("a1", "a2", "a3", "a4")
        self.assertEqual(self.serve(), "a1")
        self.add("b1", "b2", "c1")
        order = [self.serve() for _ in range(6)]
        self.assertEqual(order, ["b1", "c1", "a2", "b2", "a3", "a4"])

    def test_priority_within_a_client(self) -> None:
        """
        Priority gives a client no more than its share.
        """
        self.add("a1", "a2", "a3", priority=9)
        self.add("b1", "b2", priority=0)
        self.assertEqual([self.serve() for _ in range(5)], ["a1", "b1", "a2", "b2", "a3"])

    def test_running_turns_count(self) -> None:
        """
        A client with fewer running turns is served first.
        """
        self.queue.begin_turn("a")
        self.queue.begin_turn("a")
        self.queue.begin_turn("b")
        self.add("a1", "b1", "c1", "c2")
        order = [self.queue.pop() for _ in range(4)]
        self.assertEqual(order, ["c1", "b1", "c2", "a1"])

    def test_absent_client(self) -> None:
        """
        A client that comes back has not saved up turns.
        """
        self.add("b1", *(f"a{number}" for number in range(10)))
        self.assertEqual(self.serve(), "b1")
        for _ in range(5):
            self.serve()
        self.add("b2", "b3", "b4")
        order = [self.serve()[0] for _ in range(6)]
        self.assertEqual(Counter(order), {"a": 3, "b": 3})

    def test_eviction(self) -> None:
        """
        The largest client loses its last item to one that has at least two fewer.
        """
        self.add("a1", "a2", "b1")
        self.assertEqual(self.queue.newest_of_largest("c"), "a2")
        self.assertEqual(self.queue.newest_of_largest("b"), None)
        self.queue.remove("a2")
        self.assertEqual(self.queue.newest_of_largest("c"), None)

    def test_ahead(self) -> None:
        """
        One turn of each other client is ahead, unless the client has more turns running
        or had its turn in this round.
        """
        self.add("a1", "a2", "a3", "b1")
        self.assertEqual([self.queue.turns_ahead(client, 5) for client in "abc"], [4, 2, 2])
        self.queue.begin_turn("a")
        self.assertEqual(self.queue.turns_ahead("c", 5), 1)

    def test_one_at_a_time(self) -> None:
        """
        A client that sends its next item after each answer gets no more than its share.
        """
        self.add("a1", "a2", "a3")
        running = self.queue.pop()
        order = running
        for number in range(4):
            if running[0] == "a":
                self.add(f"b{number}")
            self.queue.end_turn(running[0])
            if running[0] == "b":
                self.add(f"b{number}")
            running = self.queue.pop()
            order += running
        self.assertEqual(order[::2], "ababa")

    def test_absent_clients_are_forgotten(self) -> None:
        """
        Thousands of clients that come once are not all remembered.
        """
        for number in range(5000):
            self.queue.begin_turn(f"client {number}")
            self.queue.end_turn(f"client {number}")
        queue: Any = self.queue
        self.assertLess(len(queue._clients), 2000)


class QueueMachine(RuleBasedStateMachine):
    """
    Any sequence of operations on a queue.
    """

    def __init__(self) -> None:
        super().__init__()
        self.queue: FairQueue[tuple[str, int]] = FairQueue(head_start=1.0)
        self.waiting: dict[tuple[str, int], None] = {}
        self.running: Counter[str] = Counter()
        self.count = 0

    clients = st.sampled_from("abcd")

    @rule(client=clients, priority=st.integers(0, 9), arrived=st.floats(0, 100))
    def add(self, client: str, priority: int, arrived: float) -> None:
        self.count += 1
        item = (client, self.count)
        self.queue.add(item, client, priority, arrived)
        self.waiting[item] = None

    @rule(client=clients)
    def begin_turn(self, client: str) -> None:
        self.queue.begin_turn(client)
        self.running[client] += 1

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(list(self.waiting)))
        assert self.queue.remove(item)
        del self.waiting[item]

    @precondition(lambda self: self.waiting)
    @rule(again=st.booleans())
    def pop(self, again: bool) -> None:
        item = self.queue.pop()
        client = item[0]
        del self.waiting[item]
        fewest = min((self.running[other] for other, _ in self.waiting), default=0)
        others = [other for other, _ in self.waiting]
        assert not others or self.running[client] <= fewest, (client, self.running)
        self.running[client] += 1
        if again:
            self.end_turn(client)
            self.queue.put_back(item, client, 5)
            self.waiting[item] = None

    @precondition(lambda self: +self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.end_turn(data.draw(st.sampled_from(sorted((+self.running).keys()))))

    def end_turn(self, client: str) -> None:
        self.queue.end_turn(client)
        self.running[client] -= 1

    @invariant()
    def counts_are_consistent(self) -> None:
        queue: Any = self.queue
        assert len(queue) == len(self.waiting)
        present = set(+self.running) | {client for client, _ in self.waiting}
        assert set(queue._clients) == present | set(queue._absent)
        assert present.isdisjoint(queue._absent)
        assert sum(queue._ranks.values()) == len({client for client, _ in self.waiting})
        entries = sum(len(client.entries) for client in queue._clients.values())
        assert len(queue._client_heap) + entries <= 3 * len(self.waiting) + 6 * 64


class AnyStepsTests(SynchronousTestCase):
    """
    Tests for any sequence of operations.
    """

    def test_steps(self) -> None:
        """
        The next item is always one of a client that has no more turns running than the
        others that wait; no item is lost, and none is kept for ever.
        """
        case = QueueMachine.TestCase()
        steps = settings(stateful_step_count=60, deadline=None)
        case.settings = steps  # type: ignore[misc]
        case.runTest()

    @given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 100)), max_size=50))
    @settings(deadline=None)
    def test_no_starvation(self, items: list[tuple[int, float]]) -> None:
        """
        No item is overtaken by one that came later than the head start of all
        priorities together.
        """
        queue: FairQueue[tuple[int, int, float]] = FairQueue(head_start=1.0)
        for number, (priority, arrived) in enumerate(items):
            queue.add((number, priority, arrived), "x", priority, arrived)
        order = [queue.pop() for _ in items]
        for place, (_, _, arrived) in enumerate(order):
            self.assertTrue(all(before <= arrived + 9 for _, _, before in order[:place]))
