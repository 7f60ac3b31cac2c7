"""An environment with TRL beside the project's, which shares its libraries."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
from pathlib import Path

NEEDS = ("trl==1.8.0", "datasets", "multiprocess", "dill", "pandas", "python-dateutil", "xxhash")


def interpreter(place: Path) -> str:
    """Return the interpreter of ``place``, which is made where it is not there.

    Nothing of TRL's requirements is installed but `NEEDS`: the rest is this interpreter's, so
    that both trainers run on the same torch, transformers and peft.
    """
    own = place / "bin" / "python"
    if not own.exists():
        subprocess.run([sys.executable, "-m", "venv", place], check=True)
        install = ("-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps")
        subprocess.run([own, *install, *NEEDS], check=True)
        paths = {"base": str(place), "platbase": str(place)}
        packages = Path(sysconfig.get_path("purelib", vars=paths))
        (packages / "shared.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return str(own)
