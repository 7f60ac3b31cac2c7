"""What cannot be repaired is refused in one sentence, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import resource
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors import TensorSpec, serialize_file
from safetensors.numpy import save_file

from repairs.files.test_undo import KEY, adapter, everything, save
from sentinel.errors import ChangedWhileReadError, ConfigError, InputError, RepairError
from sentinel.formats.opening import open_checkpoint
from sentinel.repairs.files.copy import prepare_copy
from sentinel.repairs.files.keeping import KEPT
from sentinel.repairs.files.keys import KeyRules
from sentinel.repairs.files.places import default_target
from sentinel.repairs.files.planning import prepare
from sentinel.repairs.files.writing import write

WEIGHTS = "adapter_model.safetensors"


def refused(path: Path, match: str, **wish: object) -> None:
    """A repair is refused with these words, and nothing new lies anywhere."""
    around = path.parent.parent
    before = everything(around)
    with pytest.raises((RepairError, InputError), match=match) as raised:
        prepare_copy(open_checkpoint(path), **{"cast": "bf16", **wish})
    assert len(str(raised.value).splitlines()) == 1
    assert everything(around) == before


def with_tensors(path: Path, tensors: dict[str, np.ndarray]) -> Path:
    save_file(tensors, adapter(path) / WEIGHTS)
    return path


def test_a_loss_is_named_with_its_share_and_first_tensor(tmp_path):
    """Overflow and underflow; accepted when told so."""
    tensors = {
        f"{KEY}.lora_A.weight": np.array([[1e-9, 0, 1, 1e-8], [70000, 1, 1, 1]], "f4"),
        f"{KEY}.lora_B.weight": np.array([[-1e6, np.inf], [np.nan, 1e-40]], "f4"),
    }
    path = with_tensors(tmp_path / "x" / "a", tensors)

    refused(
        path,
        r"a cast to fp16 would lose values: 2 of 12 in the weights \(16\.7 %\) would become"
        rf" infinite, first in '{KEY}\.lora_A\.weight'; 3 of 12 in the weights \(25\.0 %\) would"
        rf" become zero, first in '{KEY}\.lora_A\.weight'; choose bf16.*--allow-loss",
        cast="fp16",
    )

    receipt = prepare_copy(open_checkpoint(path), cast="fp16", allow_loss=True)

    ((part, loss),) = receipt.plan.losses
    assert (part, loss.overflow_count, loss.underflow_count) == ("weights", 2, 3)
    told = json.loads(receipt.path.read_text())["losses"]["weights"]
    assert (told["overflow_count"], told["first_underflow"]) == (2, f"{KEY}.lora_A.weight")


@pytest.mark.parametrize(
    ("dtype", "bits", "said"), [("float8_e4m3fn", 8, "F8_E4M3"), ("uint8", 8, "packed")]
)
def test_floats_of_eight_bits_and_packed_weights_are_not_cast(tmp_path, dtype, bits, said):
    """Their scales lie elsewhere; keys may still be renamed."""
    raw = np.arange(12, dtype="u1")
    spec = TensorSpec(dtype=dtype, shape=(3, 4), data_ptr=raw.ctypes.data, data_len=12)
    assert bits == 8
    path = adapter(tmp_path / "x" / "a")
    serialize_file({"model.q.weight": spec}, path / WEIGHTS, None)

    refused(path, said)
    prepare_copy(open_checkpoint(path), rename=KeyRules(auto=True))


def test_what_is_not_whole_is_not_copied(tmp_path):
    """Torn weights, a description that is not there, no weights."""
    torn = adapter(tmp_path / "x" / "torn")
    (torn / WEIGHTS).write_bytes((torn / WEIGHTS).read_bytes()[:-1])
    refused(torn, "is not whole: .*cut short")

    unfinished = adapter(tmp_path / "x" / "checkpoint-3")
    (unfinished / "trainer_state.json").write_text('{"global')
    refused(unfinished, "is not whole")

    empty = with_tensors(tmp_path / "x" / "empty", {})
    refused(empty, "holds no weights")


@pytest.mark.trainer
def test_a_torn_optimizer_matters_only_where_it_is_kept(tmp_path, run):
    """Without it the rest is as good as new."""
    torch = pytest.importorskip("torch")
    path = shutil.copytree(run / "checkpoint-3", tmp_path / "x" / "checkpoint-3")
    torn = path / "optimizer.pt"
    torn.write_bytes(torn.read_bytes()[:-50])

    refused(path, "is not whole")

    receipt = prepare_copy(open_checkpoint(path), cast="fp32", optimizer="drop")
    assert not (receipt.plan.target / "optimizer.pt").exists()
    assert torch.load(receipt.plan.target / "rng_state.pth", weights_only=False)


@pytest.mark.trainer
def test_a_hostile_optimizer_is_no_state(tmp_path, run):
    """Nothing of it is run, and nothing is copied."""
    torch = pytest.importorskip("torch")
    path = shutil.copytree(run / "checkpoint-3", tmp_path / "x" / "checkpoint-3")

    class Harm:
        def __reduce__(self):
            return os.system, ("true",)

    torch.save({"state": Harm()}, path / "optimizer.pt")
    refused(path, "nothing was run")


def test_unknown_layouts_are_named(tmp_path):
    """A file that nobody knows."""
    (tmp_path / "x").mkdir()
    save_file({"w": np.ones(3, "f4")}, tmp_path / "x" / "who.safetensors")

    refused(tmp_path / "x" / "who.safetensors", "layout 'unknown' is not rewritten")


def test_a_file_out_of_a_directory_leads_to_the_directory(tmp_path):
    """What belongs to it would be left behind."""
    path = adapter(tmp_path / "x" / "a")

    with pytest.raises(RepairError, match=rf"a part of .* 'peft'; name its directory '{path}'"):
        prepare(open_checkpoint(path / WEIGHTS), cast="bf16")


def test_a_cast_of_the_optimizer_alone_is_no_wish(tmp_path):
    """It would have no precision."""
    with pytest.raises(ConfigError, match="name --cast too"):
        prepare(open_checkpoint(adapter(tmp_path / "a")), optimizer="cast")


@pytest.mark.parametrize(
    ("target", "said"),
    [
        ("out/checkpoint-3", "is already there"),
        ("out/checkpoint-4", "lies beside the original"),
        ("out/checkpoint-3/new", "lies inside the checkpoint itself"),
        ("out/checkpoint-9/new", "lies inside another checkpoint"),
    ],
)
def test_places_that_would_disturb_a_trainer(tmp_path, target, said):
    """Nothing is overwritten, nothing lies where a trainer looks for its own."""
    adapter(tmp_path / "out" / "checkpoint-9")
    path = adapter(tmp_path / "out" / "checkpoint-3")

    refused(path, said, to=tmp_path / target)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("out/checkpoint-3", "out-repaired/checkpoint-3"),
        ("adapter", "adapter-repaired"),
        ("out/checkpoint-3/critic", "out-repaired/critic"),
    ],
)
def test_where_a_copy_goes_by_itself(tmp_path, source, expected):
    """Out of the directory of its trainer, under its own name; the next one beside the first."""
    path = adapter(tmp_path / source)

    first = prepare_copy(open_checkpoint(path), cast="bf16").plan.target
    second = prepare(open_checkpoint(path), cast="bf16").plan.target

    assert first == tmp_path / expected
    assert second == tmp_path / expected.replace("-repaired", "-repaired-2")


def test_the_last_save_beside_its_steps_leaves_them_too(tmp_path):
    """A directory without a step among others that have one."""
    adapter(tmp_path / "out" / "checkpoint-3")
    path = adapter(tmp_path / "out" / "final")

    plan = prepare(open_checkpoint(path), cast="bf16").plan

    assert plan.target == tmp_path / "out-repaired" / "final"


def test_an_original_that_changes_meanwhile_is_not_copied(tmp_path):
    """Between the plan and the writing."""
    path = adapter(tmp_path / "x" / "a")
    prepared = prepare(open_checkpoint(path), cast="bf16")
    save_file({f"{KEY}.lora_A.weight": np.ones((2, 6), "f4")}, path / WEIGHTS)
    before = everything(tmp_path)

    with pytest.raises(ChangedWhileReadError, match="changed after it was looked at"):
        write(prepared)

    assert everything(tmp_path) == before


def test_room_is_looked_for_before_anything_is_read(tmp_path):
    """A sparse file of half a terabyte and more, whose copy would fill the disk."""
    path = save(tmp_path / "x" / "cat.safetensors")
    free = shutil.disk_usage(tmp_path).free
    count = (free // 2 + 2**30) // 8 * 8
    entry = {"dtype": "BF16", "shape": [count // 8, 8], "data_offsets": [0, 2 * count]}
    header = json.dumps({"lora_unet_q.lora_up.weight": entry}).encode()
    header += b" " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header)
    try:
        os.truncate(path, 8 + len(header) + 2 * count)
    except OSError:
        pytest.skip("no sparse files of this size here")

    refused(path, "bytes, .* are free there", cast="fp32")


@pytest.mark.skipif(os.name == "nt", reason="limits of POSIX")
def test_a_write_that_fails_leaves_nothing(tmp_path):
    """The system refuses to go on in the middle of a file."""
    tensors = {f"{KEY}.lora_A.weight": np.ones((1000, 100), "f4")}
    path = with_tensors(tmp_path / "x" / "a", tensors)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        refused(path, "cannot be written")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.skipif(os.name == "nt", reason="pipes and links of POSIX")
def test_what_is_no_file_of_the_checkpoint_is_left_out(tmp_path):
    """Pipes are never opened, links to nothing are told, hidden texts are copied."""
    path = adapter(tmp_path / "a")
    os.mkfifo(path / "pipe")
    (path / "broken").symlink_to("nowhere")
    (path / "half.tmp").write_text("half")
    (path / ".gitattributes").write_text("*.bin filter=lfs")
    (path / ".cache").mkdir()
    (path / ".cache" / "x").write_text("x")

    receipt = prepare_copy(open_checkpoint(path), cast="bf16")

    assert {name for name, _why in receipt.plan.left_out} == {"pipe", "broken"}
    names = {".gitattributes", "adapter_config.json", WEIGHTS, "sentinel-repair.json"}
    assert everything(receipt.plan.target) == names


def test_a_checkpoint_at_the_top_of_the_disk_has_a_place_too(tmp_path):
    """There is no directory around its directory."""
    found = open_checkpoint(save(tmp_path / "x" / "cat.safetensors"))
    top = replace(found, path=Path("/cat.safetensors"))

    place = default_target(top, KEPT["kohya"])

    assert place == Path("/checkpoint-repaired/cat.safetensors")
