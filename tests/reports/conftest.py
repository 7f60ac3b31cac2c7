from __future__ import annotations

import io
from collections.abc import Callable
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

GOLDENS = Path(__file__).parent / "goldens"


@pytest.fixture
def golden(update_goldens: bool) -> Callable[[str, str], None]:  # noqa: FBT001 - a fixture's name
    """Compare a text with the golden file of that name."""

    def check(name: str, text: str) -> None:
        path = GOLDENS / name
        # Trailing blanks are padding of the layout: nobody sees them, editors strip them.
        tidy = "".join(f"{line.rstrip()}\n" for line in text.splitlines())
        if update_goldens:
            path.parent.mkdir(exist_ok=True)
            path.write_text(tidy, encoding="utf-8", newline="\n")

        assert path.read_text(encoding="utf-8") == tidy

    return check


@pytest.fixture
def make_console() -> Callable[..., Console]:
    """Return consoles that write into memory: ``console.file.getvalue()`` has the text."""

    def make(width: int = 80, *, terminal: bool = True, colour: bool = False) -> Console:
        return Console(
            file=io.StringIO(),
            width=width,
            force_terminal=terminal,
            color_system="truecolor" if colour else None,
            no_color=not colour,
            highlight=False,
            legacy_windows=False,
            _environ={},
        )

    return make


@pytest.fixture
def samples() -> ModuleType:
    """Return the module of sample checkpoints that lies beside this file."""
    spec = spec_from_file_location("report_samples", Path(__file__).parent / "samples.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
