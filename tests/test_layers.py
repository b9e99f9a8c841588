"""
Which package may import which, and that no modules import each other in a circle.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import kiroworkers

_ROOT = Path(kiroworkers.__file__).parent

#: Modules that depend on nothing but the standard library and small libraries.
_BASE = {
    "",
    "clean_text",
    "clocks",
    "errors",
    "json_schema",
    "request_record",
    "settings",
    "signals",
    "strict_json",
    "telemetry",
    "trace_context",
}

#: For each package or top-level module, what it may import besides itself.
_MAY_IMPORT: Mapping[str, set[str]] = {
    "": set(),
    "clean_text": set(),
    "clocks": set(),
    "errors": set(),
    "exit_status": set(),
    "images": {"errors"},
    "json_schema": set(),
    "lame_duck": set(),
    "request_record": {"trace_context"},
    "reload": set(),
    "signals": set(),
    "strict_json": set(),
    # Observers of requests and sessions.
    # Views of terminals and of protocols.
    # The version is in traces.
    "telemetry": {
        "",
        "clean_text",
        "clocks",
        "conversations",
        "images",
        "request_record",
        "session",
    },
    "trace_context": set(),
    "settings": {"errors"},
    "classic": set(),
    "offline": {"classic"},
    "testing": {"classic"},
    "tasks": {"errors", "json_schema", "strict_json"},
    # The progress of a request is that of a pool.
    "mcp": {"", "errors", "jobs", "pool", "tasks"},
    "chat": {"errors", "images", "json_schema", "tasks"},
    # Its queue is fair in the way that the agents' queues are.
    "offload": {"errors", "pool"},
    # An agent's failure has a kind, whose meaning the catalogue of errors defines.
    "conversations": {"", "errors", "images", "strict_json"},
    "process": {"errors"},
    "agents": {"conversations", "errors"},
    "workspaces": {"conversations", "errors", "process"},
    "session": {"conversations", "errors", "images", "process", "request_record"},
    # A group of workers knows what was proven about its agent.
    "pool": {
        "agents",
        "conversations",
        "errors",
        "images",
        "proof",
        "request_record",
        "session",
        "workspaces",
    },
    "service_state": {"pool", "process"},
    "execution": {"clean_text", "errors", "images", "offload", "pool", "session", "tasks"},
    "jobs": {*_BASE, "execution", "offload", "pool", "tasks", "workspaces"},
    # The same as `jobs` does, with a database that servers share.
    "cluster": {*_BASE, "jobs", "offload", "pool", "tasks"},
    "web": {
        *_BASE,
        "chat",
        "conversations",
        "execution",
        "images",
        "jobs",
        "mcp",
        "offload",
        "pool",
        "proof",
        # Why sessions end, and their states.
        "session",
        "tasks",
    },
    # A client is used where no server is.
    "client": set(),
    "mcp_stdio": {"client", "strict_json"},
    "model_server": set(),
    # It drives a server as a process, over HTTP.
    "proof": {"", "agents", "conversations", "errors", "model_server", "process", "tasks"},
    "cli": {
        *_BASE,
        "agents",
        "client",
        "cluster",
        "conversations",
        "doctor",
        "exit_status",
        "mcp_stdio",
        "proof",
        "tap",
        "tasks",
    },
    "assembly": {
        *_BASE,
        "agents",
        "conversations",
        "pool",
        "process",
        "proof",
        "session",
        "workspaces",
    },
}

#: What puts everything together, or leads to it.
_ANYTHING = {"__main__", "ask", "check", "dialect", "doctor", "server", "tap", "task"}


def _modules() -> Iterator[tuple[str, Path]]:
    """
    Yield every module's dotted name below the package, and its file.
    """
    for path in sorted(_ROOT.rglob("*.py")):
        parts = path.relative_to(_ROOT).with_suffix("").parts
        yield ".".join(parts).removesuffix("__init__").removesuffix("."), path


def _imports(path: Path, names: set[str]) -> set[str]:
    """
    Return the modules of the package that the file at `path` imports.
    """
    imported = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.ImportFrom(module=str(module), names=aliases, level=0):
                for alias in aliases:
                    submodule = f"{module}.{alias.name}"
                    imported.add(submodule if submodule.partition(".")[2] in names else module)
            case ast.Import(names=aliases):
                imported |= {alias.name for alias in aliases}
    return {name.partition(".")[2] for name in imported if name.partition(".")[0] == "kiroworkers"}


class LayerTests(SynchronousTestCase):
    """
    Tests for the imports between the package's modules.
    """

    def setUp(self) -> None:
        modules = dict(_modules())
        self.imports = {name: _imports(path, set(modules)) for name, path in modules.items()}

    def test_layers(self) -> None:
        """
        A package imports only those below it.
        """
        for module, imported in self.imports.items():
            package = module.partition(".")[0]
            if package in _ANYTHING:
                continue
            allowed = _MAY_IMPORT[package] | {package}
            beyond = {name for name in imported if name.partition(".")[0] not in allowed}
            self.assertEqual(beyond, set(), f"imported by {module or 'kiroworkers'}")

    def test_no_cycles(self) -> None:
        """
        No modules import each other in a circle.
        """
        try:
            list(TopologicalSorter(self.imports).static_order())
        except CycleError as error:
            self.fail(f"these import each other: {' -> '.join(error.args[1])}")

    def test_found(self) -> None:
        """
        The imports were read: the server imports the web, which imports Klein.
        """
        self.assertIn("web.app", self.imports["server"])
        self.assertIn("errors", self.imports["web.app"])

    def test_reactor(self) -> None:
        """
        Only the modules that assemble a server or run a command import the reactor.
        """
        importers = {
            name
            for name, path in _modules()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
            if isinstance(node, ast.ImportFrom)
            and node.module == "twisted.internet"
            and any(alias.name == "reactor" for alias in node.names)
        }
        packages = {name.partition(".")[0] for name in importers}
        self.assertLessEqual(packages, {"cli", "client", "server", "tap"})
