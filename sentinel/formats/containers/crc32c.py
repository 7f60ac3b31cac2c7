"""CRC-32C (Castagnoli, RFC 3720 appendix B.4) of many short texts at once, masked as TFRecord does.

The mask keeps a checksum from being the checksum of data that hold checksums:
https://github.com/tensorflow/tensorflow/blob/master/tensorflow/core/lib/hash/crc32c.h
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

_POLYNOMIAL = 0x82F63B78
_MASK_DELTA = 0xA282EAD8
_FEW = 16
"""So many texts of one length at least are worth a pass over their columns."""


def _table() -> npt.NDArray[np.uint32]:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = (table >> np.uint32(1)) ^ (table & np.uint32(1)) * np.uint32(_POLYNOMIAL)
    return table


TABLE = _table()
_NUMBERS: tuple[int, ...] = tuple(int(entry) for entry in TABLE)


def masked_crc32c(text: bytes) -> int:
    """Return the masked checksum of one text."""
    crc = 0xFFFFFFFF
    for byte in text:
        crc = _NUMBERS[(crc ^ byte) & 0xFF] ^ (crc >> 8)
    crc ^= 0xFFFFFFFF
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def masked_crc32c_of(columns: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint32]:
    """Return the masked checksums of texts of one length: ``columns[i]`` is byte i of each."""
    crc = np.full(len(columns[0]), 0xFFFFFFFF, np.uint32)
    for column in columns:
        crc = TABLE[(crc ^ column) & np.uint32(0xFF)] ^ (crc >> np.uint32(8))
    crc = ~crc
    return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(_MASK_DELTA)


def masked_crc32cs(texts: Sequence[bytes]) -> npt.NDArray[np.uint32]:
    """Return the masked checksum of each text."""
    found = np.empty(len(texts), np.uint32)
    by_length: dict[int, list[int]] = {}
    for number, text in enumerate(texts):
        by_length.setdefault(len(text), []).append(number)
    for length, numbers in by_length.items():
        if length == 0 or len(numbers) < _FEW:
            found[numbers] = [masked_crc32c(texts[number]) for number in numbers]
            continue
        joined = np.frombuffer(b"".join(texts[number] for number in numbers), np.uint8)
        found[numbers] = masked_crc32c_of(list(np.ascontiguousarray(joined.reshape(-1, length).T)))
    return found
