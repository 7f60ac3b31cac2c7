"""Compiles the kernel into the wheel where there is a compiler for it.

Without one (or for another processor) the wheel is pure Python and the kernel is NumPy's. Run by
itself this file compiles it into the working tree.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shlex
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

SOURCE = Path("sentinel/stats/native/moments.c")
LIBRARY = Path("sentinel/stats/native/moments.so")
PURE = "SENTINEL_PURE"
"""Set in the environment, it keeps the wheel pure."""


def compile_kernel(root: Path) -> bool:
    """Compile the library in its place, and tell whether that worked."""
    if os.name != "posix" or platform.machine() not in {"x86_64", "AMD64"} or os.environ.get(PURE):
        return False
    target = root / LIBRARY
    options = ["-O3", "-std=gnu11", "-fPIC", "-shared", str(root / SOURCE), "-o", str(target)]
    for compiler in (os.environ.get("CC"), sysconfig.get_config_var("CC"), "cc", "gcc", "clang"):
        if not compiler:
            continue
        try:
            subprocess.run([*shlex.split(compiler), *options], check=True, capture_output=True)
            ctypes.CDLL(str(target)).sentinel_level(0)
        except (OSError, AttributeError, subprocess.CalledProcessError):
            target.unlink(missing_ok=True)
            continue
        return True
    return False


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:
    pass
else:

    class CustomBuildHook(BuildHookInterface):
        """Called by hatchling before it packs a wheel."""

        def initialize(self, _version: str, build_data: dict[str, Any]) -> None:
            """Add the library and say which platform the wheel is for; nothing without it."""
            if self.target_name != "wheel" or not compile_kernel(Path(self.root)):
                return
            system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["artifacts"].append(LIBRARY.as_posix())
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{system}"


if __name__ == "__main__":
    sys.exit(not compile_kernel(Path(__file__).parent))
