"""What every test of a rule on a real file may ask for."""

from __future__ import annotations

from threads.conftest import one_thread, rng

__all__ = ["one_thread", "rng"]
