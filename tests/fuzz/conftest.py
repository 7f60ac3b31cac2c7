"""The fuzz targets, which the tests here and the program `fuzz.py` share."""

from __future__ import annotations

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest


def _load(name: str) -> ModuleType:
    spec = spec_from_file_location(f"fuzz_{name}", Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


targets = _load("targets")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Ask a test that takes ``target`` of every target."""
    if "target" in metafunc.fixturenames:
        metafunc.parametrize("target", targets.TARGETS.values(), ids=targets.TARGETS)
