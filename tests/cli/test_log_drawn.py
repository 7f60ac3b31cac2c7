"""What `sentinel log` draws on a terminal."""

from __future__ import annotations

import os
import re

import pytest

if os.name != "posix":
    pytest.skip("terminals of POSIX", allow_module_level=True)
pytest.importorskip("pyte")

from screens import Terminal
from screens import sentinel as words


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_terminal_draws_how_a_run_went(scanned, encoding):
    """Verdicts, loss and norm of a run as lines; in a pipe there are none of them."""
    told = []
    for named in ([], ["out"]):
        command = words("log", *named, "--log", "log")
        with Terminal(command, cwd=scanned, PYTHONIOENCODING=encoding) as terminal:
            assert terminal.end() == 0
            told.append("\n".join(terminal.scrolled))
    heights = "_" if encoding == "ascii" else "\u2581"

    assert all("verdicts" in one and ".!" in one for one in told)
    assert all(re.search(rf"loss +{heights}{heights}", one) for one in told)
    assert re.search(rf"lora_up norm +{heights} ", told[1])
    assert all(". healthy, ~ suspect, ? unreadable, ! faulty" in one for one in told)
