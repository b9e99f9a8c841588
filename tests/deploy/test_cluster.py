"""
Tests for the Compose file of several servers: its schema, and its commands without containers.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
from typing import Any

import treq
from twisted.internet.defer import gatherResults
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kiroworkers.settings import Settings, unknown_variables
from tests import haproxy
from tests import postgres as databases
from tests.programs import ROOT, Program, environment, folder_outside
from tests.servers import ServerTestCase, real

_FOLDER = ROOT / "deploy" / "cluster"

#: What the names in the Compose file become without containers.
_SECRETS, _NETWORK = "/run/secrets/", "172.30.0.0/24"


def compose() -> Any:
    """
    Return the Compose file, which follows the specification; skip the test if that is unknown.
    """
    try:
        import yaml  # type: ignore[import-untyped,unused-ignore]
        from compose_spec import PyCompose  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        raise SkipTest("compose-spec or PyYAML is not installed") from None
    # The checker does not know the merge keys of YAML, which Compose does.
    merged = yaml.safe_load((_FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    PyCompose.from_yaml(yaml.safe_dump(merged)).validate()
    return merged


class FileTests(SynchronousTestCase):
    """
    Tests for the files that the Compose file names.
    """

    def test_agrees(self) -> None:
        """
        The Compose file agrees with the server and with the configuration of HAProxy.
        """
        services = compose()["services"]
        proxy = (_FOLDER / "haproxy.cfg").read_text(encoding="utf-8")
        for name in haproxy.NAMES:
            server = services[f"server-{name}"]
            self.assertEqual(server["networks"]["default"]["aliases"], [f"{name}.example"])
            variables = server["environment"]
            self.assertEqual(list(unknown_variables(variables)), [])
            self.assertEqual(variables["KIROWORKERS_SERVER_NAME"], name)
            line = f"server {name} {name}.example:8080 check maxconn "
            self.assertIn(f"{line}{variables['KIROWORKERS_WORKERS']}\n", proxy)
            settings = Settings(trusted_proxy=(_NETWORK,))
            needed = settings.lame_duck_time + settings.graceful_timeout + settings.stop_timeout
            self.assertGreater(int(server["stop_grace_period"].removesuffix("s")), needed)
            self.assertIs(server["read_only"], True)
            self.assertEqual(server["cap_drop"], ["ALL"])
        self.assertEqual(services["haproxy"]["ports"], ["127.0.0.1:8080:8080"])

    def test_secrets(self) -> None:
        """
        The script writes exactly the secrets that the Compose file names; nobody else on the
        machine can read them, and a second run changes none.
        """
        named = {secret["file"] for secret in compose()["secrets"].values()}
        folder = folder_outside(self)
        script = shutil.copy(_FOLDER / "make-secrets.sh", folder)
        subprocess.run(["sh", script], check=True, timeout=30)
        secrets = folder / "secrets"
        self.assertEqual({f"./secrets/{path.name}" for path in secrets.iterdir()}, named)
        self.assertEqual(stat.S_IMODE(secrets.stat().st_mode), 0o700)
        texts = [path.read_text(encoding="utf-8") for path in sorted(secrets.iterdir())]
        self.assertEqual(len({*texts}), len(named))
        again = subprocess.run(["sh", script], capture_output=True, check=False, timeout=30)
        self.assertEqual(again.returncode, 1)
        self.assertEqual(texts, [path.read_text("utf-8") for path in sorted(secrets.iterdir())])


class ClusterTests(ServerTestCase):
    """
    Run what the Compose file runs, by hand.
    """

    async def test_works(self) -> None:
        """
        Its commands create the role and the tables and start three servers behind HAProxy, which
        know each other, answer requests, those with a key once, and show every job's result.
        """
        for reason in (databases.SKIP, haproxy.SKIP):
            if reason is not None:
                raise SkipTest(reason)
        self.services = compose()["services"]
        for name in ("make-secrets.sh", "create-role.sh"):
            shutil.copy(_FOLDER / name, self.folder)
        subprocess.run(["sh", str(self.folder / "make-secrets.sh")], check=True, timeout=30)
        await deferToThread(self.create_database)
        await self.run_command("tables")
        servers = [self.start_server(name) for name in haproxy.NAMES]
        ports = []
        for server in servers:
            ports.append(int((await server.says(r"listening on .*port=(\d+)"))[1]))
            await server.says("(?:worker[12]: ready[\\s\\S]*){2}")
        proxy = haproxy.HAProxy(self.folder / "haproxy.cfg", ports)
        self.folder.chmod(0o755)
        self.addCleanup(lambda: proxy.ended if proxy.ended.called else proxy.signal("TERM"))
        await proxy.run(real)
        self.base = f"http://127.0.0.1:{proxy.port}"
        token = (self.folder / "secrets" / "tokens").read_text().split()[-1]
        headers = {"Authorization": f"Bearer {token}"}
        _, cluster = await self.fetch("GET", "/cluster", headers=headers)
        self.assertEqual({server["name"] for server in cluster["servers"]}, {*haproxy.NAMES})
        asking = [self.story(f"Print {number} labels", headers=headers) for number in range(6)]
        self.assertEqual({response.code for response, _ in await gatherResults(asking)}, {200})
        # Each server knows the key, whichever has answered first.
        once = {**headers, "Idempotency-Key": "once"}
        replies = [await self.story("Print once", headers=once) for _ in range(4)]
        replayed = [reply.headers.hasHeader("idempotency-replayed") for reply, _ in replies]
        self.assertEqual(replayed, [False, True, True, True])
        self.assertEqual({body["title"] for _, body in replies}, {replies[0][1]["title"]})
        for number in range(3):
            key = {"Prefer": "respond-async", "Idempotency-Key": f"job{number}"}
            response, job = await self.story(f"Job {number}", headers={**headers, **key})
            self.assertEqual(response.code, 202, job)
            path = f"{job['location']}/events"
            events = await self.text(path, headers)
            self.assertIn("event: answer", events)
            states = [await self.fetch("GET", job["location"], headers=headers) for _ in range(3)]
            self.assertEqual({body["state"] for _, body in states}, {"done"})
        for server in servers:
            server.signal("TERM")
        self.assertEqual(await gatherResults([server.ended for server in servers]), [0, 0, 0])

    def by_hand(self, text: str) -> str:
        """
        Return a text of the Compose file with what it is without containers.
        """
        text = text.replace(_SECRETS, f"{self.folder}/secrets/").replace(_NETWORK, "127.0.0.1")
        return re.sub(r"\$\{\w+:-(\w*)\}", r"\1", text).replace("0.0.0.0", "127.0.0.1")

    def create_database(self) -> None:
        """
        Do what the image of PostgreSQL does with the variables and the script.
        """
        server = databases.postgres()
        variables = {
            name: str(value) for name, value in self.services["postgres"]["environment"].items()
        }
        owner, name = variables["POSTGRES_USER"], variables["POSTGRES_DB"]
        self.addCleanup(server.execute, f"DROP ROLE {owner}")
        self.addCleanup(server.execute, "DROP ROLE kiroworkers")
        self.addCleanup(server.execute, f"DROP DATABASE {name} WITH (FORCE)")
        server.execute(f"CREATE ROLE {owner} SUPERUSER LOGIN")
        server.execute(f"CREATE DATABASE {name} OWNER {owner}")
        script = self.folder / "create-role.sh"
        script.write_text(self.by_hand(script.read_text(encoding="utf-8")), encoding="utf-8")
        path = f"{os.environ['KIROWORKERS_POSTGRES']}:{os.environ['PATH']}"
        places = {"PGHOST": "127.0.0.1", "PGPORT": str(server.port), "PATH": path}
        subprocess.run(["sh", str(script)], env={**variables, **places}, check=True, timeout=30)
        for file in ("database", "database-owner"):
            secret = self.folder / "secrets" / file
            address = secret.read_text().replace("@postgres/", f"@127.0.0.1:{server.port}/")
            secret.write_text(address)

    async def run_command(self, service: str) -> None:
        """
        Run the command of a service until it ends.
        """
        program = Program()
        command = shlex.split(self.by_hand(self.services[service]["command"]))
        program.start(real, ["-m", "kiroworkers", *command], environment(), self.folder)
        self.assertEqual(await program.ended, 0, program.output)

    def start_server(self, name: str) -> Program:
        """
        Start the server `name`, on an unused port.
        """
        service = self.services[f"server-{name}"]
        variables = {
            variable: self.by_hand(str(value)) for variable, value in service["environment"].items()
        }
        _, *options = shlex.split(self.by_hand(service["command"]))
        server = self.run_twistd(*options, "--port", "0", background=False, **variables)
        self.addCleanup(lambda: server.ended if server.ended.called else server.signal("KILL"))
        return server

    async def text(self, path: str, headers: dict[str, str]) -> str:
        """
        Return the body of a response that is not JSON.
        """
        given: Any = headers
        response = await treq.get(self.base + path, headers=given, persistent=False)
        content: str = await response.text()
        return content
