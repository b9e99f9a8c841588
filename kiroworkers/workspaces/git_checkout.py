"""
The program behind `worktrees.Worktrees`: makes a session's checkout as it should
be, and becomes its agent.

It runs in the session's process, so that nobody else waits for git, and it ends
with the session; what git says of a failure is what the session showed last.  Run
as a file by a bare interpreter, so it imports the standard library only.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping

#: No hook of the repository runs, and nobody is asked for a password.
_NO_HOOKS = ("-c", f"core.hooksPath={os.devnull}", "-c", "core.fsmonitor=false")

#: What git needs to know.  Its configuration is the repository's, where any agent may
#: write which programs it runs (filters); they get no secret of another.
_KNOWN = (
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
    Git refused; the last line of what it said.
    """


class Git:
    """
    The program `program`, in the repository of the folder `repository`.
    """

    def __init__(self, program: str, repository: str, environment: Mapping[str, str]) -> None:
        self.command = (program, *_NO_HOOKS)
        self.repository = repository
        plain = {name: environment[name] for name in _KNOWN if name in environment}
        self.environment = {**plain, "GIT_TERMINAL_PROMPT": "0"}

    def __call__(self, *arguments: str) -> str:
        """
        What git prints.

        Raises:
            GitFailed: when it cannot.
        """
        done = subprocess.run(
            [*self.command, *arguments],
            cwd=self.repository,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip().splitlines()
            raise GitFailed(said[-1] if said else f"git: exit status {done.returncode}")
        return done.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")


def check_out(git: Git, path: str) -> None:
    """
    Make `path` a worktree whose files are those of the repository's HEAD.
    """
    commit = git("rev-parse", "--verify", "HEAD^{commit}")
    if os.path.lexists(path):
        try:
            _reset(git, path, commit)
            return
        except (GitFailed, OSError):
            # Somebody spoilt it, or was killed while git worked in it.
            subprocess.run(
                ["chmod", "-R", "u+rwX", "--", path], stderr=subprocess.DEVNULL, check=False
            )
            shutil.rmtree(path)
    # Git reads what it knows of all worktrees, and fails at one that is just being made.
    # The lock ends with the descriptor, at the latest with this process.
    folder = os.open(_common(git), os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        # Twice: whatever is still known of the one that was here.
        git("worktree", "add", "--force", "--force", "--detach", path, commit)
    finally:
        os.close(folder)


def _common(git: Git) -> str:
    """
    The folder that all worktrees of the repository share.
    """
    return os.path.join(git.repository, git("rev-parse", "--git-common-dir"))


def _reset(git: Git, path: str, commit: str) -> None:
    # What says here where the repository is was the agent's to change; if it led
    # elsewhere, another's files would be reset.
    mark = os.path.join(path, ".git")
    with open(mark, encoding="utf-8", errors="surrogateescape") as file:
        admin = file.read().removeprefix("gitdir:").strip()
    with open(os.path.join(admin, "gitdir"), encoding="utf-8", errors="surrogateescape") as file:
        known = file.read().strip()
    inside = os.path.realpath(f"{admin}/..") == os.path.realpath(f"{_common(git)}/worktrees")
    if not inside or os.path.realpath(known) != os.path.realpath(mark):
        raise GitFailed("it is another's")
    here = (f"--git-dir={admin}", f"--work-tree={path}")
    git(*here, "checkout", "--quiet", "--force", "--detach", commit)
    git(*here, "clean", "-ffdxq")


def main(arguments: list[str]) -> int:
    """
    Does not return where all is well.
    """
    git, home, repository, path, prefix, *command = arguments
    try:
        check_out(Git(git, repository, {**os.environ, "HOME": home}), path)
        os.chdir(os.path.join(path, prefix))
        # Python ignores these, and what it starts would, too.
        for number in (signal.SIGPIPE, signal.SIGXFSZ):
            signal.signal(number, signal.SIG_DFL)
        os.execv(command[0], command)
    except (GitFailed, OSError) as problem:
        print(f"--workdir git-worktree: {problem}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
