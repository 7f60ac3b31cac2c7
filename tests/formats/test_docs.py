"""`docs/formats.md` names every layout in the order it is asked, and every adapter family."""

from __future__ import annotations

import re
from pathlib import Path

from sentinel.formats.configs.registry import CONFIGS
from sentinel.formats.layouts import LAYOUTS
from sentinel.formats.setting_names import SETTING_FAMILIES, is_known

SOURCES = Path(__file__).parents[2] / "sentinel" / "formats"
PAGE = Path(__file__).parents[2] / "docs" / "formats.md"


def test_every_layout_is_documented_in_its_order() -> None:
    text = PAGE.read_text(encoding="utf-8")

    assert re.findall(r"^\| `([a-z-]+)` \|", text, re.MULTILINE) == [one.NAME for one in LAYOUTS]


def test_every_configuration_is_documented_in_its_order() -> None:
    text = PAGE.read_text(encoding="utf-8").split("## Configurations")[1]
    rows = re.findall(r"^\| ([a-z-]+) \|", text, re.MULTILINE)

    assert rows == [one.TRAINER for one in CONFIGS]


def test_every_layouts_row_is_whole() -> None:
    rows = [row for row in PAGE.read_text(encoding="utf-8").splitlines() if row.startswith("| `")]

    assert all(cell.strip() for row in rows for cell in row.strip("|").split("|"))
    assert {len(row.strip("|").split("|")) for row in rows} == {5}


def test_names_are_spelled_with_hyphens() -> None:
    assert all(re.fullmatch(r"[a-z]+(-[a-z]+)*", layout.NAME) for layout in LAYOUTS)


def test_every_setting_a_reader_names_is_on_the_list() -> None:
    """`setting_names.py` makes the page that users look the names up on."""
    spelled = re.compile(
        r'"((?:adapter|base|keys|model|optimizer|precision|resume|scheduler|training|versions)'
        r'\.[a-z_0-9]+)"'
    )
    names = {
        name
        for path in SOURCES.rglob("*.py")
        for name in spelled.findall(path.read_text(encoding="utf-8"))
        if Path(name).suffix not in {".pt", ".bin", ".safetensors"}
    }
    beginnings = {family.rstrip(".") for family in SETTING_FAMILIES}
    # A key of GGUF's own metadata.
    beginnings.add("adapter.type")

    assert len(names) > 50
    assert [name for name in sorted(names - beginnings) if not is_known(name)] == []
