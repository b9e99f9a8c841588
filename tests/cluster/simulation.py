"""
Simulate servers that share jobs, with faults in a random order.

``python -m tests.cluster.simulation 500`` tries 500 schedules; a test tries some.
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from contextlib import suppress
from random import Random
from typing import cast

from twisted.internet.defer import Deferred

from kiroworkers.agents import Agent
from kiroworkers.cluster.membership import Identity, Membership, OwnFacts
from kiroworkers.cluster.runner import ClusterRunner
from kiroworkers.conversations import load_dialect
from kiroworkers.errors import StorageUnavailable, WorkError
from kiroworkers.jobs.job import Job
from kiroworkers.jobs.presence import agent_facts
from kiroworkers.jobs.store import JobStore
from kiroworkers.pool.agent_groups import AgentGroup, AgentGroups
from kiroworkers.pool.dispatcher import RequestOptions
from kiroworkers.tasks import builtin_tasks
from kiroworkers.testing import MemoryKiro, MemoryReactor
from tests import fakekiro
from tests.cluster.memory import Connection, Database, Events
from tests.jobs.support import UNLIMITED, new_job
from tests.memory import dispatcher_in

_AGENT = load_dialect("kiro-classic").name
_LEASE = 15.0
_SERVERS, _WORKERS, _STEPS = 3, 2, 120

#: Seconds within which the schedule ends once all faults are over: all leases pass, and every job
#: that waits has its turns.
_END = 400

_IDEA = re.compile(r"idea-\d+")


class Server:
    """
    A server of the simulation.

    Attributes:
        hears: Whether notifications reach it.
        dead: Whether it was killed.
    """

    def __init__(self, world: World, name: str) -> None:
        reactor = world.reactor
        self.world = world
        self.dispatcher = dispatcher_in(
            reactor, agent=_AGENT, workers=_WORKERS, name_prefix=f"{name}-"
        )
        agent = Agent(load_dialect("kiro-classic"), "chosen", "/bin/kiro", (), {})
        groups = AgentGroups([AgentGroup(agent, self.dispatcher)])
        self.connection = Connection(world.database)
        self.hears, self.dead = True, False
        self.ended: list[str] = []
        self.runner = ClusterRunner(
            reactor,
            reactor.seconds,
            groups,
            builtin_tasks(),
            cast(JobStore, self.connection),
            self.connection,
            UNLIMITED,
            self.on_ended,
            Events(),
            lambda: self.membership.holds_lease,
        )
        self.membership = Membership(
            reactor,
            reactor.seconds,
            self.connection,
            Identity(name, "1", ""),
            lambda: OwnFacts("serving", agent_facts(groups)),
            _LEASE,
            self.runner,
        )
        world.database.on_notification.append(self.notify)
        self.dispatcher.startService()
        reactor.advance(0)
        self.membership.startService()
        self.connection.server = self.membership.number or 0
        self.runner.startService()

    def on_ended(self, job: Job) -> None:
        self.ended.append(job.id)

    def notify(self, topic: str, argument: str) -> None:
        if self.hears and not self.dead:
            call = {"queued": self.runner.on_queued, "cancelled": self.runner.on_cancelled}[topic]
            # They arrive later.
            self.world.reactor.callLater(0.01, call, argument)

    def kill(self) -> None:
        """
        Reach the database never again, which is all that the others can tell of a dead server.
        """
        self.dead = True
        self.connection.cut(executed=self.world.random.random() < 0.5)


class World:
    """
    The database, the servers, and what happened.

    Attributes:
        prompts: How often agents were asked about each idea.
        cancelled: The jobs that a client has cancelled.

    Args:
        seed: Chooses the schedule.
        faults: Whether connections break and servers die.
    """

    def __init__(self, seed: int, *, faults: bool = True) -> None:
        self.random = Random(seed)
        self.faults = faults
        self.reactor = MemoryReactor(lambda: MemoryKiro(self.reply))
        self.reactor.advance(1000)
        self.database = Database(self.reactor)
        self.prompts: Counter[str] = Counter()
        self.cancelled: set[str] = set()
        self.ideas: dict[str, str] = {}
        self.servers = [Server(self, f"s{number}") for number in range(_SERVERS)]

    def reply(self, prompt: str) -> str | None:
        """
        Return the answer to a prompt, if it is given at once.
        """
        found = _IDEA.search(prompt)
        if found is not None:
            self.prompts[found[0]] += 1
            [row] = [row for row in self.database.jobs.values() if row.idea == found[0]]
            # Of a job that was cancelled just now, this server may not have heard.
            assert row.job.state in ("running", "cancelled"), row
        return None if self.random.random() < 0.8 else fakekiro.answer_text(prompt)

    def run(self) -> None:
        """
        Run the schedule, end all faults, and check what came of the jobs.
        """
        for _ in range(_STEPS):
            self.step()
            self.pass_time(self.random.choice((0, 0.01, 0.1, 1, 3)))
        for server in self.servers:
            if not server.dead:
                server.hears = True
                if server.connection.held is not None:
                    server.connection.run_held()
                if server.connection.down or server.connection.loses_answers:
                    server.connection.heal()
        for _ in range(_END):
            self.answer_all()
            self.pass_time(1)
        self.check()

    def pass_time(self, seconds: float) -> None:
        """
        Let time pass in small steps.
        """
        steps = max(1, round(seconds / 0.25))
        self.reactor.pump([seconds / steps] * steps)

    def step(self) -> None:
        """
        Let something happen.
        """
        random = self.random
        server = random.choice(self.servers)
        connection = server.connection
        actions = ("accept", "accept", "answer", "answer", "live", "cancel", "fault")
        action = random.choice(actions if self.faults else (*actions, "fault", "fault"))
        match action:
            case "accept" if not server.dead:
                self.accept(server)
            case "answer":
                self.answer()
            case "live" if not server.dead:
                self.ask(server)
            case "cancel" if self.ideas and not server.dead:
                id = random.choice([*self.ideas])
                row = self.database.jobs.get(id)
                if row is not None:
                    self.cancelled.add(id)
                    server.runner.cancel(row.job).addErrback(
                        lambda failure: failure.trap(StorageUnavailable)
                    )
            case "fault":
                self.fault(server, connection)

    def ask(self, server: Server) -> None:
        """
        Send a live request to a server, which may refuse it.
        """
        with suppress(WorkError):
            request = server.dispatcher.submit("live", RequestOptions(timeout=20))
            request.reply.addBoth(lambda _: server.dispatcher.end(request))

    def accept(self, server: Server) -> None:
        """
        Post a job to a server, which may refuse it.
        """
        idea = f"idea-{len(self.ideas) + self.random.randrange(10**9)}"
        job = new_job("", agent=_AGENT, payload={"idea": idea}, client=self.random.choice("ab"))
        accepted = Deferred.fromCoroutine(server.runner.accept(job))

        def note(result: tuple[Job, bool]) -> None:
            self.ideas[result[0].id] = idea

        accepted.addCallbacks(note, lambda failure: failure.trap(StorageUnavailable))

    def fault(self, server: Server, connection: Connection) -> None:
        """
        Cause a fault, or end it.
        """
        random = self.random
        choices = ("slow", "late", "deaf", "cut", "lossy", "heal", "heal", "kill")
        choice = random.choice(choices if self.faults else ("slow", "slow", "slow", "deaf"))
        if server.dead:
            return
        if choice in ("slow", "late") and connection.held is None and not connection.down:
            connection.held = []
            connection.is_late = choice == "late"
            if not self.faults:
                # Not long enough for a lease to pass.
                self.reactor.callLater(4 * random.random(), connection.run_held)
        elif choice == "deaf":
            server.hears = not server.hears
        elif choice == "heal":
            if connection.held is not None:
                connection.run_held()
            if connection.down or connection.loses_answers:
                connection.heal()
        elif choice == "cut":
            connection.cut(executed=random.random() < 0.5)
        elif choice == "lossy" and connection.held is None:
            connection.loses_answers = True
        elif choice == "kill" and sum(not other.dead for other in self.servers) > 1:
            server.kill()

    def answer(self) -> None:
        """
        Let one of the agents that are busy answer.
        """
        busy = [program for program in self.reactor.programs if program.answering]
        if busy:
            program = self.random.choice(busy)
            program.say(fakekiro.answer_text(program.typed[-1]) or "Hello.")

    def answer_all(self) -> None:
        """
        Let all agents that are busy answer.
        """
        for program in self.reactor.programs:
            if program.answering:
                program.say(fakekiro.answer_text(program.typed[-1]) or "Hello.")

    def check(self) -> None:
        """
        Check that each job has ended once, and that nothing is left.
        """
        for id, row in self.database.jobs.items():
            state = row.job.state
            assert state in ("done", "cancelled"), (id, row)
            assert state == "done" or id in self.cancelled, (id, row)
            reports = [server.membership.number for server in self.servers if id in server.ended]
            assert len(reports) <= 1, (id, reports)
            assert sum(server.ended.count(id) for server in self.servers) <= 1, id
            if not self.faults:
                idea = row.job.payload.get("idea") or self.ideas[id]
                assert self.prompts[idea] <= 1, (id, self.prompts[idea])
                assert reports, (id, row)
        for server in self.servers:
            if not server.dead:
                assert not server.runner.held().claims, server.membership.number
                assert server.runner.held().complete
        assert {*self.ideas} <= {*self.database.jobs}


def main() -> None:
    """
    Try as many schedules as the command line says.
    """
    parser = argparse.ArgumentParser()
    parser.add_argument("schedules", type=int)
    parser.add_argument("--first", type=int, default=0)
    arguments = parser.parse_args()
    for seed in range(arguments.first, arguments.first + arguments.schedules):
        for faults in (True, False):
            try:
                World(seed, faults=faults).run()
            except BaseException:
                print(f"seed {seed}, faults {faults}")
                raise


if __name__ == "__main__":
    main()
