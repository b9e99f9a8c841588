"""
Define what a server gets when it claims a job.
"""

from __future__ import annotations

from attrs import frozen

from kiroworkers.jobs.job import Job


@frozen
class ClaimedJob:
    """
    Hold a job that this server has claimed.

    Attributes:
        job: The job, with its payload.  Its attempts include one for this claim, because a server
            that dies cannot count it any more.
        claims: The number of this claim.
        failures: How often its turn failed in a way that may be the job's own fault; this claim
            counts as well until it has ended.
        watched: Whether anybody listens to the job's events.
    """

    job: Job
    claims: int
    failures: int
    watched: bool = False
