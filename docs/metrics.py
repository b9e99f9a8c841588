"""
Print ``metrics.rst``, the page about the metrics.

After a change of the metrics in ``kiroworkers/telemetry/metric_families.py``, or of the causes in
``kiroworkers/session/end_cause.py``::

    python docs/metrics.py > docs/metrics.rst
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kiroworkers.session.end_cause import EndCause
from kiroworkers.telemetry.metric_families import DURATIONS, FAMILIES

_HEAD = """\
Metrics
=======

``GET /metrics`` has the metrics of the server in the text format of Prometheus, or in OpenMetrics
for a client that accepts it. With ``--token-file``, it needs a token with the scope ``watch``.

.. code-block:: sh

   curl -s http://127.0.0.1:8080/metrics | grep kiroworkers_workers_ready

Requests are counted as they end, which takes a few microseconds for each. Everything else is read
when somebody asks for the page; the memory and the CPU time of the agents are measured in a thread,
at most every 2 seconds. With 50 workers, a page costs less than 10 ms of CPU time, of which the
event loop spends 2 ms.

Prometheus
----------

.. test: skip (a part of the file prometheus.yml)

.. code-block:: yaml

   scrape_configs:
     - job_name: kiroworkers
       scrape_interval: 15s
       authorization:
         credentials_file: /etc/prometheus/kiroworkers.token
       static_configs:
         - targets: ["127.0.0.1:8080"]
   rule_files:
     - /etc/prometheus/kiroworkers/alerts.yml

`alerts.yml <alerts.yml>`_ has the alerts that are described below. `grafana/kiroworkers.json
<grafana/kiroworkers.json>`_ is a dashboard: in Grafana, choose *Dashboards*, *New*, *Import*, and
upload the file. It asks for the data source.

A few queries:

.. test: skip (queries of Prometheus)

.. code-block:: text

   # The part of requests that found an idle worker.
   rate(kiroworkers_warm_hits_total[5m]) / rate(kiroworkers_dispatches_total[5m])

   # The time within which 95 % of the requests for each task are answered.
   histogram_quantile(
     0.95, sum by (le, task) (rate(kiroworkers_request_duration_seconds_bucket[5m]))
   )

   # Why sessions ended in the last hour.
   sum by (reason) (increase(kiroworkers_sessions_ended_total[1h])) > 0

All metrics
-----------

Nothing that a client sends becomes a label. ``task`` is a task of the server, or ``chat`` for
OpenAI's API; ``code`` is one of the `codes of failures <failures.rst>`_; ``state`` of a pool or a
worker is one of the `states <states.rst>`_. ``outcome`` is ``answered``, ``failed``, ``cancelled``
(the client hung up), ``rejected`` (it neither waited nor reached a worker) or ``replayed`` (the
stored response to an earlier request was sent again). The history and the log have the same words,
and ``accepted`` for requests that create a job, which are not counted here.

"""

_AFTER_TABLE = """
Durations have the buckets {buckets}
seconds. ``process_cpu_seconds_total``, ``process_resident_memory_bytes`` and other metrics of the
server's process have their usual names.
Counters begin at 0 when the server starts.

Why sessions end
----------------

The label ``reason`` of ``kiroworkers_sessions_ended_total``; the log has the same word in the
field ``cause``.

"""

_ALERTS = """
Alerts
------

KiroworkersDown
~~~~~~~~~~~~~~~

The server does not run, or Prometheus may not read its metrics. See ``systemctl status
kiroworkers`` or the log, and check that the token has the scope ``watch``.

KiroworkersNoReadyWorker
~~~~~~~~~~~~~~~~~~~~~~~~

No worker answers a request, or can answer one shortly. ``GET /ready`` has the reason. `Why a worker
does not answer <operating.rst>`_ says where to look.

KiroworkersAccount
~~~~~~~~~~~~~~~~~~

A person must act: log in (``login_required``, ``login_expired``), buy credits
(``out_of_credits``), or ask the provider (``suspended``). The server finds out by itself when the
agent can answer again.

KiroworkersQueueNearLimit
~~~~~~~~~~~~~~~~~~~~~~~~~

More requests arrive than the workers answer. Raise ``--max-workers`` if the machine has memory for
more sessions, or slow down the clients: ``GET /operator/requests`` shows whose requests wait.

KiroworkersErrorRatio
~~~~~~~~~~~~~~~~~~~~~

``sum by (code) (increase(kiroworkers_request_failures_total[10m]))`` has the codes; `failures.rst
<failures.rst>`_ explains them. ``GET /requests?outcome=failed`` lists the requests with their
events.

KiroworkersRestartLoop
~~~~~~~~~~~~~~~~~~~~~~

Sessions end before they have done their work. The label ``reason`` says how; ``lastError`` and
``lastScreen`` in ``GET /health`` have what the agent showed. ``kiroworkers doctor`` starts a
session and reports what is wrong.

KiroworkersToolNotPermitted
~~~~~~~~~~~~~~~~~~~~~~~~~~~

The agent used a tool without asking, and may have changed something. Find the request by the line
``used a tool without asking`` of the log, and check the folder of the session.

KiroworkersStorageFailing
~~~~~~~~~~~~~~~~~~~~~~~~~

``storage`` in ``GET /health`` has the reason: usually the disk is full, or the state folder belongs
to another user.

KiroworkersServerLost
~~~~~~~~~~~~~~~~~~~~~

A server with the same database has not renewed its lease, and did not say that it stops: it was
killed, hangs, or does not reach the database. ``GET /cluster`` on another server names it. Its jobs
run elsewhere. A server that is lost for ten minutes is not listed any more.

KiroworkersWebhooksFailing
~~~~~~~~~~~~~~~~~~~~~~~~~~

The log has a line for each failed call, with the status or the error. A call is repeated for a
quarter of an hour and then abandoned; the result of the job can still be fetched.

KiroworkersEventLoopBlocked
~~~~~~~~~~~~~~~~~~~~~~~~~~~

Something keeps the server from serving others: the log names the callback, in a line that begins
with ``event loop``. Slow callbacks are a bug of the server; stalls come from a machine that swaps,
or that has too little CPU time for the server.

KiroworkersEventLoopBusy
~~~~~~~~~~~~~~~~~~~~~~~~

One server uses one processor for all clients and agents. Run a second server for a part of the
agents.

KiroworkersLogLinesDropped
~~~~~~~~~~~~~~~~~~~~~~~~~~

The output of the log is too slow: a full disk, or a terminal or a pipe that nobody reads.

KiroworkersSpansDropped
~~~~~~~~~~~~~~~~~~~~~~~

The collector is away, refuses the spans or is too slow; see `tracing.rst <tracing.rst>`_. Requests
are not affected.
"""


def page() -> str:
    """
    Return the page.
    """
    metrics = _table(
        ("Name", "Type", "Labels", "Meaning"),
        (
            (
                f"``{family.name}``",
                "gauge" if family.kind == "info" else family.kind,
                ", ".join(f"``{label}``" for label in family.labels) or "",
                family.help,
            )
            for family in FAMILIES
        ),
    )
    buckets = f"{', '.join(f'{bound:g}' for bound in DURATIONS[:-1])} and {DURATIONS[-1]:g}"
    causes = _table(
        ("Reason", "Meaning"),
        ((f"``{cause.value}``", _literal(cause.meaning)) for cause in EndCause),
    )
    return _HEAD + metrics + _AFTER_TABLE.format(buckets=buckets) + causes + _ALERTS


def _literal(sentence: str) -> str:
    """
    Return `sentence` with its options as literal text.
    """
    words = sentence.split(" ")
    return " ".join(
        f"``{word.rstrip('.')}``{word[len(word.rstrip('.')) :]}" if word.startswith("--") else word
        for word in words
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """
    Return a table in reStructuredText.
    """
    lines = [".. list-table::", "   :header-rows: 1", ""]
    for first, *others in (head, *rows):
        lines += [f"   * - {first}", *(f"     - {cell}".rstrip() for cell in others)]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(page(), end="")
