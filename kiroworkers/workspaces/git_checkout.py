"""
Check out a session's git worktree, then run its agent there.

`worktrees.Worktrees` makes the command line that runs this file.  It runs in the
session's own process, so that the server never waits for git and git ends with the
session.  If git fails, its error message is the last output of the session.

A bare interpreter runs this file, so it imports the standard library only.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping

#: Options that keep git from running a hook or a file system monitor of the repository.
_NO_HOOKS = ("-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false")

#: The variables that git inherits.  The repository's configuration may name programs
#: that git runs (filters), and any agent may write to it: they must see no secrets.
_INHERITED_VARIABLES = (
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "TMPDIR",
    "LANG",
    "LC_ALL",
    "LC_CTYPE",
    "XDG_CONFIG_HOME",
)


class GitFailed(Exception):
    """
    Raised when git fails; the message is the last line that it printed.
    """


class Git:
    """
    Run git in a repository, without hooks and without secrets.

    Args:
        program: Path of git.
        repository: A directory of the repository.
        environment: The environment from which git inherits a few variables.
    """

    def __init__(self, program: str, repository: str, environment: Mapping[str, str]) -> None:
        self.command = (program, *_NO_HOOKS)
        self.repository = repository
        inherited = {
            name: environment[name] for name in _INHERITED_VARIABLES if name in environment
        }
        # Git must fail rather than prompt for a password.
        self.environment = {**inherited, "GIT_TERMINAL_PROMPT": "0"}

    def __call__(self, *arguments: str) -> str:
        """
        Run git with these arguments and return what it prints.

        Raises:
            GitFailed: If git exits with a status other than 0.
        """
        completed = subprocess.run(
            [*self.command, *arguments],
            cwd=self.repository,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if completed.returncode != 0:
            errors = completed.stderr.decode("utf-8", "replace").strip().splitlines()
            raise GitFailed(errors[-1] if errors else f"git: exit status {completed.returncode}")
        return completed.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")


def check_out(git: Git, path: str) -> None:
    """
    Make `path` a worktree with exactly the files of the repository's HEAD.

    Raises:
        GitFailed: If git cannot create the worktree.
        OSError: If the files of an unusable worktree cannot be removed.
    """
    commit = git("rev-parse", "--verify", "HEAD^{commit}")
    if os.path.lexists(path):
        try:
            _reset(git, path, commit)
            return
        except (GitFailed, OSError):
            # An agent damaged it, or was killed while git worked in it.
            subprocess.run(
                ["chmod", "-R", "u+rwX", "--", path], stderr=subprocess.DEVNULL, check=False
            )
            shutil.rmtree(path)
    # Git reads its records of all worktrees, and fails at one that is being created.  The
    # lock is released with the descriptor, at the latest when this process exits.
    directory = os.open(_common_dir(git), os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        # Twice --force: git may still have a record of a worktree that was here before.
        git("worktree", "add", "--force", "--force", "--detach", path, commit)
    finally:
        os.close(directory)


def _common_dir(git: Git) -> str:
    """
    Return the directory that all worktrees of the repository share.
    """
    return os.path.join(git.repository, git("rev-parse", "--git-common-dir"))


def _reset(git: Git, path: str, commit: str) -> None:
    """
    Reset the worktree `path` to `commit` and remove all other files.

    Raises:
        GitFailed: If git fails, or if the worktree belongs to another repository.
        OSError: If the worktree's records cannot be read.
    """
    # The agent could write to the file that says where the repository is.  If it pointed
    # elsewhere, git would reset the files of another repository.
    link = os.path.join(path, ".git")
    with open(link, encoding="utf-8", errors="surrogateescape") as file:
        admin = file.read().removeprefix("gitdir:").strip()
    with open(os.path.join(admin, "gitdir"), encoding="utf-8", errors="surrogateescape") as file:
        recorded = file.read().strip()
    inside = os.path.realpath(f"{admin}/..") == os.path.realpath(f"{_common_dir(git)}/worktrees")
    if not inside or os.path.realpath(recorded) != os.path.realpath(link):
        raise GitFailed("the worktree belongs to another repository")
    options = (f"--git-dir={admin}", f"--work-tree={path}")
    git(*options, "checkout", "--quiet", "--force", "--detach", commit)
    git(*options, "clean", "-ffdxq")


def main(arguments: list[str]) -> int:
    """
    Check out the worktree and replace this process with the agent.

    Args:
        arguments: Path of git, the user's home, a directory of the repository, path of
            the worktree, the directory in it to run in, and the agent's command.

    Returns:
        The exit status 1, if the checkout or the agent's start failed.
    """
    program, home, repository, path, prefix, *command = arguments
    try:
        check_out(Git(program, repository, {**os.environ, "HOME": home}), path)
        os.chdir(os.path.join(path, prefix))
        # Python ignores these signals, and a program it starts would inherit that.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.execv(command[0], command)
    except (GitFailed, OSError) as error:
        print(f"--workdir git-worktree: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
