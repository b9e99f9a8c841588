"""
Tests for `kiroworkers.proof.setup`.
"""

from __future__ import annotations

from pathlib import Path

from attrs import evolve
from twisted.trial.unittest import SynchronousTestCase

from kiroworkers.conversations import load_dialect
from kiroworkers.conversations.dialects.dialect import ModelServerSettings
from kiroworkers.proof.setup import new_setup, own_setup

INHERITED = {
    "PATH": "/bin",
    "LANG": "C.UTF-8",
    "HOME": "/home/user",
    "XDG_CONFIG_HOME": "/home/user/.config",
    "https_proxy": "http://proxy:3128",
    "OPENAI_API_KEY": "secret",
    "KIROWORKERS_TOOLS": "allow",
    "KIROWORKERS_OFFLINE_DELAY": "1",
}


class SetupTests(SynchronousTestCase):
    """
    Tests for `new_setup` and `own_setup`.
    """

    def setUp(self) -> None:
        self.root = Path(self.mktemp()).resolve()
        self.root.mkdir()

    def test_new(self) -> None:
        """
        The home has the dialect's files, and the environment its variables and none that
        configures the user's own agent, the server or a proxy.
        """
        settings = ModelServerSettings(
            {"LLM_URL": "$url/v1", "LLM_CWD": "$folder", "PRICE": "$$1"},
            {".config/llm/settings.json": '{"home": "$home"}'},
        )
        dialect = evolve(load_dialect("llm"), model_server=settings)
        setup = new_setup(self.root, "llm", dialect, "http://127.0.0.1:1", INHERITED)
        home = self.root / "home"
        self.assertEqual(
            setup.environment,
            {
                "PATH": "/bin",
                "LANG": "C.UTF-8",
                "HOME": str(home),
                "NO_PROXY": "127.0.0.1,localhost",
                "no_proxy": "127.0.0.1,localhost",
                "LLM_URL": "http://127.0.0.1:1/v1",
                "LLM_CWD": str(setup.folder),
                "PRICE": "$1",
            },
        )
        self.assertEqual((home / ".config/llm/settings.json").read_text(), f'{{"home": "{home}"}}')
        self.assertEqual(setup.pass_env, ("llm:LLM_URL", "llm:LLM_CWD", "llm:PRICE"))
        self.assertIsNone(setup.answers)
        self.assertTrue(setup.folder.is_dir())
        self.assertTrue((setup.tasks / "copy-text.toml").is_file())

    def test_answers(self) -> None:
        """
        An agent that reads its model's answers from a file gets the path of one.
        """
        dialect = load_dialect("kiro-classic")
        setup = new_setup(self.root, "kiro", dialect, "", INHERITED)
        self.assertEqual(setup.answers, self.root / "answers.json")
        self.assertIn(str(setup.answers), setup.environment.values())

    def test_own(self) -> None:
        """
        With the agent's own service the environment is the user's, without the server's options.
        """
        setup = own_setup(self.root, INHERITED)
        self.assertIsNone(setup.home)
        self.assertEqual(setup.environment["HOME"], "/home/user")
        self.assertEqual(setup.environment["OPENAI_API_KEY"], "secret")
        self.assertNotIn("KIROWORKERS_TOOLS", setup.environment)
