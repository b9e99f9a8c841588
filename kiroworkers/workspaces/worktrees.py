"""
Give each session a checkout of one repository (`git worktree`).
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
from kiroworkers.workspaces.state_folder import lock_if_abandoned, remove_tree

#: Git's arguments to remove a worktree.  Twice --force: even if it was created only in part.
_REMOVE = ("worktree", "remove", "--force", "--force")


class Worktrees:
    """
    Create and remove worktrees of a repository.

    The constructor blocks, so call it before the reactor runs.

    Args:
        folder: A directory of the repository.  Sessions run in the corresponding directory
            of their worktree.
        environment: The server's own environment.

    Raises:
        CannotStart: If git is not installed, or if the directory cannot be checked out.
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
            # HEAD must contain the directory that sessions run in.
            self._git("rev-parse", "--verify", f"HEAD:{self._prefix}")
        except (git_checkout.GitFailed, OSError) as error:
            raise CannotStart(f"kiroworkers: --workdir git-worktree: {folder}: {error}") from None

    def checkout_command(self, path: Path, command: Command) -> Command:
        """
        Return a command that checks out the worktree `path` and then runs `command` there.
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

    def working_folder(self, path: Path) -> Path:
        """
        Return the directory in the worktree `path` where its session runs.
        """
        return path / self._prefix

    def removal_command(self, path: Path) -> Command:
        """
        Return a command that removes the record of the worktree `path`, whose files are gone.
        """
        program, *arguments = (*self._git.command, *_REMOVE, str(path))
        return Command(program, tuple(arguments), self._git.environment, Path(self._folder), None)

    def remove_stale(self, state_dir: Path | None = None) -> None:
        """
        Remove the worktrees of servers that are gone.  Blocks.

        Args:
            state_dir: This server's state directory, whose worktrees are removed as well.
        """
        for line in self._git("worktree", "list", "--porcelain").splitlines():
            path = Path(line.removeprefix("worktree "))
            if not line.startswith("worktree ") or path.parent.name != "work":
                continue
            owner = path.parent.parent
            if owner == state_dir:
                self._remove(path)
            else:
                with lock_if_abandoned(owner) as is_abandoned:
                    if is_abandoned:
                        self._remove(path)

    def _remove(self, path: Path) -> None:
        remove_tree(path)
        with suppress(git_checkout.GitFailed):
            self._git(*_REMOVE, str(path))
