"""
Check that no conversation knows another one.

A case plants a text with its own identifier, and asks for it to be remembered.  Then other
cases are asked: by the same worker, another one, a new process, a new server.  The model sees
whether their requests hold the planted identifier; the agent's own claims do not count.

The agent's home directory stays the same all the time, so that conversations that are resumed
from disk and memory files show.
"""

from __future__ import annotations

from attrs import evolve

from kiroworkers.proof.checks.asking import judge, plant, probe
from kiroworkers.proof.checks.check import Check, Finding, passed
from kiroworkers.proof.report import Level
from kiroworkers.proof.run import ProofRun

#: How many requests are asked in a row of one worker.
_ROW = 4


async def next_request(proof: ProofRun) -> Finding:
    """
    Ask the worker that got the planted text again.
    """
    mark, worker = await plant(proof)
    await probe(proof, worker)
    return judge(proof, mark, f"the next request to {worker}")


async def other_worker(proof: ProofRun) -> Finding:
    """
    Ask another worker.
    """
    mark, planted = await plant(proof)
    others = [worker for worker in proof.server.workers if worker != planted]
    for worker in others:
        await probe(proof, worker)
    return judge(proof, mark, f"a request to {', '.join(others)}")


async def next_process(proof: ProofRun) -> Finding:
    """
    Ask the worker again after its process was replaced.
    """
    mark, worker = await plant(proof)
    await proof.server.restart_worker(worker)
    await probe(proof, worker)
    return judge(proof, mark, f"a request to a new process of {worker}")


async def next_server(proof: ProofRun) -> Finding:
    """
    Ask all workers after the server was stopped and started again.
    """
    mark, _ = await plant(proof)
    await proof.server.stop()
    await proof.server.start()
    for worker in proof.server.workers:
        await probe(proof, worker)
    return judge(proof, mark, "requests to a new server")


async def killed_server(proof: ProofRun) -> Finding:
    """
    Ask all workers after the server was killed and started again.
    """
    mark, _ = await plant(proof)
    await proof.server.kill()
    await proof.server.start()
    for worker in proof.server.workers:
        await probe(proof, worker)
    return judge(proof, mark, "requests to the server after a killed one")


async def row(proof: ProofRun) -> Finding:
    """
    Ask one worker several times in a row, and see whether it keeps its process.
    """
    mark, worker = await plant(proof)
    pids = {await _pid(proof, worker)}
    for _ in range(_ROW):
        await probe(proof, worker)
        pids.add(await _pid(proof, worker))
    finding = judge(proof, mark, f"{_ROW} requests to {worker} in a row")
    if finding.level is not None:
        return finding
    how = "its process stayed" if len(pids) == 1 else f"it had {len(pids)} processes"
    return passed(f"{finding.evidence}; {how}", **finding.details, processes=len(pids))


async def whole_proof(proof: ProofRun) -> Finding:
    """
    Look at all requests of the proof, whatever they were for.
    """
    finding = judge(proof, 0, f"all {len(proof.cases)} cases of this proof")
    if proof.repeats:
        repeated = f"{proof.repeats} requests were repeated after 503"
        finding = evolve(
            finding,
            evidence=f"{finding.evidence}; {repeated}",
            details={**finding.details, "repeats": proof.repeats},
        )
    return finding


async def _pid(proof: ProofRun, worker: str) -> int | None:
    pid: int | None = (await proof.server.health())["workers"][worker]["pid"]
    return pid


CHECKS = (
    Check("fresh: next request", Level.LEAKS, next_request),
    Check("fresh: other worker", Level.LEAKS, other_worker),
    Check("fresh: next process", Level.LEAKS, next_process),
    Check("fresh: next server", Level.LEAKS, next_server),
    Check("fresh: killed server", Level.LEAKS, killed_server),
    Check("clear", Level.LEAKS, row),
)

#: Runs last, over what all other checks have asked.
LAST_CHECKS = (Check("fresh: whole proof", Level.LEAKS, whole_proof),)
