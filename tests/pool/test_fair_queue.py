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
        return "".join(self.queue.next() for _ in range(len(self.queue)))

    def test_first_come(self) -> None:
        """
        Among equals, who came first is first.
        """
        for number, item in enumerate("abc"):
            self.queue.add(item, "x", 5, number)
        self.assertEqual(self.order(), "abc")

    def test_priority(self) -> None:
        """
        The more urgent goes first, if the other did not come so much earlier.
        """
        self.queue.add("a", "x", 0, 0.0)
        self.queue.add("b", "x", 9, 17.0)
        self.queue.add("c", "x", 9, 19.0)
        self.assertEqual(self.order(), "bac")

    def test_put_back(self) -> None:
        """
        What had its turn in vain is next.
        """
        self.queue.add("a", "x", 9, 0.0)
        self.queue.put_back("b", "x", 0)
        self.assertEqual(self.order(), "ba")

    def test_remove(self) -> None:
        """
        What is removed is never next, and is removed once.
        """
        for item in "abc":
            self.queue.add(item, "x", 5, 0.0)
        self.assertEqual([self.queue.remove(item) for item in "aab"], [True, False, True])
        self.assertEqual((len(self.queue), self.order()), (1, "c"))

    def test_ahead(self) -> None:
        """
        Those that are as urgent, or more, are ahead.
        """
        for item, priority in zip("abcd", (9, 5, 5, 0), strict=True):
            self.queue.add(item, "x", priority, 0.0)
        ahead = [self.queue.ahead("x", priority) for priority in (9, 5, 0)]
        self.assertEqual(ahead, [1, 3, 4])


class FairnessTests(SynchronousTestCase):
    """
    Tests for a queue with several clients.
    """

    def setUp(self) -> None:
        self.queue: FairQueue[str] = FairQueue(head_start=2.0)

    def add(self, *items: str, priority: int = 5) -> None:
        """
        Items of the client that is their first letter.
        """
        for item in items:
            self.queue.add(item, item[0], priority, 0.0)

    def serve(self) -> str:
        item = self.queue.next()
        self.queue.release(item[0])
        return item

    def test_take_turns(self) -> None:
        """
        Who came late with one waits for one turn of who came with many.
        """
        self.add("a1", "a2", "a3", "a4")
        self.assertEqual(self.serve(), "a1")
        self.add("b1", "b2", "c1")
        found = [self.serve() for _ in range(6)]
        self.assertEqual(found, ["b1", "c1", "a2", "b2", "a3", "a4"])

    def test_priority_is_a_clients_own(self) -> None:
        """
        Urgency is no way to more than one's share.
        """
        self.add("a1", "a2", "a3", priority=9)
        self.add("b1", "b2", priority=0)
        self.assertEqual([self.serve() for _ in range(5)], ["a1", "b1", "a2", "b2", "a3"])

    def test_running_turns_count(self) -> None:
        """
        While a client holds two workers, who holds fewer is next.
        """
        self.queue.take("a")
        self.queue.take("a")
        self.queue.take("b")
        self.add("a1", "b1", "c1", "c2")
        found = [self.queue.next() for _ in range(4)]
        self.assertEqual(found, ["c1", "b1", "c2", "a1"])

    def test_who_was_away(self) -> None:
        """
        Who comes back has not saved up turns.
        """
        self.add("b1", *(f"a{number}" for number in range(10)))
        self.assertEqual(self.serve(), "b1")
        for _ in range(5):
            self.serve()
        self.add("b2", "b3", "b4")
        found = [self.serve()[0] for _ in range(6)]
        self.assertEqual(Counter(found), {"a": 3, "b": 3})

    def test_room(self) -> None:
        """
        Who has most gives the last of it for who has two less, or none.
        """
        self.add("a1", "a2", "b1")
        self.assertEqual(self.queue.newest_of_largest("c"), "a2")
        self.assertEqual(self.queue.newest_of_largest("b"), None)
        self.queue.remove("a2")
        self.assertEqual(self.queue.newest_of_largest("c"), None)

    def test_ahead(self) -> None:
        """
        Of each other client, one turn is ahead, if it holds no more and has not had
        its turn.
        """
        self.add("a1", "a2", "a3", "b1")
        self.assertEqual([self.queue.ahead(client, 5) for client in "abc"], [4, 2, 2])
        self.queue.take("a")
        self.assertEqual(self.queue.ahead("c", 5), 1)

    def test_one_at_a_time(self) -> None:
        """
        Who asks again as soon as it has its answer gets no more than its turn.
        """
        self.add("a1", "a2", "a3")
        running = self.queue.next()
        order = running
        for number in range(4):
            if running[0] == "a":
                self.add(f"b{number}")
            self.queue.release(running[0])
            if running[0] == "b":
                self.add(f"b{number}")
            running = self.queue.next()
            order += running
        self.assertEqual(order[::2], "ababa")

    def test_forgets_who_is_gone(self) -> None:
        """
        A crowd of clients that each ask once is not remembered.
        """
        for number in range(5000):
            self.queue.take(f"client {number}")
            self.queue.release(f"client {number}")
        queue: Any = self.queue
        self.assertLess(len(queue._clients), 2000)


class QueueMachine(RuleBasedStateMachine):
    """
    Any sequence of steps.
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
    def take(self, client: str) -> None:
        self.queue.take(client)
        self.running[client] += 1

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        item = data.draw(st.sampled_from(list(self.waiting)))
        assert self.queue.remove(item)
        del self.waiting[item]

    @precondition(lambda self: self.waiting)
    @rule(again=st.booleans())
    def next(self, again: bool) -> None:
        item = self.queue.next()
        client = item[0]
        del self.waiting[item]
        fewest = min((self.running[other] for other, _ in self.waiting), default=0)
        others = [other for other, _ in self.waiting]
        assert not others or self.running[client] <= fewest, (client, self.running)
        self.running[client] += 1
        if again:
            self.release(client)
            self.queue.put_back(item, client, 5)
            self.waiting[item] = None

    @precondition(lambda self: +self.running)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        self.release(data.draw(st.sampled_from(sorted((+self.running).keys()))))

    def release(self, client: str) -> None:
        self.queue.release(client)
        self.running[client] -= 1

    @invariant()
    def nothing_lost_nothing_kept(self) -> None:
        queue: Any = self.queue
        assert len(queue) == len(self.waiting)
        here = set(+self.running) | {client for client, _ in self.waiting}
        assert set(queue._clients) == here | set(queue._resting)
        assert here.isdisjoint(queue._resting)
        assert sum(queue._standings.values()) == len({client for client, _ in self.waiting})
        kept = len(queue._places) + sum(len(each.entries) for each in queue._clients.values())
        assert kept <= 3 * len(self.waiting) + 6 * 64


class AnyStepsTests(SynchronousTestCase):
    """
    Tests for any sequence of steps.
    """

    def test_steps(self) -> None:
        """
        The next item is one that waits, of a client that holds no more than the
        others who wait; none is lost, and none is kept for ever.
        """
        case = QueueMachine.TestCase()
        steps = settings(max_examples=60, stateful_step_count=60, deadline=None)
        case.settings = steps  # type: ignore[misc]
        case.runTest()

    @given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 100)), max_size=50))
    @settings(deadline=None)
    def test_no_starvation(self, items: list[tuple[int, float]]) -> None:
        """
        Whatever is more urgent, nothing that came later than the head start of all
        priorities together goes first.
        """
        queue: FairQueue[tuple[int, int, float]] = FairQueue(head_start=1.0)
        for number, (priority, arrived) in enumerate(items):
            queue.add((number, priority, arrived), "x", priority, arrived)
        order = [queue.next() for _ in items]
        for place, (_, _, arrived) in enumerate(order):
            self.assertTrue(all(before <= arrived + 9 for _, _, before in order[:place]))
