"""
Run a cluster on loopback: PostgreSQL, servers and HAProxy.
"""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
from attrs import define

from bench.chaos.world import secrets
from bench.cluster.proxy import Proxy
from bench.cluster.servers import Server
from bench.cluster.turns import Turn, read_turns
from bench.figures import cpu
from kiroworkers.cluster import migrate
from kiroworkers.process.supervisor import descendants
from tests.postgres import Cutter, Postgres
from tests.programs import environment, install_fake_kiro

#: Options of every server: it replaces no session by itself, and turns may wait for it.
_OPTIONS = (
    *("--max-requests", "1000000", "--restart-delay", "0.1", "--restart-max-delay", "0.5"),
    *("--request-timeout", "60", "--queue-timeout", "60", "--graceful-timeout", "30"),
    *("--stop-timeout", "0.5", "--startup-timeout", "60", "--trusted-proxy", "127.0.0.1"),
    *("--job-ttl", "24h", "--max-jobs", "20000"),
)

#: The roles that own the tables and that servers use, with the rights that the documentation names.
_OWNER, _ROLE = "kiroworkers_owner", "kiroworkers"

#: Seconds until turns must have been asked.
_TURNS_TIMEOUT = 120

_PAUSE = 0.1


@define
class World:
    """
    Hold a cluster.

    Attributes:
        folder: Its folder, in which everything is.
        servers: Its servers.
        port: The port of HAProxy.
        postgres: The database server.
        cutters: What each server reaches the database through, by its name; empty if they reach
            it directly.
        proxy: HAProxy.
    """

    folder: Path
    servers: Sequence[Server]
    port: int
    postgres: Postgres | None = None
    cutters: Mapping[str, Cutter] = {}
    proxy: Proxy | None = None

    @property
    def _database(self) -> Postgres:
        assert self.postgres is not None, "servers with an embedded database share none"
        return self.postgres

    def turns(self) -> Mapping[str, list[Turn]]:
        """
        Return the turns about each idea so far.
        """
        path = self.folder / "turns"
        return read_turns(path.read_text().splitlines()) if path.exists() else {}

    def has_open_turn(self, server: str, prefix: str) -> bool:
        """
        Return whether a server runs a turn about an idea whose name begins with `prefix`.
        """
        last = (found[-1] for name, found in self.turns().items() if name.startswith(prefix))
        return any(turn.server == server and turn.answered is None for turn in last)

    def await_turns(self, names: Collection[str]) -> None:
        """
        Wait until these ideas were asked about.

        Raises:
            RuntimeError: One was not.
        """
        until = time.monotonic() + _TURNS_TIMEOUT
        while missing := set(names) - self.turns().keys():
            if time.monotonic() > until:
                raise RuntimeError(f"{len(missing)} of {len(names)} were not asked: {missing}")
            time.sleep(_PAUSE)

    def keep_logs(self, folder: Path) -> None:
        """
        Copy the logs of all servers, and what the agents wrote, to `folder`.
        """
        folder.mkdir(parents=True, exist_ok=True)
        for server in self.servers:
            (folder / f"{server.name}.log").write_text(server.log)
        if (self.folder / "turns").exists():
            shutil.copy(self.folder / "turns", folder / "turns")

    def statements(self) -> int:
        """
        Return how many statements were executed so far, functions' own not counted.
        """
        return int(self._database.execute("SELECT sum(calls) FROM pg_stat_statements")[0][0])

    def database_cpu(self) -> Mapping[int, float]:
        """
        Return the CPU time that each process of PostgreSQL has used, in seconds.
        """
        pid = self._database.pid
        used = {}
        for process in (pid, *descendants(pid)):
            # Those that clean up end by themselves.
            with suppress(OSError):
                used[process] = cpu(process)
        return used

    @contextmanager
    def cut_off(self, server: Server, *, silently: bool) -> Iterator[None]:
        """
        Keep a server from its database as long as the block lasts.

        Args:
            server: The server.
            silently: Whether nothing tells it, as if packets were lost; otherwise its connections
                are closed.
        """
        cutter = self.cutters[server.name]
        if silently:
            cutter.silence()
        else:
            cutter.cut()
        try:
            yield
        finally:
            cutter.heal()

    @contextmanager
    def read_only_database(self) -> Iterator[None]:
        """
        Let the database refuse to write as long as the block lasts.
        """
        self._set_read_only("on")
        try:
            yield
        finally:
            self._set_read_only("off")

    def _set_read_only(self, value: str) -> None:
        self._database.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
        self._database.execute("SELECT pg_reload_conf()")

    @contextmanager
    def no_database(self) -> Iterator[None]:
        """
        Crash PostgreSQL, and start it again after the block.
        """
        self._database.stop(signal.SIGQUIT)
        try:
            yield
        finally:
            self._database.start()

    def restart_database(self) -> None:
        """
        Restart PostgreSQL.
        """
        self._database.restart()

    def reload_proxy(self) -> None:
        """
        Let HAProxy read its configuration again.
        """
        assert self.proxy is not None
        self.proxy.reload()


@contextmanager
def cluster(
    folder: Path, servers: int, workers: int, *more: str, cuttable: bool = False
) -> Iterator[World]:
    """
    Run a cluster whose servers are ready; end everything in it afterwards.

    Args:
        folder: An empty folder, or one to make.
        servers: The number of servers.
        workers: The number of workers of each.
        *more: More options of the servers.
        cuttable: Whether servers can be cut off from the database, which makes it slower.
    """
    folder.mkdir(exist_ok=True)
    with ExitStack() as stack:
        postgres = Postgres(options=("shared_preload_libraries=pg_stat_statements",))
        stack.callback(postgres.close)
        postgres.start()
        _create_database(postgres)
        cutters = {}
        options = {}
        for name in map("server{}".format, range(1, servers + 1)):
            port = postgres.port
            if cuttable:
                cutters[name] = Cutter(postgres.port)
                stack.callback(cutters[name].close)
                port = cutters[name].port
            file = folder / f"database-of-{name}"
            file.write_text(postgres.address("kiroworkers", _ROLE, port))
            file.chmod(0o600)
            options[name] = ("--database-file", str(file), "--server-name", name, *more)
        made = stack.enter_context(_running(folder, workers, options))
        proxy = Proxy([server.port for server in made], workers)
        stack.callback(proxy.close)
        yield World(folder, made, proxy.port, postgres, cutters, proxy)


def _create_database(postgres: Postgres) -> None:
    """
    Create the database of a cluster, as its documentation says.
    """
    for role in (_OWNER, _ROLE):
        postgres.execute(f"CREATE ROLE {role} LOGIN")
    postgres.execute(f"CREATE DATABASE kiroworkers OWNER {_OWNER}")
    postgres.execute("CREATE EXTENSION pg_stat_statements")
    address = postgres.address("kiroworkers", _OWNER)
    with psycopg.connect(address, autocommit=True) as connection:
        connection.execute("REVOKE ALL ON DATABASE kiroworkers FROM PUBLIC")
        connection.execute(f"GRANT CONNECT ON DATABASE kiroworkers TO {_ROLE}")
        migrate.upgrade(connection)
        migrate.grant(connection, _ROLE)


@contextmanager
def alone(folder: Path, workers: int, *more: str) -> Iterator[World]:
    """
    Run one server with an embedded database; the arguments are those of `cluster`.
    """
    with _running(folder, workers, {"alone": more}) as made:
        yield World(folder, made, made[0].port)


@contextmanager
def _running(
    folder: Path, workers: int, options: Mapping[str, Sequence[str]]
) -> Iterator[Sequence[Server]]:
    """
    Run servers; the options of each are by its name.
    """
    folder.mkdir(exist_ok=True)
    variables = environment(
        PATH=install_fake_kiro(folder / "bin", "bench.cluster.agent"),
        CLUSTER_TURNS=str(folder / "turns"),
        KIROWORKERS_PASS_ENV="CLUSTER_*",
    )
    common = (*_OPTIONS, "--agent", f"kiro-classic={workers}", *secrets(folder))
    with ExitStack() as stack:
        made = [
            Server(name, folder / name, (*common, *own), variables) for name, own in options.items()
        ]
        for server in made:
            stack.callback(server.close)
            server.start()
        for server in made:
            server.await_ready()
        yield made
