"""Addresses as paths: they join, show, pickle and refuse like paths, and stay addresses."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from sentinel.checkpoint import path_text
from sentinel.errors import ConfigError
from sentinel.regular import is_directory, is_file, is_there
from sentinel.remote.paths import RemotePath, is_remote, place_of

ADDRESS = "s3://bucket/run a/checkpoint-5"


def test_an_address_stays_one_whatever_is_done_to_it() -> None:
    """Joined, climbed, renamed and sent to another process it is an address still."""
    path = place_of(ADDRESS)

    for derived, text in (
        (path, ADDRESS),
        (path / "adapter_model.safetensors", f"{ADDRESS}/adapter_model.safetensors"),
        (path.parent, "s3://bucket/run a"),
        (path.with_name("x.pt"), "s3://bucket/run a/x.pt"),
        (pickle.loads(pickle.dumps(path)), ADDRESS),
        (path.absolute(), ADDRESS),
        (path.resolve(), ADDRESS),
        (place_of(path), ADDRESS),
    ):
        assert is_remote(derived)
        assert (str(derived), path_text(derived)) == (text, text)
    assert path == RemotePath("s3:", "bucket", "run a", "checkpoint-5")
    assert (path.name, path.scheme) == ("checkpoint-5", "s3")


@pytest.mark.parametrize(
    "text", ["abfs://container@account.dfs.core.windows.net/x", "hf://user/repo@main/x"]
)
def test_an_at_sign_is_no_secret(text: str) -> None:
    """Azure names an account behind it, the hub a revision."""
    assert str(place_of(text)) == text


@pytest.mark.parametrize("text", ["out/checkpoint-5", "/abs/x", "s3:/x", "C:/runs", "weird:name"])
def test_a_path_of_this_machine_stays_one(text: str) -> None:
    assert type(place_of(text)) is type(Path(text))
    assert str(place_of(text)) == str(Path(text))


@pytest.mark.parametrize(
    ("text", "fact"),
    [
        ("ftp://host/x", "no known scheme"),
        ("https://host/x.safetensors?X-Amz-Signature=SECRET", "a query or a password"),
        ("https://me:SECRET@host/x", "a query or a password"),
        ("s3://KEY:SECRET@bucket/x", "a query or a password"),
    ],
)
def test_what_would_tell_a_secret_is_refused_without_it(text: str, fact: str) -> None:
    """The sentence itself shows no secret either."""
    with pytest.raises(ConfigError, match=fact) as told:
        place_of(text)

    assert "SECRET" not in str(told.value)


def test_an_address_without_a_bucket_is_no_place() -> None:
    """It is looked at like an empty name, not asked of a server."""
    above = place_of("s3://bucket").parent

    assert not is_there(above)
    assert not is_file(above)
    assert not is_directory(above)


def test_a_local_scan_imports_no_driver(tmp_path) -> None:
    """Who gives no address pays for none: neither fsspec nor what it drives is imported."""
    save_file({"lora_unet_q.lora_up.weight": np.ones((4, 2), "f4")}, tmp_path / "x.safetensors")
    program = (
        "import sentinel, sys; sentinel.scan('x.safetensors', settle_s=0);"
        " print({'fsspec', 'aiohttp', 'ray', 's3fs'} & set(sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "set()"
