"""
Describe one agent, and how to talk to it, as data.

Everything that a new version of an agent may change is in a dialect's file and nowhere
else: the command and the flags that each version knows, the environment, the marks around
a prompt, the keys, and the questions with their safe answers.

These classes are also the only declaration of such a file.  Each class is a table and each
attribute a key; its type has the checks that the key's value must pass.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import PurePosixPath
from string import Template
from typing import Annotated, Any, Literal, TypeAlias, get_args

from attrs import Attribute, field, fields, frozen

from kiroworkers.conversations.dialects.environment import filter_environment
from kiroworkers.conversations.failures import FailurePattern

Version = tuple[int, ...]

#: Rows and columns of a terminal.
Window = tuple[int, int]

#: The form in which JSON survives the agent's interface: ``compact``, on one line;
#: ``lines``, with one member per line, where long lines may be cut.
Layout: TypeAlias = Literal["compact", "lines"]

#: The engine of Kiro behind the protocol, because the engines differ; empty for other agents.
Engine: TypeAlias = Literal["", "v2", "v3"]

#: What can be chosen when the agent is started: keys of `Start`.
StartOption: TypeAlias = Literal["model", "effort", "agent"]


def version_in(text: str) -> Version | None:
    """
    Return the first version number in `text`, such as ``(2, 11, 0)``, or None.
    """
    match = re.search(r"\b(\d+(?:\.\d+)+)\b", text)
    return tuple(map(int, match[1].split("."))) if match else None


def key_of(attribute: Attribute[Any]) -> str:
    """
    Return the key of `attribute` in a dialect file.
    """
    key: str = attribute.metadata.get("key", attribute.name)
    return key


@frozen
class Must:
    """
    Represent a requirement on the value of a key, as part of the attribute's type.

    Attributes:
        requirement: What the value must do, such as ``be above 0``.
        fits: Returns a true value if the value does it.
    """

    requirement: str
    fits: Callable[[Any], object]


def _between(low: int, high: int) -> Must:
    return Must(f"be between {low} and {high}", lambda number: low <= number <= high)


def _like(pattern: str, description: str) -> Must:
    return Must(f"be {description}", re.compile(pattern).fullmatch)


def _stays_inside(path: str) -> bool:
    return path[:1] not in ("", "/") and ".." not in path.split("/") and "\0" not in path


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


Text: TypeAlias = Annotated[str, Must("not be empty", bool)]
Name: TypeAlias = Annotated[
    str, _like("[a-z0-9][a-z0-9-]{0,63}", "at most 64 lower-case letters, digits and hyphens")
]
#: An argument of a program, or the value of an environment variable.
Argument: TypeAlias = Annotated[str, Must("not contain NUL", lambda text: "\0" not in text)]
VariableName: TypeAlias = Annotated[str, _like(r"[^=\0]+", "a name without = and NUL")]
VariablePattern: TypeAlias = Annotated[
    str, _like(r"[A-Za-z0-9_*?\[\]!-]+", "the name of a variable, or a pattern for names")
]
#: The name of an environment variable, and of a directory.
Identifier: TypeAlias = Annotated[
    str, _like("[A-Za-z_][A-Za-z0-9_]*", "a name of letters, digits and underscores")
]
InnerPath: TypeAlias = Annotated[
    str, Must("be a relative path that stays inside its folder", _stays_inside)
]
JsonObject: TypeAlias = Annotated[str, Must("be a JSON object", _is_json_object)]
#: Seconds of silence.
Quiet: TypeAlias = Annotated[
    float, Must("be above 0 and at most 60", lambda seconds: 0 < seconds <= 60)
]


@frozen
class Flag:
    """
    Represent arguments for certain versions of the agent.

    Attributes:
        arguments: The arguments.
        since: The first version that knows them; empty for every version.
    """

    arguments: tuple[Argument, ...]
    since: Version = ()


@frozen
class OptionVersions:
    """
    Hold the first version of the agent that knows each option of `Start`.

    Attributes:
        model: The first version that knows `Start.model`; empty if every version does.
        effort: The same for `Start.effort`.
        agent: The same for `Start.agent`.
    """

    model: Version = ()
    effort: Version = ()
    agent: Version = ()


#: The default: every version knows the options.
_NO_OPTION_VERSIONS = OptionVersions()


@frozen
class Start:
    """
    Hold how the agent is started.

    Attributes:
        arguments: The arguments for every version.
        program: The program to look up on PATH; None for this server's own Python.
        version_arguments: The arguments that make `program` print its version; empty if
            it is not to be asked.
        login_arguments: The arguments that make `program` exit with status 0 if somebody
            is logged in; empty if it cannot be asked.
        logged_out: The pattern for what `login_arguments` print if nobody is logged in; None
            if it is unknown.
        since: The first version that this dialect can drive; None for no limit.
        until: The first version that this dialect cannot drive; None for no limit.
        served_since: The first version that the agent's service still serves; None for no
            limit.
        help_arguments: The arguments that make `program` print its help; empty if it is not
            to be asked.
        gone: The pattern for the help of a program that this dialect cannot drive any more;
            None for no such program.
        flags: The arguments for certain versions.
        model: The arguments that select the model ``{model}``; empty if there are none.
        effort: The arguments that select the reasoning effort ``{effort}``; empty if there
            are none.
        agent: The arguments that select the agent's configuration ``{agent}``; empty if
            there are none.
        option_since: The first version that knows each of these options.
    """

    arguments: tuple[Argument, ...]
    program: Text | None = None
    version_arguments: tuple[Argument, ...] = field(default=(), metadata={"key": "version"})
    login_arguments: tuple[Argument, ...] = field(default=(), metadata={"key": "login"})
    logged_out: re.Pattern[str] | None = field(default=None, metadata={"key": "logged-out"})
    since: Version | None = None
    until: Version | None = None
    served_since: Version | None = field(default=None, metadata={"key": "served-since"})
    help_arguments: tuple[Argument, ...] = field(default=(), metadata={"key": "help"})
    gone: re.Pattern[str] | None = None
    flags: tuple[Flag, ...] = ()
    model: tuple[Argument, ...] = ()
    effort: tuple[Argument, ...] = ()
    agent: tuple[Argument, ...] = ()
    option_since: OptionVersions = field(
        default=_NO_OPTION_VERSIONS, metadata={"key": "option-since"}
    )

    def __attrs_post_init__(self) -> None:
        for option in get_args(StartOption):
            template = getattr(self, option)
            if template and not any(f"{{{option}}}" in argument for argument in template):
                raise ValueError(f"{option} must have {{{option}}} in one of its arguments")
        if self.gone is not None and not self.help_arguments:
            raise ValueError("gone requires help")


@frozen
class Variables:
    """
    Hold which environment variables the agent gets.

    Attributes:
        set: Variables to set for the agent.
        passed: Names, or patterns for names, of the server's variables that the agent
            gets beyond those that every agent gets.
    """

    set: Mapping[VariableName, Argument]
    passed: tuple[VariablePattern, ...] = field(default=(), metadata={"key": "pass"})


@frozen
class Screen:
    """
    Hold the size of the terminal.

    Attributes:
        rows: The height.
        columns: The width.
    """

    rows: Annotated[int, _between(2, 65535)]
    columns: Annotated[int, _between(20, 65535)]


@frozen
class Menu:
    """
    Represent a menu of the agent, with its cursor at a certain choice.

    Attributes:
        question: The pattern by which the menu is recognized in plain text.
        keys: What to press to get to, or to make, the wanted choice.
    """

    question: re.Pattern[str]
    keys: bytes


@frozen
class BracketedPastePrompt:
    """
    Represent a line editor that writes marks around what it reads.

    Attributes:
        open: The mark that it writes when it starts to read.
        ready: The pattern that proves, after `open`, that the prompt is drawn.
            If it has a group ``context``, that is the share of the model's context in use,
            in percent.
        close: The mark that it writes when it stops reading.  Everything between the two
            marks is prompt and echo.
        settled: The pattern for the end of the output before `open` if the output is
            complete.  Some programs print an answer from another thread, so that its end
            may come after the prompt.  None if that never happens.
    """

    open: bytes
    ready: re.Pattern[bytes]
    close: bytes
    settled: re.Pattern[bytes] | None = None


@frozen
class LinePrompt:
    """
    Represent a prompt on the last line, with nothing else that marks a turn's end.

    Attributes:
        prompt: The pattern for the last line.
        quiet: The seconds without output after which the prompt is taken to be real.
    """

    prompt: re.Pattern[str]
    quiet: Quiet = 0.5


@frozen
class Marker:
    """
    Represent texts that show the agent's status; all that are given must be present.

    Attributes:
        screen: The pattern for the last rows of the screen.
        title: The pattern for the window's title.
        state: The pattern for what the agent says about its state by ``OSC 7501``.
    """

    screen: re.Pattern[str] | None = None
    title: re.Pattern[str] | None = None
    state: re.Pattern[str] | None = None

    def __attrs_post_init__(self) -> None:
        if not (self.screen or self.title or self.state):
            raise ValueError("must have at least one of the keys screen, title and state")


@frozen
class StatusMarkers:
    """
    Represent how a full-screen program shows whether it is idle or busy.

    Attributes:
        idle: What it shows while the agent waits for a prompt.
        busy: What it shows while the agent works.
        output: The pattern for the first row of a turn's output at the moment when the
            busy marker appears.  The rows above it are echo.
        quiet: The seconds without output after which the idle marker is taken to be final.
            Some agents go on drawing after they show it.
        rows: How many of the last rows that are not blank may hold the markers.
        wraps: Whether the agent cuts long lines itself.  If the terminal's edge cuts one
            anyway, the two disagree about the width of the text.
    """

    idle: Marker
    busy: Marker
    output: re.Pattern[str]
    quiet: Quiet = 0.2
    rows: Annotated[int, Must("be at least 1", lambda rows: rows >= 1)] = 4
    wraps: bool = True


@frozen
class Acp:
    """
    Represent an agent that speaks the Agent Client Protocol over pipes.

    It has no terminal.

    Attributes:
        engine: The engine of Kiro behind the protocol; left out for other agents.
    """

    engine: Engine = ""


Readiness: TypeAlias = BracketedPastePrompt | LinePrompt | StatusMarkers | Acp

#: The tables that say how the prompt is recognized; a dialect has exactly one of them.
READINESS_TABLES = ("prompt", "line", "signs", "acp")


@frozen
class Keys:
    """
    Hold what to type.

    Attributes:
        submit: Submits what was typed.
        interrupt: Stops a turn.
        paste_start: The mark at the beginning of a bracketed paste.  Empty if the agent
            does not know bracketed paste and must be given a single line.
        paste_end: The mark at the end of a bracketed paste.
        empty: Empties the input field, for an agent that puts a cancelled prompt back into
            it.
        quit: Makes the agent exit, typed at its prompt.
        apart: Whether `submit` must be typed a moment after the text, because the agent
            would otherwise take it for a newline, or submit only what was there before.
            This also holds for what `Clear` types.
    """

    submit: bytes
    interrupt: bytes
    paste_start: bytes = field(default=b"", metadata={"key": "paste-start"})
    paste_end: bytes = field(default=b"", metadata={"key": "paste-end"})
    empty: bytes = b""
    quit: bytes = b""
    apart: bool = False


@frozen
class Clear:
    """
    Hold how the agent is made to forget the conversation.

    Attributes:
        type: What to type.
        done: The pattern for the text by which the agent confirms it.
        question: The pattern for a question that the agent may ask first.
        confirm: What to type to answer the question with yes.
        prompt: The pattern for the raw prompt at which the agent waits for that answer.  It
            proves that the question was asked, wherever its text is; None if the prompt
            looks like any other.
    """

    type: bytes
    done: re.Pattern[str]
    question: re.Pattern[str] | None = None
    confirm: bytes = b""
    prompt: re.Pattern[bytes] | None = None


@frozen
class Approval:
    """
    Hold how the agent asks whether it may use a tool, and what to answer.

    Attributes:
        question: The pattern for the question.
        deny: What to press at the question to deny it, or the menus on the way to denying
            it, with the keys for each.
        allow: The same for allowing the tool once.
    """

    question: re.Pattern[str]
    deny: bytes | tuple[Menu, ...]
    allow: bytes | tuple[Menu, ...] = ()

    @property
    def deny_menus(self) -> tuple[Menu, ...]:
        """
        Return the menus on the way to denying the tool.
        """
        return self._menus(self.deny)

    @property
    def allow_menus(self) -> tuple[Menu, ...]:
        """
        Return the menus on the way to allowing the tool once.
        """
        return self._menus(self.allow)

    def _menus(self, choice: bytes | tuple[Menu, ...]) -> tuple[Menu, ...]:
        return (Menu(self.question, choice),) if isinstance(choice, bytes) else choice


@frozen
class ToolWords:
    """
    Hold what the agent prints about its tools.

    Attributes:
        used: The pattern for what is printed about a tool that has run.  Its group
            ``title`` is the tool with its command or file.  If one of the groups ``read``,
            ``write``, ``execute`` and ``network`` takes part in the match, it says what the
            tool does.  It has no effect with `Dialect.signs`: nothing proves on a screen that
            the words are not a quotation.
        command: The pattern for the tool and its command above the question for an
            approval.  If it has the groups ``tool`` and ``command``, these are shown.
        done: The pattern for the line that is printed when a tool has finished.  If a turn ends
            with it, the tool was used although the model says nothing more.
    """

    used: re.Pattern[str] | None = None
    command: re.Pattern[str] | None = None
    done: re.Pattern[str] | None = None

    def __attrs_post_init__(self) -> None:
        if self.used is not None and "title" not in self.used.groupindex:
            raise ValueError("used must have a group named title")


@frozen
class AnswerFormat:
    """
    Hold what the agent's answers look like.

    Attributes:
        prefix: The pattern for the beginning of every answer.  `Dialect.failures` are only
            looked for in a turn without it, because an answer may quote one.  None if
            answers are not marked.  It is searched for in the terminal's raw output if
            the dialect has a `BracketedPastePrompt`, and in plain text otherwise.
        suffix: The pattern for what the agent prints after an answer, which is not part of
            it; None if it prints nothing.  If it has a group ``credits``, that is the cost of
            the turn.
        failure: The pattern for the header that the agent prints above a failure, in the
            terminal's raw output, with the style of the header.  The text after it is a
            failure even if an answer came before it.  None if there is no header.
        sample: The pattern by which the agent says that its answer is only a sample; None if
            it always means its answers.
        layout: The form of JSON that survives the agent's interface.
        journal: The directory, relative to the user's home, in which the agent keeps a
            journal of each session; None if it keeps none.
    """

    prefix: re.Pattern[bytes] | None = None
    suffix: re.Pattern[str] | None = None
    failure: re.Pattern[bytes] | None = None
    sample: re.Pattern[str] | None = None
    layout: Layout = "compact"
    journal: Text | None = None


@frozen
class StateDir:
    """
    Represent a directory in which the agent keeps state.

    Sessions that run at the same time would overwrite each other's files there, and a later one
    would find what an earlier one has left.  So each session gets a directory of its own.

    Attributes:
        variable: The environment variable that names the directory.
        default: Where the directory is if the variable is not set, relative to the
            user's home.
        copy: Files of the user's directory to copy to the session's.
        link: Files that stay the user's own, such as a login that the agent renews.
        sessions: Whether the agent keeps its conversations in this directory.  A session may
            then have the identifier of an earlier one, whose directory is gone.
    """

    variable: Identifier
    default: InnerPath
    copy: tuple[InnerPath, ...] = ()
    link: tuple[InnerPath, ...] = ()
    sessions: bool = False

    def __attrs_post_init__(self) -> None:
        names = (*self.copy, *self.link)
        if len({PurePosixPath(name) for name in names}) < len(names):
            raise ValueError("names a file twice")


@frozen
class MinimalAgent:
    """
    Describe how to run the agent without tools, MCP servers and the user's instructions.

    Each session gets a configuration folder of its own.

    Attributes:
        name: The name of the configuration, which `Start.agent` selects.
        variable: The environment variable that names the configuration folder.
        default: The user's own folder if the variable is not set, relative to the user's
            home.
        files: The files in the folder, each with its text.
        meta: The ``_meta`` of an ACP ``session/new``, as JSON; None for none.
    """

    name: Text
    variable: Identifier
    default: InnerPath
    files: Mapping[InnerPath, str] = field(factory=dict)
    meta: JsonObject | None = None


#: What the values of `ModelServerSettings` may refer to.
MODEL_SERVER_PLACEHOLDERS = frozenset({"url", "home", "folder", "answers"})


@frozen
class ModelServerSettings:
    """
    Describe how to make the agent use another model server, with settings of its own.

    ``kiroworkers prove`` runs such a server and starts the agent with a new home directory.  In
    the values, ``$url`` stands for the server's address, such as ``http://127.0.0.1:8081``,
    ``$home`` for the new home directory, ``$folder`` for the folder in which sessions run, and
    ``$$`` for a dollar sign.  An agent that cannot use another server, but can read its model's
    answers from a file, has ``$answers`` for the path of that file: a JSON list with a list of
    strings for each turn, as Kiro's ``KIRO_MOCK_CHAT_RESPONSE``.  An empty table means that the
    agent can do neither, although the dialect that it extends can.

    Attributes:
        environment: The variables that the agent is started with, besides ``HOME``.
        files: The files below the new home directory, each with its text.
    """

    environment: Mapping[VariableName, str] = field(factory=dict)
    files: Mapping[InnerPath, str] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        for text in (*self.environment.values(), *self.files.values()):
            template = Template(text)
            unknown = sorted(set(template.get_identifiers()) - MODEL_SERVER_PLACEHOLDERS)
            if unknown or not template.is_valid():
                known = ", ".join(f"${name}" for name in sorted(MODEL_SERVER_PLACEHOLDERS))
                raise ValueError(f"a dollar sign must be $$ or begin one of {known}")


def _none_if_empty(settings: ModelServerSettings | None) -> ModelServerSettings | None:
    return None if settings == ModelServerSettings() else settings


#: The default: the agent prints nothing about its tools.
_NO_TOOL_WORDS = ToolWords()

#: The keys of an agent without a terminal.
_NO_KEYS = Keys(submit=b"", interrupt=b"")

#: The tables that only an agent on a terminal may have, and those that it must have.
TERMINAL_TABLES = ("screen", "keys", "clear", "approval", "tools", "menu")
_REQUIRED_TERMINAL_TABLES = ("screen", "keys")


@frozen
class Dialect:
    """
    Represent an agent: how to start it, talk to it and understand it.

    Attributes:
        name: The agent's name, as `/health` reports it.
        label: The agent's name for people.
        start: How the agent is started.
        variables: Which environment variables it gets.
        screen: The size of its terminal; None for an agent without a terminal.
        prompt: The marks that a line editor writes around its prompt.  Exactly one of
            `prompt`, `line`, `signs` and `acp` is not None; `readiness` returns it.
        line: The prompt of a program that shows nothing else at the end of a turn.
        signs: How a full-screen program shows whether it is idle or busy.
        acp: Given, without keys, for an agent that speaks the Agent Client Protocol.
        keys: What to type.
        clear: How to make the agent forget.  None if it cannot; a session then ends
            with its first turn.
        approval: How the agent asks for a tool; None if that is not known.
        tools: What the agent prints about its tools.
        answer: What answers look like.
        state_dirs: The directories that each session needs for itself.
        minimal: How to run the agent without tools; None if it is unknown.
        model_server: How to make the agent use another model server; None if it cannot.
        menus: Menus before the first prompt, with the keys that lead to the safe choice.
        failures: The texts by which a failure is recognized, in order of preference.
    """

    name: Name
    label: Text
    start: Start
    variables: Variables = field(metadata={"key": "environment"})
    screen: Screen | None = None
    prompt: BracketedPastePrompt | None = None
    line: LinePrompt | None = None
    signs: StatusMarkers | None = None
    acp: Acp | None = None
    keys: Keys = _NO_KEYS
    clear: Clear | None = None
    approval: Approval | None = None
    tools: ToolWords = _NO_TOOL_WORDS
    answer: AnswerFormat = field(factory=AnswerFormat)
    state_dirs: tuple[StateDir, ...] = field(default=(), metadata={"key": "state"})
    minimal: MinimalAgent | None = None
    model_server: ModelServerSettings | None = field(
        default=None, converter=_none_if_empty, metadata={"key": "model-server"}
    )
    menus: tuple[Menu, ...] = field(default=(), metadata={"key": "menu"})
    failures: tuple[FailurePattern, ...] = field(default=(), metadata={"key": "trouble"})

    def __attrs_post_init__(self) -> None:
        given = {
            key_of(attribute)
            for attribute in fields(Dialect)
            if getattr(self, attribute.name) != attribute.default
        }
        if sum(table in given for table in READINESS_TABLES) != 1:
            raise ValueError(f"exactly one of the tables {', '.join(READINESS_TABLES)} is required")
        for table in TERMINAL_TABLES:
            if self.acp is not None and table in given:
                raise ValueError(f"{table} is not allowed with acp: the agent has no terminal")
            if self.acp is None and table in _REQUIRED_TERMINAL_TABLES and table not in given:
                raise ValueError(f"{table} is required")
        variables = [state_dir.variable for state_dir in self.state_dirs]
        for number, variable in enumerate(variables):
            if variable in variables[:number]:
                raise ValueError(f"state[{number}] names the variable {variable} a second time")

    @property
    def readiness(self) -> Readiness:
        """
        Return how the prompt, and with it the end of a turn, is recognized.
        """
        readiness = self.prompt or self.line or self.signs or self.acp
        assert readiness is not None, "a dialect has exactly one of them"
        return readiness

    @property
    def isolates_sessions(self) -> bool:
        """
        Return whether no session can find the conversations of another one.
        """
        return any(state_dir.sessions for state_dir in self.state_dirs)

    @property
    def window(self) -> Window | None:
        """
        Return the rows and columns of the terminal; None for an agent without a terminal.
        """
        return None if self.screen is None else (self.screen.rows, self.screen.columns)

    @property
    def transport(self) -> Literal["terminal", "acp"]:
        """
        Return what the agent's sessions are driven through.
        """
        return "terminal" if self.screen else "acp"

    def has_option(self, option: StartOption, version: Version | None) -> bool:
        """
        Return whether `version` of the agent can be started with `option`.

        If the version is unknown, return whether any version can.
        """
        since: Version = getattr(self.start.option_since, option)
        return bool(getattr(self.start, option)) and (version is None or version >= since)

    def command(
        self, version: Version | None, options: Mapping[StartOption, str] | None = None
    ) -> tuple[str, ...]:
        """
        Return the arguments for `version` of the agent.

        If the version is unknown, return those for the newest one that the dialect knows.

        Args:
            version: The version of the installed program.
            options: The value of each option that the agent is started with.  The agent must
                have these options.
        """
        chosen = (
            argument.replace(f"{{{option}}}", value)
            for option, value in (options or {}).items()
            for argument in getattr(self.start, option)
        )
        for_version = (
            argument
            for flag in self.start.flags
            if version is None or version >= flag.since
            for argument in flag.arguments
        )
        return (*self.start.arguments, *for_version, *chosen)

    def environment(
        self,
        inherited: Mapping[str, str],
        extra_patterns: Iterable[str] = (),
        foreign_patterns: Collection[str] = (),
    ) -> dict[str, str]:
        """
        Return the environment of the agent's sessions.

        Args:
            inherited: The server's own environment.
            extra_patterns: Names and patterns of variables to pass on, in addition to
                `Variables.passed`.
            foreign_patterns: Names and patterns of variables that belong to other
                agents, which a pattern for all variables does not include.
        """
        patterns = (*self.variables.passed, *extra_patterns)
        passed = filter_environment(inherited, patterns, foreign_patterns)
        return {**passed, **self.variables.set}
