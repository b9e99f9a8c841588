"""
Prepare a new home directory in which an agent is proven, and the environment of its server.

Nothing of the user's own configuration is used: the agent finds a home directory that has only
what its dialect's table ``[model-server]`` writes there, and variables that lead it to the model
server of the proof.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from string import Template

from attrs import evolve, frozen

from kiroworkers.conversations import Dialect
from kiroworkers.conversations.dialects.dialect import ModelServerSettings
from kiroworkers.conversations.dialects.environment import filter_environment
from kiroworkers.proof.case import TASK_NAME, task_source

#: The variables of `filter_environment` that would lead an agent to the user's own files, or
#: to a proxy that cannot reach this machine's loopback address.
_OWN = ("HOME", "XDG_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")

_NO_PROXY = "127.0.0.1,localhost"


@frozen
class Setup:
    """
    Hold where an agent is proven, and with what.

    Attributes:
        root: The temporary folder of the proof.
        home: The agent's home directory; None for the user's own.
        folder: The folder in which sessions run.
        state_dir: The server's --state-dir.
        tasks: The server's --tasks.
        environment: The server's whole environment.
        pass_env: The values of --pass-env that let the agent have its variables.
        answers: The file from which the agent reads its model's answers; None if it asks a
            model server, or its own service.
    """

    root: Path
    home: Path | None
    folder: Path
    state_dir: Path
    tasks: Path
    environment: Mapping[str, str]
    pass_env: tuple[str, ...] = ()
    answers: Path | None = None


def has_answers_file(settings: ModelServerSettings) -> bool:
    """
    Return whether the agent reads its model's answers from a file.
    """
    return any(
        "answers" in Template(text).get_identifiers()
        for text in (*settings.environment.values(), *settings.files.values())
    )


def own_setup(root: Path, inherited: Mapping[str, str]) -> Setup:
    """
    Return the setup of an agent that is proven with its own service and the user's login.

    Args:
        root: An empty folder.
        inherited: The environment of this process.
    """
    environment = {
        name: value for name, value in inherited.items() if not name.startswith("KIROWORKERS_")
    }
    return _new_setup(root, None, environment)


def new_setup(
    root: Path, agent: str, dialect: Dialect, url: str, inherited: Mapping[str, str]
) -> Setup:
    """
    Write the files of the agent's new home, and return the setup.

    Args:
        root: An empty folder.
        agent: The agent's name, as ``/health`` reports it.
        dialect: The dialect, which has `Dialect.model_server`.
        url: The address of the model server.
        inherited: The environment of this process.
    """
    settings = dialect.model_server
    assert settings is not None, "the caller has checked it"
    home, answers = root / "home", root / "answers.json"
    setup = _new_setup(root, home, {})
    variables = write_home(settings, home, setup.folder, url, answers)
    if has_answers_file(settings):
        answers.write_text("[]", encoding="utf-8")
    environment = {
        **_neutral(inherited),
        "HOME": str(home),
        "NO_PROXY": _NO_PROXY,
        "no_proxy": _NO_PROXY,
        **variables,
    }
    return evolve(
        setup,
        environment=environment,
        pass_env=tuple(f"{agent}:{name}" for name in variables),
        answers=answers if has_answers_file(settings) else None,
    )


def write_home(
    settings: ModelServerSettings, home: Path, folder: Path, url: str, answers: Path
) -> dict[str, str]:
    """
    Write the files of an agent's new home directory, and return the variables besides ``HOME``.

    Args:
        settings: What the dialect says.
        home: The directory, which is made.
        folder: The folder in which sessions run.
        url: The address of the model server.
        answers: The file from which the agent may read its model's answers.
    """
    places = {"url": url, "home": home, "folder": folder, "answers": answers}
    home.mkdir()
    for name, text in settings.files.items():
        path = home / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(Template(text).substitute(places), encoding="utf-8")
    return {name: Template(text).substitute(places) for name, text in settings.environment.items()}


def _new_setup(root: Path, home: Path | None, environment: Mapping[str, str]) -> Setup:
    folder, tasks = root / "folder", root / "tasks"
    folder.mkdir()
    tasks.mkdir()
    (tasks / f"{TASK_NAME}.toml").write_text(task_source(), encoding="utf-8")
    return Setup(root, home, folder, root / "state", tasks, environment)


def _neutral(inherited: Mapping[str, str]) -> dict[str, str]:
    """
    Return the variables of this process that an agent may have and that do not configure it.
    """
    return {
        name: value
        for name, value in filter_environment(inherited, ()).items()
        if not name.upper().startswith(_OWN)
    }
