"""
Check that what a model saves to the agent's memory reaches no other conversation.

Some agents have a tool for memories, and some tell the model a folder to write them to, which it
may do without a question.  Whether the tool is denied or not: no later case may hold the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from kiroworkers.model_server.reply import ModelReply, ToolCall
from kiroworkers.model_server.request import ModelRequest
from kiroworkers.proof.checks.asking import judge, probe, require_right
from kiroworkers.proof.checks.check import Check, Finding, skipped
from kiroworkers.proof.report import Level
from kiroworkers.proof.run import ProofRun, worker_of

#: Returns the arguments of a tool, given the text to remember.
_Remember: TypeAlias = Callable[[str], Mapping[str, Any]]

#: Returns the arguments of a tool, given the path of a file and its text.
_Write: TypeAlias = Callable[[str, str], Mapping[str, Any]]

#: The tools for memories, by name.
_MEMORY_TOOLS: Mapping[str, _Remember] = {
    "save_memory": lambda text: {"fact": text},
    "store_memory": lambda text: {
        "subject": "project",
        "fact": text,
        "citations": "the user",
        "reason": "the user asked for it",
        "category": "general",
    },
    "memory": lambda text: {"operation": "add", "content": text},
}

#: The tools that write files, by name.
_WRITE_TOOLS: Mapping[str, _Write] = {
    "Write": lambda path, text: {"file_path": path, "content": text},
    "write_file": lambda path, text: {"file_path": path, "content": text},
    "write": lambda path, text: {"filePath": path, "content": text},
    "create": lambda path, text: {"path": path, "file_text": text},
}

#: Matches a folder for memories in what the agent tells its model.
_FOLDER = re.compile(r"(/[^\s\"'`<>]+/memory)(?=[/\s\"'`<>]|$)")

#: The file that agents with such a folder read first.
_FILE = "MEMORY.md"


def memory_call(request: ModelRequest, root: str, text: str) -> ToolCall | None:
    """
    Return the call that saves `text` to the agent's memory; None if the agent offers none.

    Args:
        request: The agent's request to its model.
        root: The folder below which the agent's files are; others are left alone.
        text: The text.
    """
    for name, remember in _MEMORY_TOOLS.items():
        if name in request.tools:
            return ToolCall(name, remember(text))
    folders = [folder for folder in _FOLDER.findall(request.text) if folder.startswith(root)]
    for name, write in _WRITE_TOOLS.items():
        if folders and name in request.tools:
            return ToolCall(name, write(f"{folders[0]}/{_FILE}", text))
    return None


async def saved_memory(proof: ProofRun) -> Finding:
    """
    Let the model save the text of a case, then ask other cases.
    """
    mark = len(proof.model.requests)
    called: list[str] = []

    def save_first(request: ModelRequest) -> ModelReply:
        call = None if called else memory_call(request, str(proof.setup.root), case.text)
        if call is None:
            return proof.model.copy(request)
        called.append(call.name)
        return ModelReply(tool=call)

    case = proof.new_case("Remember: the name of my project is {}.".format, save_first)
    response = await proof.ask(case)
    if not called:
        require_right(proof, case, response)
        return skipped("the agent offers its model no memory")
    # The tool may have been denied; then there may be no answer.
    worker = worker_of(response) or proof.server.workers[0]
    for name in proof.server.workers:
        await probe(proof, name)
    await proof.server.restart_worker(worker)
    await probe(proof, worker)
    return judge(proof, mark, f"after a memory was saved with {called[0]}")


CHECKS = (Check("fresh: memory", Level.LEAKS, saved_memory),)
