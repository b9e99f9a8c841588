"""
Tests that the files in ``deploy/`` are valid, and agree with the server.

The programs that read these files check them where they are installed.
"""

from __future__ import annotations

import configparser
import os
import re
import shlex
import shutil
import subprocess
import sysconfig
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from twisted.trial.unittest import SkipTest, SynchronousTestCase

from kiroworkers.exit_status import CANNOT_START, INVALID_OPTION
from kiroworkers.settings import Settings, options, unknown_variables
from tests.programs import ROOT, folder_outside

DEPLOY = ROOT / "deploy"

#: The greatest exposure that "systemd-analyze security" may find, of 10.
_MAX_EXPOSURE = 4.0

_FLAGS = {option.flag for option in options()}


def text_of(name: str) -> str:
    """
    Return the text of a file in ``deploy/``.
    """
    return (DEPLOY / name).read_text(encoding="utf-8")


def flags_in(command: str) -> set[str]:
    """
    Return the long options in a command line.
    """
    return {word.partition("=")[0] for word in shlex.split(command) if word.startswith("--")}


def run(*command: str, check: bool = True, home: Path | None = None) -> str:
    """
    Run a program and return its output; skip the test if the program is not installed.

    Args:
        command: The program and its arguments.  One that pip has installed comes first.
        check: Whether the program must exit with status 0.
        home: The program's home directory.
    """
    path = [sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath), "/usr/sbin"]
    program = shutil.which(command[0], path=":".join(path))
    if program is None:
        raise SkipTest(f"{command[0]} is not installed")
    variables = {**os.environ, **({} if home is None else {"HOME": str(home)})}
    result = subprocess.run(
        [program, *command[1:]],
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    output = result.stdout + result.stderr
    if check and result.returncode != 0:
        raise AssertionError(f"{command[0]} exited with {result.returncode}: {output}")
    return output


class UnitTests(SynchronousTestCase):
    """
    Tests for ``kiroworkers.service``.
    """

    def setUp(self) -> None:
        self.text = text_of("kiroworkers.service")
        # A unit repeats keys; the last value counts here.
        parser = configparser.RawConfigParser(strict=False, allow_no_value=True)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(self.text)
        self.service = dict(parser["Service"])

    def test_agrees(self) -> None:
        """
        The server has the flags of the unit and its exit statuses, and is given the time that
        it needs to start and to stop.
        """
        settings = Settings()
        self.assertLessEqual(flags_in(self.service["ExecStart"]), _FLAGS)
        statuses = self.service["RestartPreventExitStatus"]
        self.assertEqual(statuses, f"{INVALID_OPTION} {CANNOT_START}")
        self.assertGreaterEqual(
            int(self.service["TimeoutStopSec"]), settings.graceful_timeout + settings.stop_timeout
        )
        self.assertGreater(
            int(self.service["TimeoutStartSec"]),
            settings.startup_timeout + settings.request_timeout,
        )
        self.assertGreater(int(self.service["LimitNOFILE"]), 2 * settings.max_connections)

    def test_verify(self) -> None:
        """
        Systemd finds no fault with the unit, apart from programs that are not installed here.
        """
        unit = folder_outside(self) / "kiroworkers.service"
        unit.write_text(self.text.replace("/opt/kiroworkers/bin/kiroworkers", "/bin/true"))
        output = run("systemd-analyze", "verify", str(unit), check=False)
        # It may find fault with other units of this machine, too.
        faults = [line for line in output.splitlines() if "kiroworkers" in line]
        self.assertEqual(faults, [])
        unit.write_text(self.text.replace("Restart=on-failure", "Restart=perhaps"))
        self.assertIn("perhaps", run("systemd-analyze", "verify", str(unit), check=False))

    def test_security(self) -> None:
        """
        Systemd's own measure of what the service could do stays low.
        """
        unit = str(DEPLOY / "kiroworkers.service")
        systemd = re.match(r"systemd (\d+)", run("systemd-analyze", "--version"))
        if systemd is None or int(systemd[1]) < 250:
            raise SkipTest("systemd-analyze before version 250 has no --offline")
        output = run("systemd-analyze", "security", "--offline=true", unit)
        match = re.search(r"Overall exposure level for \S+: ([\d.]+)", output)
        assert match is not None, output
        self.assertLess(float(match[1]), _MAX_EXPOSURE)

    def test_settings(self) -> None:
        """
        The configuration file next to the unit is valid.
        """
        settings = Settings.read({"config": str(DEPLOY / "kiroworkers.toml")}, {})
        self.assertEqual(settings.workdir, "per-worker")
        self.assertEqual(settings.agent[0].agent, "kiro")


class ContainerTests(SynchronousTestCase):
    """
    Tests for ``Containerfile`` and ``compose.yaml``.
    """

    def test_agrees(self) -> None:
        """
        The server has the flags and the variables of both files, the base image has a version,
        and what the image is built from exists.
        """
        containerfile, compose = text_of("Containerfile"), text_of("compose.yaml")
        [command] = re.findall(r"^CMD \[(.*)\]$", containerfile, re.MULTILINE)
        self.assertLessEqual(flags_in(command.replace(",", " ")), _FLAGS)
        names = set(re.findall(r"\bKIROWORKERS_[A-Z_]+", containerfile + compose))
        self.assertNotEqual(names, set())
        self.assertEqual(list(unknown_variables(names)), [])
        bases = set(re.findall(r"^FROM (\S+)", containerfile, re.MULTILINE))
        self.assertEqual(len(bases), 1)
        self.assertRegex(bases.pop(), r"^python:3\.\d+\.\d+-")
        for line in re.findall(r"^COPY (?!--)(.*) \S+$", containerfile, re.MULTILINE):
            for name in line.split():
                self.assertTrue((ROOT / name).exists(), name)
                self.assertIn(f"!{name}\n", text_of("Containerfile.dockerignore"))

    def test_health_check(self) -> None:
        """
        The health check is a valid program of Python.
        """
        [command] = re.findall(
            r'^    CMD \["python", "-c", "(.*)"\]$', text_of("Containerfile"), re.M
        )
        compile(command, "HEALTHCHECK", "exec")
        self.assertIn("/ready", command)

    def test_lint(self) -> None:
        """
        Hadolint has nothing to say about the Containerfile.
        """
        self.assertEqual(run("hadolint", "--no-color", str(DEPLOY / "Containerfile")), "")

    def test_compose(self) -> None:
        """
        The Compose file follows the specification, and takes privileges away; its stop does
        not come before the end of --graceful-timeout.
        """
        try:
            from compose_spec import PyCompose  # type: ignore[import-not-found,unused-ignore]
        except ImportError:
            raise SkipTest("compose-spec is not installed") from None
        compose = PyCompose.from_yaml(text_of("compose.yaml"))
        compose.validate()
        service = compose.to_dict()["services"]["kiroworkers"]
        self.assertIs(service["read_only"], True)
        self.assertEqual(service["cap_drop"], ["ALL"])
        self.assertEqual(service["security_opt"], ["no-new-privileges:true"])
        self.assertIn("127.0.0.1", str(service["ports"]))
        match = re.search(r"stop_grace_period: (\d+)s", text_of("compose.yaml"))
        assert match is not None
        self.assertGreater(int(match[1]), Settings().graceful_timeout)


class ProxyTests(SynchronousTestCase):
    """
    Tests for the configurations of reverse proxies.
    """

    def prepare(self, name: str, *changes: tuple[str, str]) -> tuple[Path, Path]:
        """
        Return a folder with a certificate, and in it the configuration with `changes`.
        """
        folder = folder_outside(self)
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "kiroworkers.example")])
        now = datetime.now(UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(subject)
            .public_key(key.public_key())
            .serial_number(1)
            .not_valid_before(now)
            .not_valid_after(now + timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        pem = key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        (folder / "all.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM) + pem)
        text = text_of(name)
        for old, new in changes:
            self.assertIn(old, text)
            text = text.replace(old, new.format(folder=folder))
        configuration = folder / name
        configuration.write_text(text)
        return folder, configuration

    def test_timeouts(self) -> None:
        """
        Each proxy waits longer than the server's deadline, closes idle connections before the
        server does, sends nothing twice, and passes parts of an answer on.
        """
        deadline = Settings().request_timeout
        for name, waits, once, streams in [
            ("nginx.conf", "proxy_read_timeout", "proxy_next_upstream off", "proxy_buffering off"),
            ("haproxy.cfg", "timeout server", "retries 0", "does not buffer"),
            ("Caddyfile", "response_header_timeout", "lb_retries 0", "flush_interval -1"),
        ]:
            text = text_of(name)
            match = re.search(rf"{waits} +(\d+)s", text)
            assert match is not None, name
            self.assertGreater(int(match[1]), deadline)
            self.assertIn(" 50s", text)
            self.assertIn(once, text)
            self.assertIn(streams, text)
        # The others close the connection to the server when the client leaves.
        self.assertIn("    option abortonclose\n", text_of("haproxy.cfg"))

    def test_nginx(self) -> None:
        """
        Nginx accepts its configuration.
        """
        folder, configuration = self.prepare(
            "nginx.conf",
            ("listen [::]:443 ssl;", ""),
            # Even a test of the configuration listens.
            ("listen 443", "listen unix:{folder}/socket"),
            ("/etc/ssl/kiroworkers/fullchain.pem", "{folder}/all.pem"),
            ("/etc/ssl/kiroworkers/privkey.pem", "{folder}/all.pem"),
        )
        paths = "".join(
            f"{kind}_temp_path {folder}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        main = folder / "main.conf"
        main.write_text(
            f"pid {folder}/pid; error_log {folder}/log; events {{}}\n"
            f"http {{ access_log off; {paths} include {configuration}; }}\n"
        )
        run("nginx", "-t", "-q", "-c", str(main))

    def test_haproxy(self) -> None:
        """
        HAProxy accepts its configuration.
        """
        _, configuration = self.prepare(
            "haproxy.cfg", ("/etc/haproxy/kiroworkers.pem", "{folder}/all.pem")
        )
        run("haproxy", "-c", "-f", str(configuration))

    def test_caddy(self) -> None:
        """
        Caddy accepts its configuration.
        """
        file = str(DEPLOY / "Caddyfile")
        command = ("caddy", "validate", "--adapter", "caddyfile", "--config", file)
        run(*command, home=folder_outside(self))
