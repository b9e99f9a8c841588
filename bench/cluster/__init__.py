"""
Measure several servers that share a database, behind HAProxy.

It needs PostgreSQL and HAProxy; see `tests.postgres` and `tests.haproxy`.
"""

from __future__ import annotations

from bench.report import Figure

QUESTION = "do several servers add up, and what does sharing cost?"


def measure() -> list[Figure]:
    """
    Measure, and return the figures.
    """
    # The chaos of clusters uses other modules of this package, and needs none of these.
    from bench import cluster_sql
    from bench.cluster import sharing, throughput

    return [*throughput.measure(), *sharing.measure(), *cluster_sql.measure()]
