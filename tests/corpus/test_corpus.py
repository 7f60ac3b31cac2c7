"""Every layout as its own library writes it, healthy and faulty, and what sentinel says of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from corpus.case import Case
from corpus.checking import wrong
from corpus.registry import CASES

pytestmark = [pytest.mark.trainer, pytest.mark.filterwarnings("ignore")]

SEED = 1


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def marked(case: Case) -> object:
    return pytest.param(case, id=case.id, marks=[pytest.mark.slow] if case.slow else [])


@pytest.mark.parametrize("case", [marked(case) for case in CASES])
def test_a_case_is_what_its_writer_made_it(case: Case, tmp_path: Path) -> None:
    """Verdict, findings, layout, settings, roles, ranks and scales are the truth; names, shapes,
    dtypes and values are those of the official reader."""
    for name in case.needs:
        pytest.importorskip(name)
    if case.as_user and os.geteuid() == 0:
        pytest.skip("root may read everything")

    path = case.written(tmp_path, SEED)

    assert wrong(case, tmp_path / case.id, path) == []


def test_every_case_has_a_name_of_its_own() -> None:
    names = [case.id for case in CASES]

    assert len(set(names)) == len(names)
