"""
Tests for the order in which jobs are claimed.
"""

from __future__ import annotations

import time
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kiroworkers.cluster.claimed_job import ClaimedJob
from kiroworkers.pool.fair_queue import FairQueue
from tests.cluster.claim_case import ClaimTestCase
from tests.postgres import SKIP

if SKIP is None:
    from kiroworkers.cluster import statements


class FairnessTests(ClaimTestCase):
    """
    Tests for the order of claims.
    """

    agents = 0

    @settings(
        max_examples=40,
        deadline=None,
        derandomize=True,
        suppress_health_check=[HealthCheck.differing_executors],
    )
    @given(
        st.lists(
            st.one_of(
                st.tuples(st.just("add"), st.sampled_from("abcde"), st.integers(0, 9)),
                st.tuples(st.just("claim"), st.integers(1, 4), st.just(0)),
                st.tuples(
                    st.sampled_from(["end", "first", "last", "cancel", "remove"]),
                    st.integers(0, 9),
                    st.just(0),
                ),
                st.tuples(st.just("tidy"), st.just(0), st.just(0)),
            ),
            min_size=10,
            max_size=60,
        )
    )
    def test_same_order(self, steps: list[tuple[str, Any, int]]) -> None:
        """
        Jobs are claimed in the order in which `FairQueue` serves them, whatever else happens.
        """
        self.agents += 1
        agent = f"agent{self.agents}"
        queue: FairQueue[str] = FairQueue(60.0)
        jobs: dict[str, tuple[str, int]] = {}
        running: dict[str, ClaimedJob] = {}
        waiting: list[str] = []
        put_back: set[str] = set()
        for time_, (step, what, priority) in enumerate([*steps, ("claim", 100, 0)]):
            if step == "add":
                id = f"{agent}-{time_}"
                jobs[id] = (what, priority)
                waiting.append(id)
                # By seconds that are as much as some steps of priority.
                self.add(id, what, agent, priority, created=100.0 * time_)
                queue.add(id, what, priority, 100.0 * time_)
            elif step == "claim":
                claimed = self.claim(self.one, what, agent)
                expected = [queue.pop() for _ in range(min(what, len(queue)))]
                self.assertEqual([job.job.id for job in claimed], expected)
                running.update((job.job.id, job) for job in claimed)
                waiting = [id for id in waiting if id not in expected]
                put_back.difference_update(expected)
            elif step == "tidy":
                self.db.execute("UPDATE maintenance SET tidied = '-infinity'")
                self.db.execute("SELECT tidy()")
            elif step == "remove":
                if waiting:
                    id = waiting.pop(what % len(waiting))
                    put_back.discard(id)
                    self.assertTrue(queue.remove(id))
                    self.assertIsNotNone(statements.cancel_job(self.db, id, self.one, 1.0))
            elif running:
                id, job = [*running.items()][what % len(running)]
                client, priority = jobs[id]
                if step == "first" and any(jobs[other][0] == client for other in put_back):
                    # Several jobs that were put back come in the order of their arrival, and in
                    # a `FairQueue` in that of their return.
                    continue
                del running[id]
                queue.end_turn(client)
                if step == "end":
                    self.assertIsNotNone(self.end(self.one, job))
                elif step == "cancel":
                    self.assertIsNotNone(statements.cancel_job(self.db, id, self.one, 1.0))
                else:
                    self.release(self.one, job, first=step == "first")
                    waiting.append(id)
                    if step == "first":
                        put_back.add(id)
                        queue.put_back(id, client, priority)
                    else:
                        queue.add(id, client, priority, time.time())
        self.check_invariants()
