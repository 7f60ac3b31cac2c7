"""What every test may ask for."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

from saves import Saves

# How long an example takes says something of the machine and nothing of the code.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that renews text goldens, as `pytest tests/reports --update-goldens`."""
    parser.addoption(
        "--update-goldens",
        action="store_true",
        help="write the golden files anew; look at the diff before committing it",
    )


@pytest.fixture
def update_goldens(request: pytest.FixtureRequest) -> bool:
    # Without the option where pytest was started above this directory and named none.
    return bool(request.config.getoption("--update-goldens", default=False))


@pytest.fixture(scope="session")
def saves() -> type[Saves]:
    return Saves
