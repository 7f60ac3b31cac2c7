"""A process of sentinel's own does without pandas, whoever's it is may have it."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from safetensors.numpy import save_file

pytest.importorskip("pandas")

ARRAY = "from sentinel.stats.table import PAIRS, table_of; assert table_of([], PAIRS).num_rows == 0"
LEFT_OUT = "from sentinel.engines.without_pandas import leave_pandas_out; leave_pandas_out()"
TOLD = "import sys; print('pandas' in sys.modules)"


def _says(*lines: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(lines)],
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_array_needs_no_pandas():
    """Where pyarrow would import it by itself, it does not."""
    assert _says(ARRAY, TOLD) == "True"
    assert _says(LEFT_OUT, ARRAY, TOLD) == "False"


def test_who_asks_later_gets_it():
    """A tracker's client in the same process finds its pandas."""
    frame = "import pandas; print(len(pandas.DataFrame({'a': [1, 2]})))"

    assert _says(LEFT_OUT, ARRAY, frame) == "2"


def test_what_is_there_already_is_left_alone():
    """A process that has pandas loses nothing."""
    assert _says("import pandas", LEFT_OUT, "import pandas", TOLD) == "True"


def test_the_command_does_without(tmp_path):
    """The whole of a scan, as a user starts it."""
    save_file({"weight": np.ones((4, 4), "f4")}, tmp_path / "weights.safetensors")
    scan = f"sys.argv = ['sentinel', 'scan', {str(tmp_path)!r}]"
    program = f"import sys; {scan}; from sentinel.cli.main import main"
    ended = "try:\n    main()\nexcept SystemExit:\n    print('pandas' in sys.modules)"

    *report, left_out = _says(program, ended).splitlines()

    assert "1 checkpoint" in "".join(report)
    assert left_out == "False"
