"""
Everything pip needs to know.  `pyproject.toml` names the build system and the
tools' settings; the metadata stands here.
"""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="kiroworkers",
    version="0.1.0.dev0",
    description="A warm pool of terminal AI agents (Kiro CLI) behind an HTTP service that answers with typed JSON",
    long_description=Path(__file__).with_name("README.rst").read_text(encoding="utf-8"),
    long_description_content_type="text/x-rst",
    license="MIT",
    license_files=["LICENSE"],
    author="The kiroworkers developers",
    python_requires=">=3.11",
    # An editable install finds twisted/plugins only when the root is named.
    package_dir={"": "."},
    packages=[*find_packages(include=["kiroworkers", "kiroworkers.*"]), "twisted.plugins"],
    package_data={
        "kiroworkers": [
            "py.typed",
            "tasks/*.toml",
            "conversations/dialects/*.toml",
            "web/pages/*.html",
            "web/pages/*.css",
            "web/pages/*.js",
        ]
    },
    install_requires=[
        "attrs>=23.1",
        # The language of prompts; 3.1.6 mends escapes from its sandbox.
        "jinja2>=3.1.6",
        "jsonschema>=4.20",
        # Knows in a microsecond that an answer fits; jsonschema, which says why one does
        # not, takes seventy, a tenth of all that an instant turn costs.
        "jsonschema-rs>=0.60",
        "klein>=24.8",
        "psutil>=6.0",
        "pyte>=0.8.2",
        # What jsonschema resolves references with; those of others are checked first.
        "referencing>=0.31",
        # TLS for callbacks to https; with 24.7 the tests of the web room fail.
        "twisted[tls]>=25.5",
        "wcwidth>=0.2.6",
    ],
    extras_require={
        # For `kiroworkers.client` (treq) and `python -m kiroworkers.ask` (rich); a server needs neither.
        "client": ["rich>=13.7", "treq>=24.9", "twisted[tls]>=25.5"],
        # What `python -m bench` measures beside the server.
        "bench": ["pexpect>=4.9"],
        # Real agents that the tests drive, where they are installed.
        "agents": ["llm>=0.36"],
        # Clients of OpenAI's API that the tests ask with, where they are installed; and what
        # asks whatever the description of our own API allows.
        "clients": ["langchain-openai>=0.3", "openai>=1.60", "schemathesis>=4.32"],
        # The protocol package has the schema that ours is checked against.
        "test": ["agent-client-protocol>=0.12", "hypothesis>=6.100", "rich>=13.7", "treq>=24.9"],
        "dev": [
            "mypy>=1.15",
            "mypy-zope>=1.0.11",
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
