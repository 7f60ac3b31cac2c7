"""A trainer's command inside a shell script: found, and changed in a copy of the script.

Only the words of that one command are touched; those that stay keep the spelling of the script,
variables and quotes included.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from sentinel.errors import InputError, RepairError
from sentinel.formats.configs.shell import Token, tokens_of

SHELLS = frozenset({"bash", "sh", "dash", "zsh"})
SUFFIXES = frozenset({".sh", ".bash"})

_OWN_PLACE = re.compile(r"\$\{?(?:0\b|BASH_SOURCE)|%~dp0")
_LIMIT_BYTES = 1024 * 1024


class SourceWord(str):
    """A word of a script that remembers how the script spells it."""

    __slots__ = ("source",)
    source: str


@dataclass(frozen=True, slots=True)
class Line:
    """One simple command of a script: its words, and where it stands in the text."""

    words: tuple[SourceWord, ...]
    start: int
    end: int

    @property
    def names(self) -> frozenset[str]:
        """Return the last parts of its words, among which a program's name is."""
        return frozenset(PurePath(word).name for word in self.words if not word.startswith("-"))


@dataclass(frozen=True, slots=True)
class Script:
    """A shell script and its simple commands."""

    path: Path
    text: str
    lines: tuple[Line, ...]

    def command(self, programs: Collection[str]) -> tuple[str, ...]:
        """Return the words of the trainer's command: by its program's name, else the Python one."""
        return self._line(programs).words

    def changed(self, programs: Collection[str], words: Sequence[str]) -> str:
        """Return the script's text with the trainer's command told other words.

        Raises RepairError for a script that looks for files beside itself: its copy lies
        elsewhere.
        """
        if _OWN_PLACE.search(self.text):
            raise RepairError(
                "script",
                where=f"'{self.path}'",
                fact="looks for files beside itself, which a changed copy of it would not find",
                todo="give sentinel the command that it runs in the end",
            )
        line = self._line(programs)
        spelled = [
            word.source if isinstance(word, SourceWord) else shlex.quote(word) for word in words
        ]
        return self.text[: line.start] + _laid_out(spelled) + self.text[line.end :]

    def _line(self, programs: Collection[str]) -> Line:
        named = (line for line in self.lines if line.names & set(programs))
        python = (
            line
            for line in self.lines
            if "-m" in line.words or any(word.endswith(".py") for word in line.words)
        )
        found = next(named, None) or next(python, None)
        if found is None:
            raise RepairError(
                "script",
                where=f"'{self.path}'",
                fact="holds no command of a trainer",
                todo="give sentinel the command that it runs in the end",
            )
        return found


def read_script(path: Path) -> Script | None:
    """Return a script with its commands, None when it cannot be told apart."""
    try:
        if path.stat().st_size > _LIMIT_BYTES:
            return None
        text = path.read_text(encoding="utf-8")
        return Script(path, text, _lines(text, list(tokens_of(path, text))))
    except (OSError, UnicodeDecodeError, InputError):
        return None


def _lines(text: str, tokens: Sequence[Token]) -> tuple[Line, ...]:
    lines: list[Line] = []
    line: list[Token] = []
    is_target = False
    for token in [*tokens, Token("end", "\n", len(text), len(text))]:
        if token.kind == "redirect":
            is_target = "&" not in token.text[1:]
        elif token.kind == "word" and not is_target:
            line.append(token)
        elif token.kind == "word":
            is_target = False
        elif line:
            words = tuple(_word(text, token) for token in line)
            lines.append(Line(words, line[0].start, line[-1].end))
            line = []
    return tuple(lines)


def _word(text: str, token: Token) -> SourceWord:
    word = SourceWord(token.text)
    word.source = text[token.start : token.end]
    return word


def _laid_out(words: Sequence[str]) -> str:
    """Return words as a command with one option a line."""
    lines: list[list[str]] = [[]]
    for word in words:
        if word.startswith("--") and lines[-1]:
            lines.append([])
        lines[-1].append(word)
    return " \\\n    ".join(" ".join(line) for line in lines)
