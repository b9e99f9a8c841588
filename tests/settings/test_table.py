"""
Tests for `kiroworkers.settings`.
"""

from __future__ import annotations

import re
import runpy
from itertools import groupby
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import kiroworkers
from kiroworkers.errors import InvalidSetting
from kiroworkers.settings import (
    GROUPS,
    EffectiveSettings,
    Settings,
    options,
    unknown_variables,
)
from kiroworkers.settings.option_types import AgentCount
from tests.programs import ROOT


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
            ("token-file", "/no/such/file", "does not exist"),
            ("token-file", "/tmp", "is not a file"),
            ("repo-path", "/no/such/folder", "does not exist"),
            ("repo-path", __file__, "is not a folder"),
            ("token-file", f"{__file__}/x", "cannot be used: Not a directory"),
            ("max-jobs", "-1", "at least 0"),
            ("max-job-bytes", "0", "bytes"),
            ("max-job-bytes-per-client", "much", "bytes"),
            ("job-ttl", "0", "more than 0"),
            ("callback-secret-file", "/no/such/file", "does not exist"),
            ("callback-hosts", "https://a.example/", "hosts or patterns"),
        ]:
            with self.assertRaises(InvalidSetting) as raised:
                Settings.read({flag: value}, {})
            self.assertEqual(raised.exception.name, f"--{flag}")
            self.assertIn(reason, str(raised.exception))

    def test_quoted_values(self) -> None:
        """
        The error quotes a value with spaces or control characters, and cuts a long one.
        """
        for value, shown in [
            ("two words", "'two words'"),
            ("", "''"),
            ("\x1b[31m", r"'\x1b[31m'"),
            ("ä" * 300, "ä" * 200 + "…"),
        ]:
            with self.assertRaises(InvalidSetting) as raised:
                Settings.read({"port": value}, {})
            self.assertEqual(str(raised.exception), f"--port {shown}: must be a whole number")

    def test_paths(self) -> None:
        """
        A path of a user who does not exist, a path that is too long and one below a file are
        errors like any other.
        """
        for flag in ("repo-path", "token-file", "state-dir"):
            for path in ("~no-such-user/x/y", "/" + "x" * 5000 + "/y", f"{__file__}/x/y"):
                with self.assertRaises(InvalidSetting) as raised:
                    Settings.read({flag: path}, {})
                self.assertEqual(raised.exception.name, f"--{flag}")

    def test_errors_name_the_variable(self) -> None:
        """
        The error for an invalid value from the environment names the variable.
        """
        with self.assertRaises(InvalidSetting) as raised:
            Settings.read({}, {"KIROWORKERS_BACKLOG": "-1"})
        self.assertEqual(
            str(raised.exception),
            "KIROWORKERS_BACKLOG=-1: must be at least 0 and at most 1000000",
        )

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


class ConfigTests(SynchronousTestCase):
    """
    Tests for settings from a configuration file; `tests.settings.test_config_file` has those for
    what such a file may contain.
    """

    def write(self, text: str) -> str:
        """
        Write a configuration file and return its path.
        """
        path = Path(self.mktemp()).absolute()
        path.write_text(text)
        return str(path)

    def test_precedence(self) -> None:
        """
        A flag takes precedence over a variable, a variable over the file, and the file over
        the default.
        """
        config = self.write("[pool]\nworkers = 4\n")
        flags: dict[str, str | None] = {"config": config}
        for more_flags, environ, workers, origin in [
            ({}, {}, 4, f"{config} line 2"),
            ({}, {"KIROWORKERS_WORKERS": "5"}, 5, "environment variable KIROWORKERS_WORKERS"),
            ({"workers": "6"}, {"KIROWORKERS_WORKERS": "5"}, 6, "flag --workers"),
        ]:
            effective = EffectiveSettings.read({**flags, **more_flags}, environ)
            self.assertEqual(effective.settings.workers, workers)
            self.assertEqual(effective.given["workers"].origin, origin)
            self.assertEqual({*effective.given}, {"config", "workers"})

    def test_variable(self) -> None:
        """
        KIROWORKERS_CONFIG names the file as well; PORT takes precedence over it.
        """
        environ = {"KIROWORKERS_CONFIG": self.write("[server]\nport = 4\n[pool]\nworkers = 3\n")}
        settings = Settings.read({}, {**environ, "PORT": "5"})
        self.assertEqual((settings.port, settings.workers), (5, 3))
        self.assertEqual(str(settings.config), environ["KIROWORKERS_CONFIG"])

    def test_task_defaults(self) -> None:
        """
        The default values for the fields of tasks are kept as they are in the file.
        """
        config = self.write('[tasks.generate-story]\ncomponents = ["Web"]\n')
        settings = Settings.read({"config": config}, {})
        self.assertEqual(settings.task_defaults, {"generate-story": {"components": ["Web"]}})
        self.assertEqual(Settings.read({}, {}).task_defaults, {})

    def test_errors(self) -> None:
        """
        An error in the file is one of the flag or the variable that names it.
        """
        config = self.write("[pool]\nworkers = 0\n")
        reason = "line 2: [pool] workers = 0: must be at least 1 and at most 512"
        for flags, environ, name in [
            ({"config": config}, {}, "--config "),
            ({}, {"KIROWORKERS_CONFIG": config}, "KIROWORKERS_CONFIG="),
        ]:
            with self.assertRaises(InvalidSetting) as raised:
                Settings.read(flags, environ)
            self.assertEqual(str(raised.exception), f"{name}{config}: {reason}")

    def test_overridden_errors(self) -> None:
        """
        An invalid value in the file is an error even if a flag takes precedence over it.
        """
        config = self.write("[pool]\nworkers = 0\n")
        with self.assertRaises(InvalidSetting):
            Settings.read({"config": config, "workers": "1"}, {})

    def test_unreadable(self) -> None:
        """
        A file that does not exist, or is a folder, is an error of the flag.
        """
        for path, reason in [("/no/such/file", "does not exist"), ("/tmp", "is not a file")]:
            with self.assertRaises(InvalidSetting) as raised:
                Settings.read({"config": path}, {})
            self.assertEqual(str(raised.exception), f"--config {path}: {reason}")

    def test_contradictions(self) -> None:
        """
        Settings that contradict each other name the flag, and say where its value is set if
        that is elsewhere.
        """
        config = self.write("[pool]\nmax-workers = 1\n[tools]\ntools = 'ask'\n")
        with self.assertRaises(InvalidSetting) as raised:
            Settings.read({"config": config}, {})
        self.assertEqual(
            str(raised.exception),
            f"--max-workers 1: is below --workers, 2 (--max-workers is set by {config} line 2)",
        )
        with self.assertRaises(InvalidSetting) as raised:
            Settings.read({"config": config, "allow-tools": "yes"}, {})
        self.assertEqual(
            str(raised.exception),
            f"--tools ask: contradicts --allow-tools (--tools is set by {config} line 4)",
        )
        config = self.write("[tools]\nallow-tools = true\n")
        with self.assertRaises(InvalidSetting) as raised:
            Settings.read({"config": config, "tools": "deny"}, {})
        self.assertEqual(
            str(raised.exception),
            f"--tools deny: contradicts --allow-tools (--allow-tools is set by {config} line 2)",
        )
        with self.assertRaises(InvalidSetting) as raised:
            Settings.read({"max-workers": "1"}, {})
        self.assertEqual(str(raised.exception), "--max-workers 1: is below --workers, 2")

    def test_off(self) -> None:
        """
        A flag turns off what the file turns on.
        """
        config = self.write("[tools]\nallow-tools = true\n")
        self.assertEqual(Settings.read({"config": config}, {}).tool_policy, "allow")
        off: dict[str, str | None] = {"config": config, "allow-tools": "no"}
        effective = EffectiveSettings.read(off, {})
        self.assertEqual(effective.settings.tool_policy, "deny")
        self.assertEqual(effective.given["allow_tools"].origin, "flag --no-allow-tools")

    def test_off_in_vain(self) -> None:
        """
        The flag --no-allow-tools contradicts --tools allow, wherever that is given; the same in
        one file is what ``kiroworkers config show`` prints.
        """
        with self.assertRaises(InvalidSetting) as raised:
            Settings.read({"allow-tools": "no"}, {"KIROWORKERS_TOOLS": "allow"})
        self.assertEqual(
            str(raised.exception),
            "--tools allow: contradicts --no-allow-tools (--tools is set by environment variable "
            "KIROWORKERS_TOOLS)",
        )
        config = self.write("[tools]\ntools = 'allow'\nallow-tools = false\n")
        self.assertEqual(Settings.read({"config": config}, {}).tool_policy, "allow")


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
        other_processes = {
            Path("process/supervisor.py"),
            Path("web/dashboard/xterm.py"),
            Path("workspaces/git_checkout.py"),
        }
        others = {path for path in readers if path.parts[0] not in ("cli", "offline")}
        self.assertEqual(others - other_processes, {Path("settings/table.py")})

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

    def test_known_variables(self) -> None:
        """
        A server does not warn of the variables that the commands, the clients, the offline agent
        and the tests read.
        """
        read = re.compile(
            r"""(?:os\.environ|environment\(\))(?:\.get\(|\[)["'](KIROWORKERS_[A-Z_]+)"""
            r"""|["'](KIROWORKERS_[A-Z_]+)["'] in os\.environ"""
        )
        folders = ("kiroworkers", "clients", "tests", "bench", "docs")
        paths = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
        names = {
            name
            for path in [*paths, ROOT / "noxfile.py"]
            for pair in read.findall(path.read_text(encoding="utf-8"))
            for name in pair
            if name
        }
        self.assertIn("KIROWORKERS_URL", names)
        self.assertIn("KIROWORKERS_LONG", names)
        self.assertEqual([*unknown_variables(names)], [])


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

    def test_groups(self) -> None:
        """
        Each option is in a group that is shown, and those of a group follow each other.
        """
        groups = [group for group, _ in groupby(option.group for option in options())]
        self.assertEqual(groups, [*GROUPS])

    def test_page(self) -> None:
        """
        docs/settings.rst is what docs/settings.py makes of the options:
        ``python docs/settings.py > docs/settings.rst``.
        """
        docs = ROOT / "docs"
        page = runpy.run_path(str(docs / "settings.py"))["page"]()
        self.assertEqual((docs / "settings.rst").read_text(encoding="utf-8"), page)

    def test_summaries(self) -> None:
        """
        The summary of an option is its first sentence, and short enough for --help.
        """
        by_name = {option.name: option for option in options()}
        summary = "Folder of task files (.toml)"
        self.assertEqual(by_name["tasks"].summary, summary)
        for option in options():
            self.assertTrue(option.help_text.startswith(f"{option.summary}."), option.name)
            self.assertLessEqual(len(option.summary), 60, option.name)

    def test_limits(self) -> None:
        """
        The table of limits in docs/security.rst has options that exist, with their defaults.
        """
        page = ROOT / "docs" / "security.rst"
        text = page.read_text(encoding="utf-8")
        rows = re.findall(r"^     - ``(--.+)``\n     - (.+)$", text, re.M)
        defaults = {option.flag: option.default_text for option in options()}
        self.assertIn(("--max-body", "1MiB"), rows)
        self.assertEqual(rows, [(flag, defaults[flag]) for flag, _ in rows])
