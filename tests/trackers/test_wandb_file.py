"""Reading W&B's transaction log: what its own writer wrote, and anything else calmly."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sentinel.trackers.wandb_file import records

BLOCK = 32_768


def logged(payloads: list[bytes]) -> bytes:
    """A log as LevelDB's format says, with a checksum that nobody here looks at."""
    data = bytearray(b":W&B\xe1\xbe\x00")
    for payload in payloads:
        left, first = payload, True
        while first or left:
            room = BLOCK - len(data) % BLOCK
            if room < 7:
                data += bytes(room)
                room = BLOCK
            part, left = left[: room - 7], left[room - 7 :]
            kind = (1 if first else 4) if not left else (2 if first else 3)
            data += bytes(4) + len(part).to_bytes(2, "little") + bytes([kind]) + part
            first = False
    return bytes(data)


@given(st.lists(st.integers(0, 80_000).map(lambda size: b"x" * size), max_size=6))
def test_records_over_several_blocks_are_whole(payloads):
    """Whatever their sizes, where they begin and where a block ends."""
    assert list(records(logged(payloads))) == payloads


@given(st.data())
def test_any_bytes_end_in_records_or_none(data):
    """Torn, overwritten or foreign: no exception, and no more bytes than there were."""
    text = bytearray(logged([b"abc" * 40, b"d" * 100]))
    for _ in range(data.draw(st.integers(0, 4))):
        text[data.draw(st.integers(0, len(text) - 1))] = data.draw(st.integers(0, 255))
    cut = bytes(text[: data.draw(st.integers(0, len(text)))])

    assert sum(map(len, records(cut))) <= len(cut)
