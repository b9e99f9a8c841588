"""
Tests for the folders that built-in dialects give to each session.
"""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import load_dialect
from kiroworkers.process.agent_process import Command
from kiroworkers.workspaces.workspaces import Workdir, Workspaces

#: For each dialect, the variable of its folder, the user's folder, and files in it: settings,
#: logins, and what the agent writes for later sessions.
_HOMES = {
    "codex": (
        "CODEX_HOME",
        ".codex",
        ("config.toml", "AGENTS.md"),
        ("auth.json",),
        ("history.jsonl", "sessions/2026/rollout.jsonl", "memories/summary.md", "state_5.sqlite"),
    ),
    "gemini": (
        "GEMINI_CLI_HOME",
        ".",
        (".gemini/settings.json", ".gemini/.env"),
        (".gemini/oauth_creds.json", ".gemini/gemini-credentials.json"),
        (".gemini/tmp/work/chats/session.jsonl", ".gemini/tmp/work/logs.json"),
    ),
}
_HOMES["gemini-acp"] = _HOMES["gemini"]


class AgentHomeTests(SynchronousTestCase):
    """
    Tests for the folders of agents that keep prompts, settings and logins in one place.
    """

    def test_homes(self) -> None:
        """
        A session starts with a copy of the user's settings, renews the user's own login, and
        finds nothing that an earlier session has written.
        """
        for name, (variable, default, settings, logins, written) in _HOMES.items():
            home = Path(self.mktemp())
            for file in (*settings, *logins, *written):
                path = home / default / file
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(f"the user's {file}")
            folder = self.prepare(name, variable, home)
            for file in (*settings, *logins):
                (folder / file).write_text("changed")
            found = {str(path.relative_to(folder)) for path in folder.rglob("*.*")}
            self.assertEqual(found - {".gemini"}, {*settings, *logins})
            changed = {
                file for file in settings if (home / default / file).read_text() == "changed"
            }
            self.assertEqual(changed, set())
            for file in logins:
                self.assertEqual((home / default / file).read_text(), "changed")

    def prepare(self, name: str, variable: str, home: Path) -> Path:
        """
        Return the folder of a session of the agent `name`, whose user has the home `home`.
        """

        def run(command: Command) -> Deferred[tuple[bytes, bytes, int]]:
            return succeed((b"", b"", 0))

        workspaces = Workspaces(run, Workdir.SHARED)
        workspaces.open(Path(self.mktemp()))
        command = Command("/bin/true", (), {"HOME": str(home)}, Path("/"), None)
        started: list[Command] = []
        workspace = workspaces.allocate("worker1", command, load_dialect(name).state_dirs)
        workspace.prepare(started.append)
        return Path(started[0].environment[variable])
