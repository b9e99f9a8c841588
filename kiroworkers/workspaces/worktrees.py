"""
Checkouts of one repository, one for each session at a time (`git worktree`).
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from attrs import evolve

from kiroworkers.errors import CannotStart
from kiroworkers.process.agent_process import Command
from kiroworkers.workspaces import git_checkout
from kiroworkers.workspaces.state_folder import deserted, remove_tree

#: Twice: also one that was only half made.
_FORGET = ("worktree", "remove", "--force", "--force")


class Worktrees:
    """
    Worktrees of the repository that `folder` belongs to; sessions run in the same
    folder of theirs.

    Blocks while it is made, so that is for before the reactor runs.

    Args:
        environment: the server's own.

    Raises:
        CannotStart: without git, or where nothing can be checked out.
    """

    def __init__(self, folder: Path, environment: Mapping[str, str]) -> None:
        program = shutil.which("git", path=environment.get("PATH", os.defpath))
        if program is None:
            raise CannotStart("kiroworkers: --workdir git-worktree: git is not on PATH")
        self._program = program
        self._folder = str(folder)
        self._home = environment.get("HOME", "")
        self._git = git_checkout.Git(program, self._folder, environment)
        try:
            self._prefix = self._git("rev-parse", "--show-prefix")
            self._git("rev-parse", "--verify", "HEAD^{commit}")
            # Sessions run there, and HEAD must have it.
            self._git("rev-parse", "--verify", f"HEAD:{self._prefix}")
        except (git_checkout.GitFailed, OSError) as problem:
            raise CannotStart(f"kiroworkers: --workdir git-worktree: {folder}: {problem}") from None

    def command(self, path: Path, command: Command) -> Command:
        """
        `command`, so that it first makes the worktree `path` and then runs there.
        """
        arguments = (self._program, self._home, self._folder, str(path), self._prefix)
        return evolve(
            command,
            executable=sys.executable,
            arguments=(
                *("-I", "-S", str(git_checkout.__file__), *arguments),
                *(command.executable, *command.arguments),
            ),
        )

    def folder(self, path: Path) -> Path:
        """
        Where a session of the worktree `path` runs.
        """
        return path / self._prefix

    def removal(self, path: Path) -> Command:
        """
        What makes the repository forget the worktree `path`, whose files are gone.
        """
        program, *arguments = (*self._git.command, *_FORGET, str(path))
        return Command(program, tuple(arguments), self._git.environment, Path(self._folder), None)

    def remove_stale(self, own: Path | None = None) -> None:
        """
        Remove the worktrees of servers that are gone, and those in the folder
        `own` of this one.  Blocks.
        """
        for line in self._git("worktree", "list", "--porcelain").splitlines():
            path = Path(line.removeprefix("worktree "))
            if not line.startswith("worktree ") or path.parent.name != "work":
                continue
            top = path.parent.parent
            if top == own:
                self._remove(path)
            else:
                with deserted(top) as is_deserted:
                    if is_deserted:
                        self._remove(path)

    def _remove(self, path: Path) -> None:
        remove_tree(path)
        with suppress(git_checkout.GitFailed):
            self._git(*_FORGET, str(path))
