"""Keep pyarrow from importing pandas in processes that are sentinel's alone.

The first array that pyarrow makes asks for pandas, where that is installed, only to tell whether
it was handed one of its series (pyarrow/pandas-shim.pxi): a fifth of a scan's whole start. A
refusal is taken for "not installed".
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType

_WHO = ("sentinel", "pyarrow")


def leave_pandas_out() -> None:
    """Refuse pandas to whatever sentinel calls, from now on; who else imports it gets it.

    Not for a process of somebody else's: where pyarrow was refused, it converts nothing to
    pandas until the process ends.
    """
    sys.meta_path.insert(0, _Refused())


class _Refused:
    """A finder by its one method: its base in `importlib.abc` imports more than the start does."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,  # noqa: ARG002 - the finder's signature
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> ModuleSpec | None:
        if fullname == "pandas" and _asking() in _WHO:
            message = "pandas is left out of this process"
            raise ModuleNotFoundError(message, name=fullname)
        return None


def _asking() -> str:
    """Return the package whose code imports; compiled code has no frame, so its caller's."""
    frame = sys._getframe(1)  # noqa: SLF001 - documented, and what `logging` uses
    while frame.f_back and _is_machinery(str(frame.f_globals.get("__name__"))):
        frame = frame.f_back
    return str(frame.f_globals.get("__name__")).partition(".")[0]


def _is_machinery(module: str) -> bool:
    return module == __name__ or module.partition(".")[0] == "importlib"
