"""
Run PostgreSQL for the tests and the benchmarks, as an ordinary user in a temporary folder.

KIROWORKERS_POSTGRES names the folder with its programs; without it, tests that need it are skipped.
"""

from __future__ import annotations

import atexit
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from selectors import EVENT_READ, DefaultSelector
from threading import Thread
from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase, TestCase

try:
    import psycopg
    from psycopg import sql

    _MISSING = None
except ImportError:
    _MISSING = "psycopg is not installed"

#: Why tests that need PostgreSQL are skipped; None if they are not.
SKIP: str | None = (
    _MISSING
    if "KIROWORKERS_POSTGRES" in os.environ
    else "KIROWORKERS_POSTGRES does not name the folder with PostgreSQL's programs"
)

#: Break the connections of a database, and delete all that tests have stored.
_CLEAN = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
    SET session_replication_role = replica;
    DO $$
    DECLARE
        name regclass;
    BEGIN
        FOR name IN SELECT oid FROM pg_class
            WHERE relnamespace = 'kiroworkers'::regnamespace AND relkind = 'r'
            AND relname NOT IN ('schema_version', 'maintenance')
        LOOP
            EXECUTE format('DELETE FROM %s', name);
        END LOOP;
        FOR name IN SELECT oid FROM pg_class
            WHERE relnamespace = 'kiroworkers'::regnamespace AND relkind = 'S'
        LOOP
            EXECUTE format('ALTER SEQUENCE %s RESTART', name);
        END LOOP;
    END
    $$;
    UPDATE kiroworkers.maintenance SET tidied = '-infinity'
"""

#: Seconds after which a server that does not start is a failure.
_PATIENCE = 30

_numbers = count(1)


class Postgres:
    """
    Run a PostgreSQL server, on a port of 127.0.0.1 and on a UNIX socket.

    Attributes:
        port: Its port, which stays the same when it is started again.

    Args:
        fsync: Whether commits wait for the disk.
        options: More settings, such as ``max_connections=200``.
        user: The operating system's user, if this process is root: PostgreSQL refuses root.
    """

    def __init__(
        self, fsync: bool = False, options: Iterable[str] = (), user: str = "nobody"
    ) -> None:
        self._programs = Path(os.environ["KIROWORKERS_POSTGRES"])
        self._user = user if os.geteuid() == 0 else None
        self._folder = Path(tempfile.mkdtemp(prefix="pg-")).resolve()
        atexit.register(self.close)
        self._data = self._folder / "data"
        self._options = (*options, f"fsync={'on' if fsync else 'off'}")
        self._process: subprocess.Popen[bytes] | None = None
        self._migrated: set[str] = set()
        self._clean: list[str] = []
        self.log: deque[str] = deque(maxlen=200)
        if self._user is not None:
            os.chown(self._folder, pwd.getpwnam(self._user).pw_uid, -1)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        self._run(
            "initdb",
            "--no-sync",
            "--no-instructions",
            "--auth=trust",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            f"--pgdata={self._data}",
        )

    @property
    def pid(self) -> int:
        """
        Return the process id of the server, which must run.
        """
        assert self._process is not None, "the server was started"
        return self._process.pid

    @property
    def running(self) -> bool:
        """
        Return whether the server was started and not stopped.
        """
        return self._process is not None

    def start(self) -> None:
        """
        Start the server, and wait until it accepts connections.
        """
        settings = (
            f"port={self.port}",
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={self._folder}",
            "shared_buffers=32MB",
            "autovacuum_naptime=10",
            "log_min_messages=log",
            *self._options,
        )
        arguments = [part for setting in settings for part in ("-c", setting)]
        self._process = subprocess.Popen(
            [self._programs / "postgres", "-D", self._data, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            cwd=self._folder,
            user=self._user,
            # Ctrl-C is for the tests, which then stop the server.
            start_new_session=True,
        )
        assert self._process.stderr is not None, "it is a pipe"
        for line in self._process.stderr:
            self._note(line)
            if b"ready to accept connections" in line:
                break
        else:
            self._process.wait()
            self._process = None
            raise RuntimeError("\n".join(["PostgreSQL does not start", *self.log]))
        Thread(target=self._read_log, args=(self._process.stderr,), daemon=True).start()

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """
        Stop the server.

        Args:
            how: SIGINT closes all connections and ends; SIGQUIT is a crash, as far as the data on
                the disk is concerned.
        """
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(how)
            process.wait(_PATIENCE)

    def restart(self, how: signal.Signals = signal.SIGINT) -> None:
        """
        Stop the server and start it again.
        """
        self.stop(how)
        self.start()

    def close(self) -> None:
        """
        End the server, and delete its data.
        """
        atexit.unregister(self.close)
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self._folder, ignore_errors=True)

    def address(
        self, database: str = "postgres", user: str = "postgres", port: int | None = None
    ) -> str:
        """
        Return the address of a database.

        Args:
            database: Its name.
            user: The role that connects, which needs no password.
            port: The port on 127.0.0.1, such as that of a `Cutter`; by default the server's own.
        """
        return f"postgresql://{user}@127.0.0.1:{port or self.port}/{database}"

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[Any, ...]]:
        """
        Execute a statement as the superuser, and return its rows.
        """
        with psycopg.connect(self.address(database), autocommit=True) as connection:
            cursor = connection.execute(sql.SQL(statement))
            return cursor.fetchall() if cursor.description else []

    def create_database(self, migrated: bool = True) -> str:
        """
        Return the name of an empty database.

        Args:
            migrated: Whether it has the current schema.
        """
        if migrated and self._clean:
            return self._clean.pop()
        name = f"test{next(_numbers)}"
        self.execute(f"CREATE DATABASE {name}")
        if migrated:
            from kiroworkers.cluster import migrate

            with psycopg.connect(self.address(name), autocommit=True) as connection:
                migrate.upgrade(connection)
            self._migrated.add(name)
        return name

    def drop_database(self, name: str) -> None:
        """
        Break the connections of a database, and delete it or its rows.
        """
        if name not in self._migrated:
            self.execute(f"DROP DATABASE {name} WITH (FORCE)")
            return
        # Creating a database copies hundreds of files, so it is used again.
        self.execute(f"ALTER DATABASE {name} RESET ALL")
        self.execute(_CLEAN, name)
        self._clean.append(name)

    def _run(self, program: str, *arguments: str) -> None:
        done = subprocess.run(
            [self._programs / program, *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            cwd=self._folder,
            user=self._user,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"{program} failed: {done.stderr.decode()}")

    def _read_log(self, pipe: Iterable[bytes]) -> None:
        for line in pipe:
            self._note(line)

    def _note(self, line: bytes) -> None:
        self.log.append(line.decode(errors="replace").rstrip())


@cache
def postgres() -> Postgres:
    """
    Return the server that all tests of this process share; the first call starts it.

    A test that stops it starts it again.
    """
    server = Postgres(options=("max_connections=100",))
    server.start()
    return server


class _WithDatabase:
    """
    Give each test a database of its own; see `DatabaseTestCase`.
    """

    skip: ClassVar[str | None] = SKIP
    addCleanup: Callable[..., Any]

    def setUp(self) -> None:
        """
        Create the database.
        """
        self.postgres = postgres()
        self.database = self.postgres.create_database()
        self.addCleanup(self.postgres.drop_database, self.database)
        self.address = self.postgres.address(self.database)

    def connect(self, address: str | None = None) -> psycopg.Connection[Any]:
        """
        Return a connection to the database as servers use it, which is closed after the test.
        """
        connection = psycopg.connect(self.address if address is None else address, autocommit=True)
        connection.execute("SET search_path = kiroworkers")
        self.addCleanup(connection.close)
        return connection


class SynchronousDatabaseTestCase(_WithDatabase, SynchronousTestCase):
    """
    Run each test with an empty database that has the current schema.
    """


class DatabaseTestCase(_WithDatabase, TestCase):
    """
    Run each test, which may need the reactor, with an empty database that has the schema.
    """


class Cutter:
    """
    Forward TCP connections to a port of 127.0.0.1, until they are cut.

    It runs in a thread, so tests with and without a reactor can use it.

    Attributes:
        port: The port to connect to.

    Args:
        target: The port that connections are forwarded to.
    """

    def __init__(self, target: int) -> None:
        self._target = target
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self._others: dict[socket.socket, socket.socket] = {}
        self._selector = DefaultSelector()
        self._commands, self._wakeup = socket.socketpair()
        self._refusing = self._silent = False
        self._selector.register(self._server, EVENT_READ)
        self._selector.register(self._commands, EVENT_READ)
        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """
        Break all connections, and refuse new ones, until `heal`.
        """
        self._command(b"c")

    def silence(self) -> None:
        """
        Keep the connections and accept new ones, but forward nothing, until `heal`.
        """
        self._command(b"s")

    def heal(self) -> None:
        """
        Forward again.
        """
        self._command(b"h")

    def close(self) -> None:
        """
        Break all connections, and listen no more.
        """
        self._command(b"q")
        self._thread.join()
        self._wakeup.close()

    def _command(self, command: bytes) -> None:
        self._wakeup.sendall(command)
        if command != b"q":
            # Wait until it has taken effect.
            self._wakeup.recv(1)

    def _run(self) -> None:
        while True:
            for key, _ in self._selector.select():
                ready = key.fileobj
                if ready is self._commands:
                    command = self._commands.recv(1)
                    self._obey(command)
                    if command == b"q":
                        return
                    self._commands.sendall(command)
                    # The connections that were found to be ready may be closed now.
                    break
                if ready is self._server:
                    self._accept()
                elif isinstance(ready, socket.socket) and ready in self._others:
                    self._forward(ready)

    def _obey(self, command: bytes) -> None:
        self._refusing, silent = command in b"cq", command == b"s"
        if silent != self._silent:
            self._silent = silent
            for connection in list(self._others):
                if silent:
                    self._selector.unregister(connection)
                elif connection in self._others and _was_reset(connection):
                    # What it had sent meanwhile would not have arrived, either.
                    self._drop(connection)
            if not silent:
                for connection in self._others:
                    self._selector.register(connection, EVENT_READ)
        if self._refusing:
            for connection in list(self._others):
                self._drop(connection)
        if command == b"q":
            self._selector.close()
            self._server.close()
            self._commands.close()

    def _accept(self) -> None:
        client, _ = self._server.accept()
        if self._refusing:
            client.close()
            return
        try:
            server = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            client.close()
            return
        self._others[client], self._others[server] = server, client
        if not self._silent:
            for connection in (client, server):
                self._selector.register(connection, EVENT_READ)

    def _forward(self, ready: socket.socket) -> None:
        try:
            data = ready.recv(65536)
            if data:
                self._others[ready].sendall(data)
                return
        except OSError:
            pass
        self._drop(ready)

    def _drop(self, connection: socket.socket) -> None:
        other = self._others.pop(connection, None)
        if other is None:
            return
        del self._others[other]
        for each in (connection, other):
            with suppress(KeyError):
                self._selector.unregister(each)
            each.close()


def _was_reset(connection: socket.socket) -> bool:
    return connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) != 0
