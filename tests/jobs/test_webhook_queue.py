"""
Tests for `kiroworkers.jobs.webhook_queue`.
"""

from __future__ import annotations

from itertools import count

from hypothesis import given
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.jobs.webhook_queue import Call, Outcome, WebhookQueue, host_and_path


class ShareTests(SynchronousTestCase):
    """
    Tests for the clients' shares of the senders.
    """

    def setUp(self) -> None:
        self.queue = WebhookQueue(8)
        self.numbers = count()

    def add(self, client: str, number: int) -> None:
        """
        Add calls of `client`, each to a host of its own.
        """
        for _ in range(number):
            id = f"{client}{next(self.numbers)}"
            self.queue.add(Call(id, client, f"{id}.example:80"))

    def begun(self) -> list[Call]:
        """
        Begin all calls that may begin.
        """
        calls = []
        while (call := self.queue.next(0.0)) is not None:
            calls.append(call)
        return calls

    def clients(self) -> str:
        return "".join(call.client for call in self.begun())

    def test_newcomers(self) -> None:
        """
        A client may use as many senders as it leaves free, so each new client finds one,
        while there are any.
        """
        started = []
        for client in "abcde":
            self.add(client, 100)
            started.append(self.clients())
        self.assertEqual(started, ["aaaa", "bb", "c", "d", ""])

    def test_fewest_first(self) -> None:
        """
        A sender that becomes free is for the client that uses the fewest, in turn.
        """
        self.add("a", 100)
        first, *_ = self.begun()
        self.add("b", 100)
        self.add("c", 100)
        self.assertEqual(self.clients(), "bcb")
        self.queue.end(first, Outcome.ANSWERED, 1.0)
        self.assertEqual(self.clients(), "c")

    def test_order(self) -> None:
        """
        A client's calls begin in the order in which they were added.
        """
        self.add("a", 20)
        order = []
        while calls := self.begun():
            order += [call.id for call in calls]
            for call in calls:
                self.queue.end(call, Outcome.ANSWERED, 1.0)
        self.assertEqual(order, [f"a{number}" for number in range(20)])


class HostTests(SynchronousTestCase):
    """
    Tests for the back-off of hosts that do not answer.
    """

    def setUp(self) -> None:
        self.queue = WebhookQueue(8)
        self.numbers = count()

    def add(self, number: int = 1, host: str = "tarpit", client: str = "a") -> None:
        for _ in range(number):
            self.queue.add(Call(str(next(self.numbers)), client, host))

    def begin(self, now: float) -> list[Call]:
        calls = []
        while (call := self.queue.next(now)) is not None:
            calls.append(call)
        return calls

    def end(self, call: Call, outcome: Outcome, now: float) -> list[str]:
        return [failed.id for failed in self.queue.end(call, outcome, now)]

    def test_backs_off(self) -> None:
        """
        A host that does not answer is tried by one call at a time, after delays that double
        up to a minute; the others that waited for it fail with that call.
        """
        self.add(10)
        for call in self.begin(0.0):
            # The four calls in progress are one failure.
            self.assertEqual(self.end(call, Outcome.UNREACHABLE, 10.0), [])
        now = 10.0
        for delay in (2, 4, 8, 16, 32, 60, 60):
            self.assertEqual(self.begin(now + delay - 0.1), [])
            self.assertEqual(self.queue.retry_at(), now + delay)
            now += delay
            [probe] = self.begin(now)
            self.assertIsNone(self.queue.retry_at())
            self.add()
            self.assertEqual(self.begin(now + 5.0), [])
            failed = self.end(probe, Outcome.UNREACHABLE, now + 10.0)
            self.assertEqual(len(failed), 6)
            self.assertEqual(self.queue.retry_at(), None)
            self.add(6)
            now += 10.0

    def test_recovers(self) -> None:
        """
        If a host answers again, the calls that waited for it are made.
        """
        self.add(3)
        first, *others = self.begin(0.0)
        self.end(first, Outcome.UNREACHABLE, 1.0)
        for call in others:
            self.end(call, Outcome.UNREACHABLE, 1.0)
        self.add(2)
        [probe] = self.begin(3.0)
        self.assertEqual(self.end(probe, Outcome.ANSWERED, 4.0), [])
        [call] = self.begin(4.0)
        self.assertEqual(self.end(call, Outcome.UNREACHABLE, 5.0), [])
        self.add()
        self.assertEqual(self.queue.retry_at(), 7.0)

    def test_late_answer(self) -> None:
        """
        A host that answers a call that began before it failed has recovered.
        """
        self.add(2)
        first, second = self.begin(0.0)
        self.end(first, Outcome.UNREACHABLE, 1.0)
        self.add(2)
        self.assertEqual(self.begin(1.5), [])
        self.end(second, Outcome.ANSWERED, 1.6)
        self.assertEqual(len(self.begin(1.6)), 2)

    def test_other_hosts(self) -> None:
        """
        A host that fails does not delay calls to others, of the same client or not.
        """
        self.add(200)
        for call in self.begin(0.0):
            self.end(call, Outcome.UNREACHABLE, 10.0)
        self.add(host="healthy")
        self.add(host="healthy", client="b")
        self.assertEqual({call.host for call in self.begin(10.0)}, {"healthy"})

    def test_not_called(self) -> None:
        """
        If the call that was to try a host is not made, the next one tries it.
        """
        self.add(3)
        first, *others = self.begin(0.0)
        for call in (first, *others):
            self.end(call, Outcome.UNREACHABLE, 0.0)
        self.add(2)
        [probe] = self.begin(2.0)
        self.assertEqual(self.end(probe, Outcome.NOT_MADE, 2.0), [])
        [probe] = self.begin(2.0)
        self.assertEqual(self.end(probe, Outcome.UNREACHABLE, 3.0), [])

    def test_failed_while_waiting(self) -> None:
        """
        A call that waited for a sender while its host failed and its delay passed tries the
        host.
        """
        self.add(10)
        calls = self.begin(0.0)
        for call in calls:
            self.end(call, Outcome.UNREACHABLE, 1.0)
        self.assertEqual(len(self.begin(100.0)), 1)

    def test_forgotten(self) -> None:
        """
        Hosts that nobody calls any more are forgotten.
        """
        for number in range(5000):
            self.add(host=f"host{number}")
            [call] = self.begin(float(number))
            self.end(call, Outcome.UNREACHABLE, float(number))
        self.assertLess(len(self.queue._failing), 1100)

    def test_silent(self) -> None:
        """
        A response that does not come says nothing about other paths of the host, nor about
        other clients.
        """
        self.queue.add(Call("1", "a", "x:80", "/hangs"))
        [call] = self.begin(0.0)
        self.end(call, Outcome.SILENT, 10.0)
        self.queue.add(Call("2", "a", "x:80", "/hangs"))
        self.queue.add(Call("3", "a", "x:80", "/works"))
        self.queue.add(Call("4", "b", "x:80", "/hangs"))
        self.assertEqual({call.id for call in self.begin(10.0)}, {"3", "4"})
        self.assertEqual({call.id for call in self.begin(12.0)}, {"2"})

    def test_reached(self) -> None:
        """
        A host that can be reached again is called, even if it does not answer.
        """
        self.add()
        [call] = self.begin(0.0)
        self.end(call, Outcome.UNREACHABLE, 0.5)
        self.queue.add(Call("a", "a", "tarpit", "/hangs"))
        self.queue.add(Call("b", "a", "tarpit", "/works"))
        [probe] = self.begin(2.5)
        self.assertEqual(self.end(probe, Outcome.SILENT, 3.0), [])
        self.assertEqual([call.id for call in self.begin(3.0)], ["b"])

    def test_targets(self) -> None:
        """
        A host is counted by its name and port, and a receiver by its path too.
        """
        for url, target in [
            ("http://X.example/a?b", ("x.example:80", "/a")),
            ("https://x.example?b", ("x.example:443", "/")),
            ("https://x.example:80", ("x.example:80", "/")),
            ("http://[2001:db8::1]:81/", ("2001:db8::1:81", "/")),
        ]:
            self.assertEqual(host_and_path(url), target)


class EveryCallTests(SynchronousTestCase):
    """
    Tests that no call is lost.
    """

    @given(
        st.lists(
            st.tuples(
                st.sampled_from("abc"),
                st.sampled_from(["x", "y", "z"]),
                st.sampled_from([True, Outcome.UNREACHABLE, None]),
                st.floats(0, 20),
            ),
            max_size=60,
        )
    )
    def test_ends(self, story: list[tuple[str, str, Outcome, float]]) -> None:
        """
        Every call is begun or fails exactly once, and no more are in progress than there
        are senders.
        """
        queue = WebhookQueue(4)
        now, ended, in_progress = 0.0, [], []
        for number, (client, host, outcome, delay) in enumerate(story):
            queue.add(Call(str(number), client, host))
            now += delay
            while (call := queue.next(now)) is not None:
                in_progress.append(call)
            self.assertLessEqual(len(in_progress), 4)
            if delay > 5 and in_progress:
                call = in_progress.pop(0)
                ended += [call.id, *(other.id for other in queue.end(call, outcome, now))]
        while True:
            while (call := queue.next(now)) is not None:
                in_progress.append(call)
            if in_progress:
                call = in_progress.pop(0)
                ended += [call.id, *(other.id for other in queue.end(call, Outcome.ANSWERED, now))]
            elif (at := queue.retry_at()) is not None:
                self.assertGreater(at, now)
                now = at
            else:
                break
        self.assertEqual(sorted(ended, key=int), [str(number) for number in range(len(story))])
