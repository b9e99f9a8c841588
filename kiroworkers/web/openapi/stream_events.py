"""
Describe the server-sent events of a task.

`kiroworkers.web.events` sends them.
"""

from __future__ import annotations

from collections.abc import Mapping

from kiroworkers.web.openapi.schemas import (
    Schema,
    any_object,
    choice,
    count,
    integer,
    mapping,
    number,
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


def events_schema() -> Schema:
    """
    Return the schema of an object with the data of each event, by the name of the event.

    No such object is sent: it gives generated clients the types.
    """
    return record(
        "The data of each server-sent event of a task, by the name of the event.",
        TASK_EVENTS,
        **TASK_EVENTS,
    )


def describe_events() -> str:
    """
    Return what each event means, as a list in Markdown.
    """
    lines = []
    for name, schema in TASK_EVENTS.items():
        fields = ", ".join(f"`{field}`" for field in schema.get("properties", {}))
        lines.append(f"- `{name}`{f' ({fields})' if fields else ''}: {schema['description']}")
    return "\n".join(lines)
