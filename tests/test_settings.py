"""
Tests for `kiroworkers.settings`.
"""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import kiroworkers
from kiroworkers.errors import InvalidSetting
from kiroworkers.option_types import AgentCount
from kiroworkers.settings import Settings, options, unknown_variables


class ReadTests(SynchronousTestCase):
    """
    Tests for `Settings.read`.
    """

    def test_defaults(self) -> None:
        """
        Without flags and variables, two workers serve port 8080 on loopback.
        """
        settings = Settings.read({}, {})
        self.assertEqual(settings.workers, 2)
        self.assertEqual(settings.endpoint, "tcp:8080:interface=127.0.0.1:backlog=1000")

    def test_order(self) -> None:
        """
        A flag takes precedence over KIROWORKERS_PORT, and that over PORT.
        """
        short = {"PORT": "1"}
        both = {**short, "KIROWORKERS_PORT": "2"}
        self.assertEqual(Settings.read({}, short).port, 1)
        self.assertEqual(Settings.read({}, both).port, 2)
        self.assertEqual(Settings.read({"port": "3"}, both).port, 3)

    def test_units(self) -> None:
        """
        Durations take s, m and h; sizes take k, m and g.
        """
        flags = {"idle-timeout": "5m", "restart-delay": "0.5", "max-body": "2MiB"}
        settings = Settings.read(flags, {})
        self.assertEqual(settings.idle_timeout, 300)
        self.assertEqual(settings.restart_delay, 0.5)
        self.assertEqual(settings.max_body, 2 * 1024 * 1024)

    def test_folder(self) -> None:
        """
        REPO_PATH is a folder that exists.
        """
        here = str(Path(__file__).parent)
        self.assertEqual(Settings.read({}, {"REPO_PATH": here}).repo_path, Path(here))
        with self.assertRaises(InvalidSetting) as raised:
            Settings.read({}, {"REPO_PATH": here + "/nowhere"})
        self.assertEqual(raised.exception.name, "REPO_PATH")

    def test_ipv6(self) -> None:
        """
        An IPv6 address makes an IPv6 endpoint.
        """
        settings = Settings.read({"interface": "::1"}, {})
        self.assertEqual(settings.endpoint, r"tcp6:8080:interface=\:\:1:backlog=1000")

    def test_errors_name_the_flag(self) -> None:
        """
        The error for an invalid value names its flag and gives the reason.
        """
        for flag, value, reason in [
            ("workers", "0", "at least 1"),
            ("workers", "two", "whole number"),
            ("port", "70000", "at most 65535"),
            ("queue-timeout", "-1", "seconds"),
            ("queue-timeout", "0", "more than 0"),
            ("max-body", "0", "bytes"),
            ("max-body", "lots", "bytes"),
            ("interface", "localhost", "IP address"),
            ("insecure", "perhaps", "yes or no"),
            ("cors-origin", "example.org", "origins"),
            ("allow-host", "https://a.example", "names or addresses"),
            ("allow-host", "*", "names or addresses"),
            ("allow-host", "a b", "names or addresses"),
            ("rate", "-1", "at least 0"),
            ("rate-burst", "0", "at least 1"),
            ("max-connections", "0", "at least 1"),
            ("max-workers", "1", "below --workers, 2"),
            ("agent", "", "must name an agent"),
            ("agent", "q,=2", "=2: must name an agent"),
            ("agent", "kiro,q=0", "q=0: the number of workers must be at least 1"),
            ("agent", "q=two", "q=two: the number of workers must be a whole number"),
            ("agent", "q=", "q=: the number of workers must be a whole number"),
            ("agent", "q=513", "at most 512"),
            ("max-spare", "0", "below --min-spare"),
            ("reset", "sometimes", "clear, recycle or none"),
            ("tools", "maybe", "deny, ask or allow"),
            ("model", "two words", "one word"),
            ("effort", "ä", "one word"),
            ("models", "a,b c", "names or patterns"),
            ("pass-env", "A,B C", "names or patterns"),
            ("pass-env", "Kiro:TOKEN", "names or patterns"),
            ("pass-env", "kiro:KIROWORKERS_TOKEN_FILE", "server's own"),
            ("workdir", "tmp", "shared, per-worker or git-worktree"),
            ("state-dir", "/no/such/folder", "parent folder does not exist"),
            ("state-dir", __file__, "not a folder"),
            ("token-file", "/no/such/file", "not a file"),
            ("max-jobs", "-1", "at least 0"),
            ("max-job-bytes", "0", "bytes"),
            ("max-job-bytes-per-client", "much", "bytes"),
            ("job-ttl", "0", "more than 0"),
            ("callback-secret-file", "/no/such/file", "not a file"),
            ("callback-hosts", "https://a.example/", "hosts or patterns"),
        ]:
            with self.assertRaises(InvalidSetting) as raised:
                Settings.read({flag: value}, {})
            self.assertEqual(raised.exception.name, f"--{flag}")
            self.assertIn(reason, str(raised.exception))

    def test_errors_name_the_variable(self) -> None:
        """
        The error for an invalid value from the environment names the variable.
        """
        with self.assertRaises(InvalidSetting) as raised:
            Settings.read({}, {"KIROWORKERS_BACKLOG": "-1"})
        self.assertTrue(str(raised.exception).startswith("KIROWORKERS_BACKLOG: '-1':"))

    def test_agents(self) -> None:
        """
        Agents are a list, each with its own number of workers or that of --workers; the
        name of a dialect file may contain an equals sign.
        """
        settings = Settings.read({"workers": "3"}, {"KIROWORKERS_AGENT": "kiro=1, q,./a=2.toml=4"})
        expected = (
            AgentCount("kiro", 1),
            AgentCount("q"),
            AgentCount(str(Path("a=2.toml").absolute()), 4),
        )
        self.assertEqual(settings.agent, expected)
        self.assertEqual([settings.workers_of(agent) for agent in settings.agent], [1, 3, 4])
        named = Settings.read({"agent": "a=2.toml"}, {}).agent
        self.assertEqual(named, (AgentCount(expected[2].agent),))

    def test_most_workers(self) -> None:
        """
        No agent may have more workers than --max-workers; --workers counts only
        where an agent uses it.
        """
        for agent, workers, reason in [
            ("kiro,q=3", "1", "below --agent q=3"),
            ("kiro=1,q", "4", "below --workers, 4"),
        ]:
            with self.assertRaises(InvalidSetting) as raised:
                Settings.read({"agent": agent, "workers": workers, "max-workers": "2"}, {})
            self.assertIn(reason, str(raised.exception))
        flags = {"agent": "kiro=1,q=2", "workers": "4", "max-workers": "2"}
        self.assertEqual(Settings.read(flags, {}).max_workers, 2)

    def test_tools(self) -> None:
        """
        Tools are denied by default; --allow-tools is another name for --tools allow.
        """
        for flags, environ, policy in [
            ({}, {}, "deny"),
            ({"tools": "ask"}, {}, "ask"),
            ({"tools": "allow"}, {}, "allow"),
            ({"allow-tools": "yes"}, {}, "allow"),
            ({"allow-tools": "yes", "tools": "allow"}, {}, "allow"),
            ({"allow-tools": "no", "tools": "ask"}, {}, "ask"),
            ({}, {"KIROWORKERS_TOOLS": "ask"}, "ask"),
            ({"tools": "deny"}, {"KIROWORKERS_TOOLS": "allow"}, "deny"),
            ({}, {"KIROWORKERS_ALLOW_TOOLS": "1"}, "allow"),
        ]:
            self.assertEqual(Settings.read(flags, environ).tool_policy, policy, (flags, environ))

    def test_contradicting_tools(self) -> None:
        """
        A policy that is not allow and --allow-tools contradict each other, wherever they are
        given: the stricter one must not be lost.
        """
        for flags, environ in [
            ({"tools": "ask", "allow-tools": "yes"}, {}),
            ({"tools": "deny", "allow-tools": "yes"}, {}),
            ({"tools": "deny"}, {"KIROWORKERS_ALLOW_TOOLS": "yes"}),
            ({"allow-tools": "yes"}, {"KIROWORKERS_TOOLS": "deny"}),
        ]:
            with self.assertRaises(InvalidSetting) as raised:
                Settings.read(flags, environ)
            self.assertEqual(raised.exception.name, "--tools")
            self.assertIn("contradicts --allow-tools", str(raised.exception))

    def test_models(self) -> None:
        """
        Models are a list of names and patterns; without it, clients may choose none.
        """
        self.assertEqual(Settings.read({}, {}).models, ())
        settings = Settings.read(
            {"models": "claude-sonnet-4.5, gpt-*,anthropic/claude-haiku", "model": "auto"},
            {"KIROWORKERS_EFFORT": "high"},
        )
        self.assertEqual(settings.models, ("claude-sonnet-4.5", "gpt-*", "anthropic/claude-haiku"))
        self.assertEqual((settings.model, settings.effort), ("auto", "high"))

    def test_variables(self) -> None:
        """
        Variables are a list of names and patterns, for all agents or for one.
        """
        listed = Settings.read({"pass-env": "GITHUB_TOKEN, kiro:NPM_*"}, {})
        self.assertEqual(listed.pass_env, ("GITHUB_TOKEN", "kiro:NPM_*"))

    def test_hosts(self) -> None:
        """
        The names and addresses of --allow-host are a list, without ports and in lower
        case.
        """
        listed = Settings.read(
            {"allow-host": "Kiro.Example.:8080, 10.0.0.5:1, ::1,[FE80::1]:80"}, {}
        )
        self.assertEqual(listed.allow_host, ("kiro.example", "10.0.0.5", "::1", "fe80::1"))

    def test_trusted_proxies(self) -> None:
        """
        Proxies are addresses, networks and the word unix.
        """
        listed = Settings.read({"trusted-proxy": "127.0.0.1, 10.0.0.0/8,2001:DB8::/32,unix"}, {})
        expected = ("127.0.0.1/32", "10.0.0.0/8", "2001:db8::/32", "unix")
        self.assertEqual(listed.trusted_proxy, expected)
        for text in ("proxy.example", "10.0.0.1/8", "127.0.0.1:80", "*"):
            with self.assertRaises(InvalidSetting):
                Settings.read({"trusted-proxy": text}, {})

    def test_origins(self) -> None:
        """
        Origins are a list, or the word none.
        """
        listed = Settings.read({"cors-origin": "https://a.example, https://b.example:1"}, {})
        self.assertEqual(listed.cors_origin, ("https://a.example", "https://b.example:1"))
        self.assertEqual(Settings.read({"cors-origin": "none"}, {}).cors_origin, ())
        self.assertEqual(Settings.read({}, {}).cors_origin, ())


class EnvironmentTests(SynchronousTestCase):
    """
    Tests for which modules read the environment.
    """

    def test_only_settings(self) -> None:
        """
        In the server's process, only `kiroworkers.settings` reads the environment.
        """
        root = Path(kiroworkers.__file__).parent
        readers = {
            path.relative_to(root)
            for path in root.rglob("*.py")
            if "os.environ" in path.read_text(encoding="utf-8")
        }
        other_processes = {Path("process/supervisor.py"), Path("workspaces/git_checkout.py")}
        others = {path for path in readers if path.parts[0] not in ("cli", "offline")}
        self.assertEqual(others - other_processes, {Path("settings.py")})

    def test_unknown_variables(self) -> None:
        """
        Variables that look like the server's are reported, with the nearest name.
        """
        names = (
            "KIROWORKERS_WROKERS",
            "KIROWORKERS_WORKERS",
            "KIROWORKERS_OFFLINE_DELAY",
            "KIROWORKERS_URL",
            "KIROWORKERS_QXZ",
            "WROKERS",
        )
        self.assertEqual(
            list(unknown_variables(names)),
            [("KIROWORKERS_QXZ", None), ("KIROWORKERS_WROKERS", "KIROWORKERS_WORKERS")],
        )


class OptionTests(SynchronousTestCase):
    """
    Tests for the table of options.
    """

    def test_default_texts(self) -> None:
        """
        The text that is shown for a default is a valid value and means that default.
        """
        default = Settings()
        for option in options():
            if option.default_text and option.name != "repo_path":
                self.assertEqual(
                    option.read(option.default_text), getattr(default, option.name), option.name
                )

    def test_readme_lists_every_option(self) -> None:
        """
        README.rst lists every flag with its default and help text.
        """
        readme = Path(__file__).parents[1] / "README.rst"
        text = " ".join(readme.read_text(encoding="utf-8").split())
        for option in options():
            row = f"``{option.flag}`` - {option.default_text or '-'} - {option.help_text}"
            self.assertTrue(" ".join(row.split()) in text, row)

    def test_limits(self) -> None:
        """
        The table of limits in docs/security.rst has options that exist, with their defaults.
        """
        page = Path(__file__).parents[1] / "docs" / "security.rst"
        text = page.read_text(encoding="utf-8")
        rows = re.findall(r"^     - ``(--.+)``\n     - (.+)$", text, re.M)
        defaults = {option.flag: option.default_text for option in options()}
        self.assertIn(("--max-body", "1MiB"), rows)
        self.assertEqual(rows, [(flag, defaults[flag]) for flag, _ in rows])
