"""Shell scripts and batch files as words: split into commands, never run.

Quotes, comments and continued lines are those of POSIX
(https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html) and of cmd.exe. shlex
knows neither line ends nor a `#` inside a word. A variable is replaced only where the script sets
it once, to plain text; any other stays as it is written (`$MODEL`, `%MODEL%`).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sentinel.checkpoint import path_text
from sentinel.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

_TOKEN = re.compile(
    r"""(?P<joined>\\\r?\n)|(?P<end>\n)|(?P<space>[ \t\r\f\v]+)
    |(?P<document>(?<!<)<<-?[ \t]*(?:\w+|'[^'\n]*'|"[^"\n]*"))
    |(?P<redirect>(?<![^\s;&|()])(?:\d|&)?(?:>>?|<<<|<)(?:&[\d-]|[ \t]*))|(?P<operator>[;&|()<>]+)
    |(?P<comment>(?<![^\s;&|()])\#[^\n]*)
    |(?P<word>(?:
        \\[^\r\n]|'[^']*'|"(?:\\.|[^"\\])*"
        |\$\{[^}\n]{0,500}\}|\$\((?:[^()\n]|\([^()\n]{0,500}\)){0,500}\)
        |[^\s;&|()<>\\'"]
    )+)""",
    re.VERBOSE | re.DOTALL,
)
_QUOTED = re.compile(r"""'([^']*)'|"((?:\\.|[^"\\])*)"|\\(.)""", re.DOTALL)
_ESCAPED = re.compile(r'\\(["\\$`]|\r?\n)')
_ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)(\+?)=(.*)", re.DOTALL)
_VARIABLE = re.compile(r"\$(?:(\w+)|\{(\w+)(?:\[[@*]\])?\})|%(\w+)%")
_UNKNOWN = re.compile(r"[$`]|%\w+%")

_BATCH_COMMENT = re.compile(r"\s*(?:rem|::|@?echo|@?title)\b|\s*::", re.IGNORECASE)
_BATCH_SET = re.compile(r"\s*@?set\s+\"?([A-Za-z_]\w*)=([^\"]*)\"?\s*", re.IGNORECASE)
_BATCH_WORD = re.compile(r'(?:[^\s"&|]|"[^"]*"?)+|[&|]+')

_BEFORE = frozenset(
    {"declare", "do", "else", "env", "exec", "export", "local", "nohup", "readonly", "sudo"}
    | {"then", "time", "typeset", "!"}
)
"""Words after which a command or an assignment may come."""

_OPENING = frozenset({"if", "for", "while", "until", "case", "elif"})
_CLOSING = frozenset({"fi", "done", "esac"})
_MODULE = frozenset({"-m", "--module"})
_LAUNCHERS = frozenset(
    {"torch.distributed.run", "torch.distributed.launch", "accelerate.commands.launch"}
    | {"deepspeed.launcher.runner"}
)
"""Modules that start the script whose name follows."""


@dataclass(frozen=True, slots=True)
class Token:
    """A piece of a script from ``start`` to ``end`` (characters), a word without its quotes."""

    kind: str
    text: str
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Command:
    """One command: the program, Python script or module, and its words.

    ``launcher`` are the words before it: an interpreter, `accelerate launch` and its options.
    """

    program: str
    arguments: tuple[str, ...]
    launcher: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Script:
    """The commands of a script in their order, and the variables it sets once, to plain text."""

    commands: tuple[Command, ...]
    variables: Mapping[str, tuple[str, ...]]


@dataclass(slots=True)
class _Lines:
    """Lines of words, and every setting of a variable met on the way."""

    lines: list[list[str]] = field(default_factory=list)
    settings: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    depth: int = 0

    def take(self, words: list[str]) -> None:
        """Take a line: its assignments as settings, what is left as words of a command."""
        while words:
            found = _ASSIGNMENT.fullmatch(words[0])
            if found:
                self.set(found[1], tuple(found[3].split()), sure=not found[2])
            elif words[0] not in _BEFORE:
                break
            words = words[1:]
        if words and words[0] in _OPENING | _CLOSING:
            self.depth += (words[0] in _OPENING) - (words[0] in _CLOSING)
        elif words:
            self.lines.append(words)

    def set(self, name: str, words: tuple[str, ...], *, sure: bool = True) -> None:
        """Take a setting; one that may or may not happen makes the variable unknown."""
        self.settings += [(name, words)] * (1 if sure and self.depth <= 0 else 2)

    def script(self) -> Script:
        """Return the commands, with every variable replaced that is known."""
        counts = Counter(name for name, _words in self.settings)
        known = {
            name: words
            for name, words in self.settings
            if counts[name] == 1 and not any(map(_UNKNOWN.search, words))
        }
        commands = (command_of(_replaced(words, known)) for words in self.lines)
        return Script(tuple(one for one in commands if one is not None), known)


def parse_shell(path: Path, text: str) -> Script:
    """Return the commands and variables of a POSIX or Bash script.

    Raises InputError for a quote that is never closed.
    """
    found = _Lines()
    line: list[str] = []
    array = ""
    listed: list[str] = []
    is_target = False
    for token in tokens_of(path, text):
        kind, word = token.kind, token.text
        opens = kind == "operator" and word == "(" and bool(line) and line[-1].endswith("=")
        if is_target and kind == "word":
            is_target = False
        elif kind == "redirect":
            is_target = "&" not in word[1:]
        elif array and kind == "operator" and ")" in word:
            found.set(array, tuple(listed))
            array, listed = "", []
        elif array:
            listed += [word] if kind == "word" else []
        elif opens:
            array = line.pop().removesuffix("=").removesuffix("+")
        elif kind == "word":
            line.append(word)
        else:
            found.take(line)
            line = []
    found.take(line)
    return found.script()


def parse_batch(text: str) -> Script:
    """Return the commands and variables of a batch or PowerShell file."""
    found = _Lines()
    for line in re.sub(r"[\^`][ \t]*\r?\n", " ", text).splitlines():
        told = _BATCH_SET.fullmatch(line)
        if told:
            found.set(told[1], tuple(told[2].split()))
        elif not _BATCH_COMMENT.match(line):
            words: list[str] = []
            for word in _BATCH_WORD.findall(line):
                if set(word) <= {"&", "|"}:
                    found.take(words)
                    words = []
                else:
                    words.append(word.replace('"', "").removeprefix("@"))
            found.take(words)
    return found.script()


def tokens_of(path: Path, text: str) -> Iterator[Token]:
    """Yield words, operators, redirections and line ends; words without their quotes.

    Documents within the script (`<<EOF`) are no commands and are left out. Raises InputError for
    a quote that is never closed.
    """
    at = 0
    document = ""
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            # A backslash at the very end, else a quote without its end.
            if text[at:].strip() == "\\":
                return
            raise InputError(
                f"file '{path_text(path)}'",
                where=f"in line {text.count(chr(10), 0, at) + 1}",
                fact="a quote begins and is never closed, so its commands cannot be told apart",
                todo="close it",
            )
        kind = match.lastgroup or ""
        if kind == "word":
            yield Token(kind, _QUOTED.sub(_unquoted, match[0]), at, match.end())
        elif kind in {"operator", "redirect", "end"}:
            yield Token(kind, match[0], at, match.end())
        elif kind == "document":
            document = match[0].lstrip("<- \t").strip("'\"")
        at = match.end()
        if kind == "end" and document:
            last = re.compile(rf"^\t*{re.escape(document)}[ \t]*$", re.MULTILINE).search(text, at)
            at, document = last.end() if last else len(text), ""


def _unquoted(match: re.Match[str]) -> str:
    single, double, escaped = match.groups()
    if double is not None:
        return _ESCAPED.sub(lambda found: found[1].strip("\r\n"), double)
    return single if single is not None else str(escaped)


def _replaced(words: list[str], known: Mapping[str, tuple[str, ...]]) -> list[str]:
    """Return words with each variable replaced that is known; a whole word may become several."""
    found: list[str] = []
    for word in words:
        whole = _VARIABLE.fullmatch(word)
        name = next(filter(None, whole.groups()), "") if whole else ""
        if name in known:
            found += known[name]
        else:
            found.append(_VARIABLE.sub(lambda match: _inside(match, known), word))
    return found


def _inside(match: re.Match[str], known: Mapping[str, tuple[str, ...]]) -> str:
    name = next(filter(None, match.groups()), "")
    return " ".join(known[name]) if name in known else match[0]


def command_of(words: Sequence[str]) -> Command | None:
    """Return a command by its Python script or module, else by its first word."""
    for place, word in enumerate(words):
        if word.endswith(".py"):
            return Command(_name(word), tuple(words[place + 1 :]), tuple(words[:place]))
        if word in _MODULE and place + 1 < len(words) and words[place + 1] not in _LAUNCHERS:
            return Command(words[place + 1], tuple(words[place + 2 :]), tuple(words[:place]))
        if word == "--" and place + 1 < len(words):
            return command_of(words[place + 1 :])
    return Command(_name(words[0]), tuple(words[1:])) if words else None


def _name(word: str) -> str:
    return re.split(r"[/\\]", word)[-1].removesuffix(".exe")
