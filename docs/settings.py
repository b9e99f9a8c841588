"""
Print ``settings.rst``, the reference of the server's settings.

After a change of the options in ``kiroworkers/settings/table.py``::

    python docs/settings.py > docs/settings.rst
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from textwrap import fill

from kiroworkers.settings import GROUPS, options
from kiroworkers.settings.options import Option

_HEAD = """\
Settings
========

Every setting of the server can be given in three places:

* as a flag of ``kiroworkers serve`` or ``twistd kiroworkers``: ``--idle-timeout 5m``,
* as an environment variable: ``KIROWORKERS_IDLE_TIMEOUT=5m``,
* as a key of a configuration file: ``idle-timeout = "5m"`` in its table ``[sessions]``.

A flag takes precedence over a variable, a variable over the file, and the file over the default.

All settings are optional. By default, the server listens on http://127.0.0.1:8080, and uses
``kiro-cli`` if it is installed, or else the `offline agent <offline-agent.rst>`_.

The configuration file
----------------------

The flag ``--config FILE``, or the variable ``KIROWORKERS_CONFIG``, names the file. It is in TOML:

.. test: file kiroworkers.toml

.. code-block:: toml

   [server]
   port = 8081

   [agents]
   agent = ["offline=1"]

   [pool]
   workers = 4

   [requests]
   queue-timeout = "1m"
   max-body = "512k"

   [sessions]
   canary = true

   # Default values for the input fields of a task.
   [tasks.generate-story]
   components = ["Web", "API"]

* A table is a group of settings, as on this page. A key is a flag without its dashes.
* Numbers and booleans may be TOML's own (``8081``, ``true``) or text, as in a flag (``"5m"``). A
  list is an array of strings, or one string with commas.
* A relative path begins at the folder of the file, not at the current folder. This holds for files
  and folders, not for the programs of ``agent-command`` and the sockets of ``listen``.
* A table or a key that does not exist is an error, and so is an invalid value, even if a flag
  takes precedence over it.
* Secrets are not settings: ``token-file`` and ``callback-secret-file`` are paths of files.
* ``[tasks.NAME]`` holds default values for the input fields of the task ``NAME``. They are used
  when a client does not send the field.

The server reads the file when it starts. On SIGHUP it reads the token file and the task files
again, but not this file; if this file has changed, a warning in the log says so. The server also
warns if any user can write to the file, because it may name programs that the server runs.

Which values are in effect
--------------------------

``kiroworkers config show`` prints each setting of a server, and where it comes from. It takes the
flags of the server. With ``--changed``, it leaves out the defaults:

.. code-block:: sh

   .venv/bin/kiroworkers config show --config kiroworkers.toml --port 9000 --changed

.. test: output

.. code-block:: toml

   # The settings of a server that starts here; its configuration file is …/kiroworkers.toml.

   # Server
   [server]
   port = 9000  # flag --port

   # Agents
   [agents]
   agent = ["offline=1"]  # …/kiroworkers.toml line 5

   # Workers
   [pool]
   workers = 4  # …/kiroworkers.toml line 8

   # Requests
   [requests]
   queue-timeout = "1m"  # …/kiroworkers.toml line 11
   max-body = "512k"     # …/kiroworkers.toml line 12

   # Sessions
   [sessions]
   canary = true  # …/kiroworkers.toml line 15

   [tasks.generate-story]  # …/kiroworkers.toml
   components = ["Web", "API"]

The output is a configuration file itself. ``--format json`` prints the same for programs.
``kiroworkers doctor`` takes the same flags, and checks whether a server can run with them.

Mistakes
--------

If a setting is invalid, the server prints one line on standard error, and exits with status 64:

.. test: fails

.. code-block:: sh

   .venv/bin/kiroworkers serve --wrokers 3

.. test: output

.. code-block:: text

   kiroworkers: --wrokers: unknown option; did you mean --workers? (see kiroworkers serve --help)

An unknown variable whose name begins with ``KIROWORKERS_`` is only a warning in the log, because
other programs may have such variables.

Values
------

A duration is a number of seconds, or has the unit ``s``, ``m`` or ``h``: ``30``, ``0.5``, ``5m``.
A size is a number of bytes, or has the unit ``k``, ``m`` or ``g``, powers of 1024: ``65536``,
``512k``, ``8MiB``.

A flag without a value turns a setting on, and its opposite turns it off: ``--canary`` and
``--no-canary``. The values of its variable are ``yes``, ``true``, ``on`` and ``1``, or ``no``,
``false``, ``off`` and ``0``.

Lists are separated by commas. ``--agent`` and ``--trusted-proxy`` can be repeated instead.

There are no settings for the log: ``kiroworkers serve`` writes it to standard output. twistd has
its own options for it, such as ``twistd --logfile FILE kiroworkers``.

``docs/settings.py`` makes this page from the options in ``kiroworkers/settings/table.py``.
"""

#: What is shown as code in the sentences about an option.
_CODE = re.compile(
    r"--agent acp|--tools allow|--[a-z][a-z-]*[a-z]|\^> \$|\$XDG_STATE_HOME/kiroworkers"
    r"|\[tasks\.NAME\]|:mode=(?=\.)|\*(?= \(any\))"
    r"|unix:/run/kiroworkers\.sock|systemd:domain=INET:index=0|kiro:GITHUB_TOKEN"
)


def page() -> str:
    """
    Return the page.
    """
    return "\n".join([_HEAD, *_sections()])


def _sections() -> Iterator[str]:
    """
    Yield the section of each group, with one below it for each option.
    """
    for group, title in GROUPS.items():
        yield f"{title}\n{'-' * len(title)}\n\nTable ``[{group}]`` of the configuration file.\n"
        for option in options():
            if option.group == group:
                yield _section(option)


def _section(option: Option) -> str:
    title = f"``{option.flag}``"
    flag = option.flag if option.is_boolean else f"{option.flag} {option.value_name}"
    if option.is_boolean:
        flag += f"``, ``{option.opposite}"
    text = _CODE.sub(lambda match: f"``{match[0]}``", option.help_text)
    variables = "``, ``".join(option.variables)
    return f"""\
{title}
{"~" * len(title)}

{fill(text, 100, break_on_hyphens=False, break_long_words=False)}

:Flag: ``{flag}``{", can be repeated" if option.is_repeatable else ""}
:Variable: ``{variables}``
:Key: {"none" if option.name == "config" else f"``{option.key}``"}
:Value: {option.type.description}
:Default: {_default(option)}
"""


def _default(option: Option) -> str:
    if not option.default_text:
        return "not set"
    is_words = option.name == "repo_path"
    return option.default_text if is_words else f"``{option.default_text}``"


if __name__ == "__main__":
    print(page(), end="")
