"""
Describe the server-sent events of tasks and of jobs.

`kiroworkers.web.events` and `kiroworkers.web.job_stream` send them.
"""

from __future__ import annotations

from collections.abc import Mapping

from kiroworkers.web.openapi.schemas import (
    Schema,
    any_object,
    array,
    choice,
    count,
    integer,
    mapping,
    number,
    or_null,
    record,
    ref,
    string,
)

#: The data of each event, by the name of the event, in the order in which they may come.
TASK_EVENTS: Mapping[str, Schema] = {
    "queued": record(
        "The request waits for a worker.",
        position=count("Position in the queue; 1 is the next."),
        estimate=number("Estimated time until a worker is free, in seconds."),
    ),
    "started": record(
        "A worker has begun to answer.",
        worker=string("Name of the worker."),
        attempt=integer("Number of the attempt; 1 is the first.", minimum=1),
    ),
    "text": record("A piece of the agent's words.", text=string("The piece.")),
    "notice": record(
        "Something happened at the agent, and the turn goes on.",
        kind=choice("What happened.", "compaction", "retry", "stall", "model_fallback"),
        detail=string("The same in a sentence."),
    ),
    "retry": record(
        "The request is tried again: discard the text so far.",
        reason=string("Why."),
        where=choice("Where it is answered.", "same_turn", "same_conversation", "new_conversation"),
    ),
    "headers": mapping(
        "The headers that describe the answer, by name. It comes before `answer`.",
        {"type": "string"},
    ),
    "answer": any_object("The answer. It is the last event."),
    "error": ref(
        "Error", "The failure with its `status`. It is the last event, instead of `answer`."
    ),
}


#: Likewise for the events of a job.
JOB_EVENTS: Mapping[str, Schema] = {
    "queued": record(
        "The job waits.",
        position=or_null(count("Position in the queue; 1 is the next. Null if it is not known.")),
        estimate=or_null(
            number("Estimated time until a worker is free, in seconds; null if it is not known.")
        ),
    ),
    **{name: TASK_EVENTS[name] for name in ("started", "text", "notice", "retry")},
    "gap": record(
        "Events before the next one are missing: discard the text so far.", reason=string("Why.")
    ),
    "answer": any_object("The answer. It is the last event."),
    "error": TASK_EVENTS["error"],
    "cancelled": record("The job was cancelled. It is the last event, instead of `answer`."),
}


#: Likewise for the stream that the page follows.
WATCH_EVENTS: Mapping[str, Schema] = {
    "state": ref(
        "WatchedState", "The state of the server: at once, after a change, and every few seconds."
    ),
    "request": ref(
        "WatchedRequest",
        "A request and its events: the last 50 at once, then each that begins, goes on or ends.",
    ),
    "loads": record(
        "The load of the last five minutes, at once. Between samples with a longer gap nothing "
        "happened.",
        samples=array("The samples, oldest first.", ref("LoadSample")),
    ),
    "load": ref("LoadSample", "The load, every two seconds."),
    "outages": record(
        "The last outages of agents: at once, and after a change.",
        outages=array("The outages, oldest first.", ref("Outage")),
    ),
}


def events_schema(source: str, events: Mapping[str, Schema]) -> Schema:
    """
    Return the schema of an object with the data of each event, by the name of the event.

    No such object is sent: it gives generated clients the types.

    Args:
        source: What the events are about, such as "a task".
        events: The data of each event, by the name of the event.
    """
    return record(
        f"The data of each server-sent event of {source}, by the name of the event.",
        events,
        **events,
    )


def describe_events(events: Mapping[str, Schema]) -> str:
    """
    Return what each event means, as a list in Markdown.

    Args:
        events: The data of each event, by the name of the event.
    """
    lines = []
    for name, schema in events.items():
        fields = ", ".join(f"`{field}`" for field in schema.get("properties", {}))
        lines.append(f"- `{name}`{f' ({fields})' if fields else ''}: {schema['description']}")
    return "\n".join(lines)
