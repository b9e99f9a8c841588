"""
Everything that must pass, as one session each.

`.ci/run` runs all of them, in a clone of the checkout.  By hand: ``nox -s types``.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import nox
from nox.command import CommandFailed

nox.options.sessions = ["lint", "docs", "types", "install", "tests", "oldest"]

ROOT = Path(__file__).parent
#: The packages whose tests run on the oldest Python as well.  They start no programs, or few, and
#: use what differs between Pythons: classes, types, threads, SQLite and coroutines.  `agents` runs
#: whole servers on it.  The offline agent and the reading of terminals are plain text in, text out.
#: Only this session has the linters of the files for containers.
ON_OLDEST = [
    *(
        f"tests.{name}"
        for name in ("agents", "jobs", "pool", "session.test_session", "settings", "workspaces")
    ),
    "tests.deploy.test_files",
    "tests.conversations.dialects",
    *sorted(
        f"tests.{path.stem}"
        for path in ROOT.glob("tests/test_*.py")
        # These read the sources, which are the same; `agents` starts servers.
        if path.stem.removeprefix("test_")
        not in ("diagrams", "documentation", "fork_server", "layers", "snippets")
    ),
]
LOGS = ROOT / ".nox" / "logs"
#: Where agents from npm are installed.
NPM = Path(os.environ.get("KIROWORKERS_NPM", ROOT / ".nox" / "npm"))
AGENTS_BIN = NPM / "node_modules" / ".bin"
_QUICK = "exact,fresh: next request,tools"
#: The agents that CI proves, in lanes that take about the same time, with their quick checks.
PROVEN = {
    # It offers its model no tools, and each turn takes a process that uses more than a second.
    ("llm",): "exact,fresh: next request,tools: code block",
    ("claude", "codex"): _QUICK,
    ("copilot", "gemini-acp", "opencode"): _QUICK,
}
#: The virtual environment on the oldest Python.  The sessions share it, because each installation
#: takes longer than most of them run.
SHARED_VENV = ROOT / ".nox" / "shared-venv"
#: Where the client of MCP is installed in its line 1.x, which has the name of the line 2.x.
MCP1 = ROOT / ".nox" / "mcp1"
#: What most sessions need.  They install it all, since pip takes more time to find out what is
#: installed already than to install what one of them could do without.
DEVELOPMENT = ("-e", ".[docs,test,dev,postgres]")
#: Where Debian has PostgreSQL's programs, none of which is on PATH.
DEBIAN_POSTGRES = Path("/usr/lib/postgresql")
#: How many of a failed run's last lines are printed.
MAX_LINES_PRINTED = 300

#: Measure every process of a run, and collect the measurements in one folder.
MEASURED = {
    "COVERAGE_PROCESS_START": str(ROOT / "pyproject.toml"),
    "COVERAGE_FILE": os.environ.get("COVERAGE_FILE", str(ROOT / ".coverage")),
}


def find_pythons() -> list[str]:
    """
    Return the interpreters of this machine from 3.11 up, the oldest first.
    """
    root = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    candidates = [shutil.which("python3"), *map(str, root.glob("versions/*/bin/python3"))]
    candidates += [shutil.which(f"python3.{minor}") for minor in range(11, 20)]
    script = "import sys, venv, ensurepip; print(*sys.version_info[:3], sys.executable)"
    pythons = {}
    for python in filter(None, candidates):
        done = subprocess.run([python, "-c", script], capture_output=True, text=True, check=False)
        if done.returncode == 0:
            *version, executable = done.stdout.strip().split(" ", 3)
            pythons[tuple(map(int, version))] = executable
    return [pythons[version] for version in sorted(pythons) if version >= (3, 11)]


PYTHONS = find_pythons() or ["python3"]
OLDEST, NEWEST = PYTHONS[0], PYTHONS[-1]


#: What installs packages in a third of the CPU time that pip takes, if it is beside nox or on PATH.
UV = shutil.which(
    "uv", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
)

#: What this run has installed in the shared virtual environment.
_installed: set[tuple[str, ...]] = set()


def shared_installer() -> tuple[str, ...]:
    """
    Return the command that installs packages in the shared virtual environment.
    """
    if UV:
        return (UV, "pip", "install", "-q", "--python", str(SHARED_VENV / "bin" / "python"))
    return (str(SHARED_VENV / "bin" / "pip"), "install", "-q")


def install_shared(session: nox.Session, *packages: str) -> Path:
    """
    Install `packages` in the shared virtual environment, and return the folder of its programs.
    """
    programs = SHARED_VENV / "bin"
    if not (programs / "pip").exists():
        create = (UV, "venv", "-q", "--seed", "--python", OLDEST) if UV else (OLDEST, "-m", "venv")
        session.run(*create, str(SHARED_VENV), external=True)
    install = shared_installer()
    if not _installed:
        # Otherwise pip installs it again, elsewhere, each time that it installs the checkout.  The
        # pip of the oldest Python takes twice as long to choose among a package's files.
        session.run(*install, "setuptools>=77", "pip>=25", external=True)
    if packages not in _installed:
        session.run(*install, "--no-build-isolation", *packages, external=True)
        _installed.add(packages)
    return programs


def run_trial(session: nox.Session, *command: str, **env: str) -> str:
    """
    Run trial by `command`, and print its closing lines.

    If it fails, enough of its output is printed to see why.

    Returns:
        The output.
    """
    log = LOGS / f"{os.getpid()}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    failure = None
    with log.open("w") as output:
        try:
            session.run(*command, external=True, env=env, stdout=output, stderr=output)
        except CommandFailed as problem:
            failure = problem
    lines = log.read_text(errors="replace").splitlines()
    print(*lines[-MAX_LINES_PRINTED if failure else -4 :], sep="\n")
    # Trial's own last line, such as "PASSED (skips=3, successes=1161)".
    closing = next((line for line in reversed(lines) if re.match("(PASSED|FAILED)", line)), "")
    count = {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", closing)}
    failed = count.get("failures", 0) + count.get("errors", 0)
    if failure and not failed:
        failed = 1  # the command itself
    skipped = count.get("skips", 0)
    passed = count.get("successes", 0)
    print(f"{passed} passed, {failed} failed, {skipped} skipped", flush=True)
    if failure or not passed:
        session.error("the tests failed")
    return "\n".join(lines)


def run_all_of(session: nox.Session, *command: str, **env: str) -> None:
    """
    Run trial by `command`, which must skip no test.
    """
    output = run_trial(session, *command, **env)
    if "skips=" in output.splitlines()[-1]:
        session.error("tests were skipped")


def with_python3(interpreter: str) -> Path:
    """
    Return a folder in which ``python3`` is `interpreter`.
    """
    folder = ROOT / ".nox" / ("newest" if interpreter == NEWEST else "oldest")
    folder.mkdir(parents=True, exist_ok=True)
    python = folder / "python3"
    python.write_text(f'#!/bin/sh\nexec "{interpreter}" "$@"\n')
    python.chmod(0o755)
    return folder


@nox.session(venv_backend="none")
def tests(session: nox.Session) -> None:
    """
    Run README's own command as it stands, on the newest Python.

    With the argument ``measured``, measure coverage for `coverage`; that takes twice as long.
    """
    command = re.search(
        r"^ *(python3 -m venv .*/trial .*tests)$", (ROOT / "README.rst").read_text(), re.M
    )
    if command is None:
        session.error("README.rst has no command that runs the tests")
    path = path_to(with_python3(NEWEST))
    measured = MEASURED if "measured" in session.posargs else {}
    output = run_trial(session, "bash", "-ec", command[1], PATH=path, **measured)
    if "KIROWORKERS_RECORDINGS" in os.environ and "there are no recordings" in output:
        session.error("the tests that replay recordings were skipped")


@nox.session(venv_backend="none")
def oldest(session: nox.Session) -> None:
    """
    Run the tests that depend on the version of Python on the oldest one, with few random cases.
    """
    trial = install_shared(session, *DEVELOPMENT) / "trial"
    run_trial(session, str(trial), "-j", "2", *ON_OLDEST, KIROWORKERS_EXAMPLES="5")


@nox.session(venv_backend="none")
def coverage(session: nox.Session) -> None:
    """
    Report the branches that ``nox -s tests -- measured`` ran.
    """
    program = str(ROOT / ".venv" / "bin" / "coverage")
    for command in (["combine", "-q"], ["report", "--skip-covered"]):
        session.run(program, *command, external=True, env=MEASURED)


@nox.session(venv_backend="none")
def npm(session: nox.Session) -> None:
    """
    Install what `agents` needs: agents from npm, and packages on the oldest Python.
    """
    session.run("tests/agents/install.sh", str(NPM), external=True, silent=True)
    install_shared(session, "-e", ".[test,agents,clients]")
    # All else that it needs comes with the line 2.x.
    packages = ("mcp>=1.30,<2", "httpx-sse", "pydantic-settings", "python-dotenv")
    install = (*shared_installer(), "--no-deps", "--target", str(MCP1))
    session.run(*install, *packages, external=True)


def on_loopback(program: str) -> list[str]:
    """
    Return the command of `program`, without a network but loopback if the machine allows that.
    """
    unshare = ["unshare", "-n", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
    done = subprocess.run([*unshare, "true"], capture_output=True, check=False)
    return [*(unshare if done.returncode == 0 else []), str(SHARED_VENV / "bin" / program)]


def path_to(*folders: Path) -> str:
    """
    Return a PATH on which `folders` come first, before the session's own.
    """
    return os.pathsep.join([*map(str, folders), os.environ["PATH"]])


def run_agents_tests(session: nox.Session, *tests: str) -> None:
    """
    Run `tests`, which need agents or clients, none skipped.
    """
    env = {
        "AGENTS_BIN": str(AGENTS_BIN),
        "MCP1_PACKAGES": str(MCP1),
        "PATH": path_to(SHARED_VENV / "bin"),
    }
    run_all_of(session, *on_loopback("trial"), "-j", "2", *tests, **env)


def run_prove(session: nox.Session, quick: bool) -> None:
    """
    Prove the agents of `PROVEN`, all lanes side by side; each check must succeed.
    """
    output = LOGS.parent / "proofs"
    shutil.rmtree(output, ignore_errors=True)
    command = [*on_loopback("kiroworkers"), "prove", "--output", str(output)]
    env = {**os.environ, "PATH": path_to(AGENTS_BIN, SHARED_VENV / "bin")}
    lanes = [
        subprocess.Popen([*command, *(("--checks", checks) if quick else ()), *agents], env=env)
        for agents, checks in PROVEN.items()
    ]
    statuses = [lane.wait() for lane in lanes]
    if any(statuses):
        session.error("an agent is not proven")


@nox.session(venv_backend="none")
def agents(session: nox.Session) -> None:
    """
    Run the tests that need a third-party client or a line editor.

    Run `npm` first.  Nothing else should run meanwhile: terminals are read against the clock.
    """
    names = (
        "anthropic",
        "openai",
        "responses",
        "openapi",
        "mcp_clients.PythonClientTests",
        "mcp_agent.AgentTests",
        "line_editors",
        "snippets.SnippetTests.test_clients",
    )
    run_agents_tests(session, *(f"tests.end_to_end.test_{name}" for name in names))


def find_postgres() -> str | None:
    """
    Return the folder with the programs of the newest PostgreSQL, or None.
    """
    if "KIROWORKERS_POSTGRES" in os.environ:
        folders = [Path(os.environ["KIROWORKERS_POSTGRES"])]
    else:
        debian = sorted(DEBIAN_POSTGRES.glob("*/bin"), key=lambda path: float(path.parent.name))
        folders = [*map(Path, os.environ["PATH"].split(os.pathsep)), *reversed(debian)]
    for folder in folders:
        if all((folder / program).exists() for program in ("initdb", "pg_ctl", "postgres")):
            return str((folder / "postgres").resolve().parent)
    return None


def find_haproxy() -> str | None:
    """
    Return the path of HAProxy's program, or None.
    """
    # Debian has it in a folder that is not on every user's PATH.
    path = path_to(Path("/usr/sbin"))
    return shutil.which(os.environ.get("KIROWORKERS_HAPROXY", "haproxy"), path=path)


def cluster_tests() -> list[str]:
    """
    Return the names of the tests that need PostgreSQL or HAProxy.
    """
    needs = re.compile(r"from tests\.(haproxy|postgres) import|KIROWORKERS_(HAPROXY|POSTGRES)")
    paths = [path.relative_to(ROOT) for path in ROOT.glob("tests/**/test_*.py")]
    others = [
        ".".join(path.with_suffix("").parts)
        for path in sorted(paths)
        if path.parts[1] != "cluster" and needs.search((ROOT / path).read_text())
    ]
    return ["tests.cluster", *others]


@nox.session(venv_backend="none")
def cluster(session: nox.Session) -> None:
    """
    Run the tests that need PostgreSQL or HAProxy, which `.ci/run` installs.
    """
    postgres, haproxy = find_postgres(), find_haproxy()
    if postgres is None:
        session.error(
            "initdb, pg_ctl and postgres are neither in $KIROWORKERS_POSTGRES, nor on PATH, nor "
            f"below {DEBIAN_POSTGRES}: install Debian's package postgresql"
        )
    if haproxy is None:
        session.error(
            "haproxy is neither $KIROWORKERS_HAPROXY nor on PATH: install Debian's package haproxy"
        )
    trial = install_shared(session, *DEVELOPMENT) / "trial"
    programs = {"KIROWORKERS_POSTGRES": postgres, "KIROWORKERS_HAPROXY": haproxy}
    run_all_of(session, str(trial), "-j", "2", *cluster_tests(), **programs)


@nox.session(venv_backend="none")
def typescript(session: nox.Session) -> None:
    """
    Make the TypeScript client from a server's OpenAPI document, compile it and use it.

    The packages include axe-core, which looks for faults of accessibility in the server's page.
    """
    client = ROOT / "clients" / "typescript"
    session.run("npm", "install", "--prefix", str(client), external=True, silent=True)
    trial = install_shared(session, *DEVELOPMENT) / "trial"
    page = "test_dashboard.DashboardTests.test_accessibility"
    tests = ("test_typescript", "test_mcp_clients.TypeScriptClientTests", page)
    names = [f"tests.end_to_end.{name}" for name in tests]
    run_all_of(session, str(trial), *names)


@nox.session(venv_backend="none")
def client(session: nox.Session) -> None:
    """
    Check the types of the Python client, run its tests, and run the snippets of its pages.
    """
    folder = ROOT / "clients" / "python"
    install_shared(session, *DEVELOPMENT)
    # A plain install, so that what is missing in the distribution is missing here.
    frameworks = ("django>=5.2", "fastapi", "flask>=3.1", "uvicorn")
    programs = install_shared(session, str(folder), *frameworks)
    with session.chdir(folder):
        session.run(str(programs / "mypy"), external=True)
        test = ("unittest", "discover", "--start-directory", "tests", "--top-level-directory", ".")
        session.run(str(programs / "python"), "-m", *test, external=True)
    guides = (f"docs/how-to/{name}.rst" for name in ("django", "fastapi", "flask"))
    pages = " ".join(["clients/python/README.rst", "docs/python-client.rst", *guides])
    name = "tests.end_to_end.test_snippets.SnippetTests.test_snippets"
    output = run_trial(session, str(programs / "trial"), name, KIROWORKERS_PAGES=pages)
    if "is not installed" in output:
        session.error("snippets were skipped")


@nox.session(venv_backend="none")
def prove(session: nox.Session) -> None:
    """
    Prove that the agents that `npm` installs are exact, fresh and safe, with the quick checks.

    Nothing else should run meanwhile, for the same reason.
    """
    run_prove(session, quick=True)


@nox.session(venv_backend="none")
def long(session: nox.Session) -> None:
    """
    Prove the agents with all checks, as their reports were made, and run every variant of tests.

    It takes most of an hour; `.ci/run` leaves it out.
    """
    run_prove(session, quick=False)
    os.environ["KIROWORKERS_LONG"] = "1"
    names = ("real_agents", "mcp_agent", "prove", "cost")
    run_agents_tests(session, "tests.bench", *(f"tests.end_to_end.test_{name}" for name in names))


@nox.session(venv_backend="none")
def types(session: nox.Session) -> None:
    """
    Check the types.
    """
    mypy = install_shared(session, *DEVELOPMENT) / "mypy"
    session.run(str(mypy), external=True)


@nox.session(venv_backend="none")
def lint(session: nox.Session) -> None:
    """
    Check the style.
    """
    ruff = str(install_shared(session, *DEVELOPMENT) / "ruff")
    session.run(ruff, "check", ".", external=True)
    session.run(ruff, "format", "--check", ".", external=True)


#: Parses pages without Sphinx; a warning is an error.
_PARSE = """
import sys
from docutils.core import publish_file
for page in sys.argv[1:]:
    publish_file(source_path=page, writer="null", settings_overrides={"halt_level": 2})
"""


@nox.session(venv_backend="none")
def docs(session: nox.Session) -> None:
    """
    Build the documentation; a warning, such as a dangling link, is an error.

    Pages that are also shown where nothing knows Sphinx must parse without it.
    """
    programs = install_shared(session, *DEVELOPMENT)
    command = [str(programs / "sphinx-build"), "-q", "-W", "--keep-going", "-c", "docs", "."]
    output = LOGS.parent / "html"
    session.run(*command, str(output), external=True)
    print(f"see {output}/docs/index.html", flush=True)
    pages = sorted(map(str, [*ROOT.glob("*.rst"), *ROOT.glob("clients/*/*.rst")]))
    session.run(str(programs / "python"), "-c", _PARSE, *pages, external=True)


@nox.session(venv_backend="none")
def install(session: nox.Session) -> None:
    """
    Run README's command in a new clone on the oldest Python, until its server wrote a story.

    Then use the plain install from another folder.
    """
    folder = LOGS.parent / "clone"
    shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    session.run("git", "clone", "-q", str(ROOT), str(folder), external=True)
    text = (folder / "README.rst").read_text()
    found = re.search(r"^ *(python3 -m venv .*/twistd .* --port) 8080$", text, re.M)
    if found is None:
        session.error("README.rst has no command that runs the server")
    env = {**os.environ, "PATH": path_to(with_python3(OLDEST))}
    # Another server may use the port.
    command = ["bash", "-ec", f"{found[1]} 0"]
    with subprocess.Popen(
        command, cwd=folder, env=env, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as server:
        assert server.stdout is not None
        port = None
        for line in server.stdout:
            if (listening := re.search(r"listening on .*port=(\d+)", line)) is not None:
                port = listening[1]
            if "worker2: ready" in line:
                break
        if port is None:
            session.error("the server did not start")
        story = urllib.request.Request(
            f"http://127.0.0.1:{port}/kiro/generate-story",
            b'{"idea": "Print labels"}',
            {"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(story, timeout=60) as response:
            print(response.read().decode())
        print(f"{time.monotonic() - began:.0f} s from git clone to the first story", flush=True)
        os.killpg(server.pid, signal.SIGINT)
        server.stdout.read()
    programs = folder / ".venv" / "bin"
    session.chdir("/")
    session.run(str(programs / "twistd"), "kiroworkers", "--help", silent=True, external=True)
    session.run(str(programs / "kiroworkers"), "check", "--help", silent=True, external=True)
    session.run(str(programs / "kiroworkers"), "--version", external=True)
