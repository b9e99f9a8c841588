"""
Run the snippets of the documentation, as `tests.snippets` reads them.

A page's snippets are run in order, in a folder of their own in which ``.venv`` is this virtual
environment.  One server with the offline agent, at http://127.0.0.1:8080 in the text, serves all
pages.  A page that starts a server with other options gets one of its own.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from twisted.internet.utils import getProcessOutputAndValue
from twisted.trial.unittest import SkipTest

from tests.programs import ROOT, Program, environment
from tests.servers import TWISTD, ServerTestCase, real, start_python
from tests.snippets import BadPage, Snippet, find_difference, read_page
from tests.test_snippets import PAGES

#: The port of the servers in the text.
PORT = 8080

#: Seconds that a snippet may take.
PATIENCE = 60

#: The pages to run, while one writes them: ``KIROWORKERS_PAGES=docs/tasks.rst trial …``.
_CHOSEN = os.environ.get("KIROWORKERS_PAGES", "").split()

#: Matches the command of a server like the one that serves all pages.
_PLAIN = re.compile(
    r"\.venv/bin/(twistd -n --pidfile= kiroworkers|kiroworkers serve)"
    r"( --agent offline| --port 8080)*"
)


#: What Python runs as the programs that start servers.
_PROGRAMS: Mapping[str, Sequence[str]] = {"kiroworkers": ("-m", "kiroworkers"), "twistd": TWISTD}


class PageRun:
    """
    Run the snippets of one page.

    Attributes:
        problems: What went wrong, with the place of each snippet.
        counts: How many snippets were run, compared, stored, and so on.
    """

    def __init__(self, folder: Path, shared: int) -> None:
        """
        Prepare a folder for the page.

        Args:
            folder: The folder.
            shared: The port of the server that serves all pages.
        """
        folder.mkdir(parents=True)
        (folder / ".venv").symlink_to(sys.prefix)
        self.problems: list[str] = []
        self.counts: Counter[str] = Counter()
        self._folder = folder
        self._ports = {PORT: shared}
        self._servers: list[Program] = []
        self._output: str | None = None
        # Whether the next snippet shows the output of this one.
        self._is_shown = False

    async def run(self, snippets: Sequence[Snippet]) -> None:
        """
        Run the snippets, and stop the servers that they started.
        """
        try:
            for number, snippet in enumerate(snippets, 1):
                self._is_shown = any(next.has("output") for next in snippets[number : number + 1])
                try:
                    problem = await self._run(snippet)
                except (RuntimeError, TimeoutError) as error:
                    # A server ended, or did not start in time.
                    problem = str(error)
                if problem:
                    self.problems.append(f"{snippet.place}: {problem}")
        finally:
            for server in self._servers:
                if not server.ended.called:
                    server.signal("TERM")
                await server.ended

    async def _run(self, snippet: Snippet) -> str:
        """
        Run or use one snippet, and return what went wrong; empty if nothing did.
        """
        if snippet.skip_reason:
            self._output = None
            self._count(f"skipped: {snippet.skip_reason}")
        elif snippet.has("file"):
            name, _, addition = snippet.argument("file").partition(" ")
            path = self._folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("a" if addition else "w", encoding="utf-8") as file:
                file.write(self._adapt(snippet.text))
            self._count("stored")
        elif snippet.has("parse"):
            # tests.test_snippets does it.
            self._count("parsed")
        elif snippet.has("output"):
            output, self._output = self._output, None
            if output is None:
                self._count("skipped: the output of a snippet that was not run")
                return ""
            self._count("compared")
            return find_difference(snippet.text, output)
        else:
            self._output = None
            return await self._run_program(snippet)
        return ""

    async def _run_program(self, snippet: Snippet) -> str:
        missing = [name for name in snippet.argument("needs").split() if find_spec(name) is None]
        if missing:
            self._count(f"skipped: {missing[0]} is not installed")
        elif snippet.has("server"):
            self._count("run")
            return await self._start_server(snippet.text)
        else:
            self._count("run")
            return await self._finish(snippet)
        return ""

    async def _finish(self, snippet: Snippet) -> str:
        """
        Run a snippet to its end.
        """
        text = self._adapt(snippet.text)
        if snippet.language == "python":
            (self._folder / "snippet.py").write_text(text, encoding="utf-8")
            command = [str(self._folder / ".venv/bin/python"), "snippet.py"]
        else:
            command = ["bash", "-ec", f"exec < /dev/null\n{text}"]
        out, err, status = await getProcessOutputAndValue(
            shutil.which("timeout") or "timeout",
            [str(PATIENCE), *command],
            self._environment(),
            str(self._folder),
        )
        # Errors go to standard error.
        self._output = (out + err if snippet.has("fails") else out).decode("utf-8", "replace")
        if (status != 0) != snippet.has("fails"):
            return f"exit status {status}: {err.decode('utf-8', 'replace')}{self._output}"
        if re.match(r'\s*\{"error":', self._output) and not self._is_shown:
            return f"an error: {self._output}"
        return ""

    async def _start_server(self, text: str) -> str:
        """
        Start a server that runs until the end of the page, unless it is like the shared one.
        """
        command = text.replace("\\\n", " ").strip()
        if _PLAIN.fullmatch(command):
            return ""
        shown = re.search(r"--port (\d+)", command)
        command = command.replace(shown[0], "--port 0") if shown else f"{command} --port 0"
        program = Program()
        variables = self._environment(KIROWORKERS_GRACEFUL_TIMEOUT="0.1")
        start = re.match(r"(?:\.venv/bin/)?(twistd|kiroworkers)\b(.*)", command)
        if start is not None:
            # By itself, so that it may be a fork.
            arguments = [*_PROGRAMS[start[1]], *shlex.split(start[2])]
            start_python(program, arguments, variables, self._folder)
        else:
            real.spawnProcess(
                program, "/bin/bash", ["bash", "-c", command], variables, str(self._folder)
            )
        self._servers.append(program)
        port = await program.says(r"listening on .*port=(\d+)").addTimeout(PATIENCE, real)
        self._ports[int(shown[1]) if shown else PORT] = int(port[1])
        await program.says(r"worker1: ready").addTimeout(PATIENCE, real)
        return ""

    def _adapt(self, text: str) -> str:
        """
        Return `text` with the ports of the servers that run.
        """
        for shown, port in self._ports.items():
            text = re.sub(rf"\b(127\.0\.0\.1|localhost):{shown}\b", rf"\g<1>:{port}", text)
        return text

    def _environment(self, **others: str) -> dict[str, str]:
        programs = self._folder / ".venv" / "bin"
        return environment(
            HOME=str(self._folder),
            KIROWORKERS_URL=f"http://127.0.0.1:{self._ports[PORT]}",
            PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
            XDG_STATE_HOME=str(self._folder / "state"),
            **others,
        )

    def _count(self, what: str) -> None:
        self.counts[what] += 1


class SnippetTests(ServerTestCase):
    """
    Tests for the snippets of all pages.
    """

    timeout = 600

    async def test_snippets(self) -> None:
        """
        Every snippet of every page works, and prints what the page says.
        """
        counts = await self.run_pages(read_page)
        for what, number in sorted(counts.items()):
            print(f"snippets {what}: {number}")
        self.assertGreater(counts["run"], 0 if _CHOSEN else 40)

    async def test_clients(self) -> None:
        """
        The snippets that need OpenAI's or Anthropic's client or LangChain work, where these are
        installed.
        """
        modules = ("anthropic", "openai", "langchain_openai")
        for module in modules:
            if find_spec(module) is None:
                raise SkipTest(f"{module} is not installed: pip install '.[clients]'")
        counts = await self.run_pages(lambda *page: [*needing(modules, read_page(*page))])
        if not _CHOSEN:
            self.assertGreater(counts["run"], 2)

    async def run_pages(self, read: Callable[[str, str], list[Snippet]]) -> Counter[str]:
        """
        Run the snippets that `read` returns for each page, and return how many were what.
        """
        await self.start("--agent", "offline")
        shared = int(self.base.rpartition(":")[2])
        problems: list[str] = []
        counts: Counter[str] = Counter()
        for number, page in enumerate(_CHOSEN or PAGES):
            try:
                snippets = read(page, (ROOT / page).read_text(encoding="utf-8"))
            except BadPage as error:
                problems.append(str(error))
                continue
            if snippets:
                run = PageRun(self.folder / str(number), shared)
                await run.run(snippets)
                problems += run.problems
                counts += run.counts
        self.assertEqual(problems, [], "\n\n".join(problems))
        return counts


def needing(modules: Collection[str], snippets: Iterable[Snippet]) -> Iterator[Snippet]:
    """
    Yield the snippets that need one of `modules`, each with the output that follows.
    """
    needs = False
    for snippet in snippets:
        needed = snippet.argument("needs").split()
        needs = any(name in modules for name in needed) or (needs and snippet.has("output"))
        if needs:
            yield snippet
