"""
Check that the agent becomes ready.
"""

from __future__ import annotations

from kiroworkers.proof.case import level_without_answer
from kiroworkers.proof.checks.check import Check, Finding, failed, passed
from kiroworkers.proof.report import Level
from kiroworkers.proof.run import ProofRun
from kiroworkers.proof.server_process import NotReady

#: The name of this check.  Without it no other can run.
READY = "ready"


async def ready(proof: ProofRun) -> Finding:
    """
    Start the server, and wait until all its workers are ready.
    """
    try:
        proof.ready_after = await proof.server.start()
    except NotReady as error:
        # An agent that cannot even start is not lossy: nothing is proven.
        level = level_without_answer(str(error))
        return failed(
            f"never ready: {error}",
            level=None if level is Level.LOSSY else level,
            log=proof.server.log.tail(30),
        )
    count, seconds = proof.server.options.workers, proof.ready_after
    return passed(f"{count} workers after {seconds:.1f} s", seconds=round(seconds, 2))


# The server itself gives up before, after two attempts of --startup-timeout each.
CHECKS = (Check(READY, None, ready, needs_model_server=False, time_limit=1800.0),)
