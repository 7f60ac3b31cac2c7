"""Checkpoint diagnostics and repair for LoRA and DoRA fine-tuning.

``sentinel.scan(path)`` judges every checkpoint at or below a path.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentinel.flow import Judgement, judge
    from sentinel.scanning import scan

__version__ = "0.1.0"
__all__ = ["Judgement", "__version__", "judge", "scan"]


def __getattr__(name: str) -> object:
    """Import the flow when it is first asked for: `sentinel --help` needs none of it."""
    if name in {"Judgement", "judge"}:
        from sentinel import flow  # noqa: PLC0415 - keeps the import of sentinel itself light

        return getattr(flow, name)
    if name == "scan":
        from sentinel.scanning import scan  # noqa: PLC0415 - as above

        return scan
    message = f"module 'sentinel' has no attribute '{name}'"
    raise AttributeError(message)
