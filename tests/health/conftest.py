from __future__ import annotations

from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest


def _load(name: str) -> ModuleType:
    spec = spec_from_file_location(f"health_{name}", Path(__file__).parent / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def story() -> ModuleType:
    """Return the module that writes the sample log; child processes run it as a script."""
    return _load("story")


@pytest.fixture(scope="session")
def readers() -> ModuleType:
    """Return the module of foreign readers."""
    return _load("readers")
