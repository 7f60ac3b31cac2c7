"""What is made when a wheel is built: the compiled kernel, and the catalogue as JSON.

Without a C compiler (or for another processor) the wheel is pure Python and the kernel is
NumPy's. The JSON says what the YAML files say, and is read in a tenth of the time. Run by itself
this file compiles the kernel into the working tree.
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import shlex
import subprocess
import sys
import sysconfig
import tempfile
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


def write_catalogue(root: Path, target: Path) -> None:
    """Write every rule of the catalogue into one file, in the order in which they are loaded."""
    sys.path.insert(0, str(root))
    from sentinel.rules.files import bundled_files  # noqa: PLC0415 - of the tree that is built
    from sentinel.rules.yaml_lines import read_yaml  # noqa: PLC0415

    rules = [read_yaml(path)[0] for path in bundled_files(root / "rules")]
    target.write_text(json.dumps(rules), encoding="utf-8")


try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ImportError:
    pass
else:

    class CustomBuildHook(BuildHookInterface):
        """Called by hatchling before it packs a wheel."""

        def initialize(self, _version: str, build_data: dict[str, Any]) -> None:
            """Add the catalogue, and the library where it can be made."""
            if self.target_name != "wheel":
                return
            catalogue = Path(tempfile.mkdtemp()) / "rules.json"
            write_catalogue(Path(self.root), catalogue)
            build_data["force_include"][str(catalogue)] = "sentinel/catalogue/rules.json"
            if not compile_kernel(Path(self.root)):
                return
            system = sysconfig.get_platform().replace("-", "_").replace(".", "_")
            build_data["artifacts"].append(LIBRARY.as_posix())
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{system}"


if __name__ == "__main__":
    sys.exit(not compile_kernel(Path(__file__).parent))
