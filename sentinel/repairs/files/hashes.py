"""Digests of the weights that a file carries in its own metadata: renewed, or left out.

sd-scripts notes two, which a web interface's extension looks models up by: SHA-256 of all bytes
behind the header, and the older one of 64 KiB at byte 1,048,576 of the file as it would be with
the `ss_` metadata alone (`precalculate_safetensors_hashes` in library/train_util.py of
https://github.com/kohya-ss/sd-scripts). `modelspec.hash_sha256` is over tensors in an order that
the file does not keep; it is left out (https://github.com/Stability-AI/ModelSpec: optional).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typing import BinaryIO

MODEL_HASH = "sshs_model_hash"
LEGACY_HASH = "sshs_legacy_hash"
CARRIED = frozenset({MODEL_HASH, LEGACY_HASH})
STALE = frozenset({"modelspec.hash_sha256"})
"""Would be untrue in a changed file, and cannot be made anew."""

_LEGACY_AT = 0x100000
_LEGACY_BYTES = 0x10000
_LEGACY_DIGITS = 8
_MODEL_DIGITS = 64
_READ_BYTES = 4 * 1024 * 1024


def with_room(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return metadata without stale digests, those to be renewed as long as they will be."""
    room = {MODEL_HASH: "0" * _MODEL_DIGITS, LEGACY_HASH: "0" * _LEGACY_DIGITS}
    return {key: room.get(key, text) for key, text in metadata.items() if key not in STALE}


def renewed(
    metadata: Mapping[str, str], file: BinaryIO, data_at: int, plain_data_at: int
) -> dict[str, str]:
    """Return metadata with the digests of the values that begin at ``data_at`` of a file.

    ``plain_data_at`` is where they would begin with the `ss_` metadata alone.
    """
    whole = hashlib.sha256()
    file.seek(data_at)
    while piece := file.read(_READ_BYTES):
        whole.update(piece)
    file.seek(max(0, _LEGACY_AT - plain_data_at) + data_at)
    part = hashlib.sha256(file.read(_LEGACY_BYTES) if plain_data_at <= _LEGACY_AT else b"")
    digests = {MODEL_HASH: whole.hexdigest(), LEGACY_HASH: part.hexdigest()[:_LEGACY_DIGITS]}
    return {key: digests.get(key, text) for key, text in metadata.items()}
