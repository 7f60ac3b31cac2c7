"""Threads in which a save did not come to its end, or did not hold what it should."""

from __future__ import annotations

import importlib
import json
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from corpus import damage
from corpus.families import FAMILIES
from corpus.models import adapted, seed_torch, tiny_llama, tokens, train, trainable
from sentinel.errors import InputError
from threads import denoising, onetrainer, simpletuner
from threads.dying import die, in_a_child
from threads.finding import checked, healthy, said, scan, silent

pytestmark = [pytest.mark.trainer, pytest.mark.filterwarnings("ignore")]
for name in ("peft", "diffusers"):
    pytest.importorskip(name)

ADAPTER = "adapter_model.safetensors"


@pytest.fixture(scope="module")
def trainer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A Trainer after four steps that saved `checkpoint-2` and `checkpoint-4`."""
    transformers = importlib.import_module("transformers")
    seed_torch(np.random.default_rng(7))
    example = {name: value[0] for name, value in tokens().items()}
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path_factory.mktemp("trained") / "out"),
        max_steps=4,
        save_steps=2,
        logging_steps=1,
        learning_rate=1e-2,
        lr_scheduler_type="constant",
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
        remove_unused_columns=False,
    )
    model = adapted(FAMILIES["lora"])
    made = transformers.Trainer(model=model, args=arguments, train_dataset=[example] * 24)
    made.remove_callback(transformers.PrinterCallback)
    made.train()
    return made


@pytest.fixture
def run(trainer: Any, tmp_path: Path) -> Path:
    """The output directory of a run, for one test alone."""
    return shutil.copytree(trainer.args.output_dir, tmp_path / "out")


def test_huggingface_transformers_35782(trainer: Any, run: Path) -> None:
    """Killed while it saves: the automatic resume takes the highest number although its state is
    not written. The torn one is told, the whole one before it stays usable."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer.args, "output_dir", str(run))
        patch.setattr(trainer.state, "global_step", 6)
        patch.setattr(trainer, "_save_rng_state", die)
        ended = in_a_child(partial(trainer._save_checkpoint, trainer.model, None))

    assert ended == -signal.SIGKILL
    _, whole, torn = scan(run)
    assert [whole.checkpoint.step, torn.checkpoint.step] == [4, 6]
    healthy(whole.verdict)
    said(
        torn.verdict,
        "incomplete-checkpoint",
        "unreadable",
        "the mark that layout 'transformers-trainer' writes last is missing at step 6",
        "the trainer was stopped while it saved; resume from the checkpoint before it",
    )
    said(torn.verdict, "missing-shard", "unreadable", "trainer_state.json")
    assert "weights" in torn.verdict.usable


def test_axolotl_ai_cloud_axolotl_1631(run: Path) -> None:
    """The resume looks for trainer_state.json in the newest checkpoint and it is not there."""
    damage.gone("trainer_state.json")(run / "checkpoint-4")
    first, second = scan(run)

    said(second.verdict, "missing-shard", "unreadable", "trainer_state.json': is not there")
    said(second.verdict, "incomplete-checkpoint", "unreadable", "writes last is missing at step 4")
    healthy(first.verdict)


def test_foundation_model_stack_fms_hf_tuning_432(trainer: Any, run: Path) -> None:
    """A restarted job picks an unclean checkpoint: the optimizer's file ends in the middle since
    the disk was full. It is named, and the adapter beside it is not blamed."""
    torch = importlib.import_module("torch")
    path = run / "checkpoint-4" / "optimizer.pt"
    state = trainer.optimizer.state_dict()
    ended = in_a_child(partial(torch.save, state, path), room_bytes=path.stat().st_size // 2)
    first, second = scan(run)

    assert ended == 1
    said(second.verdict, "truncated-file", "unreadable", "optimizer.pt")
    assert second.verdict.usable == ("weights", "state")
    healthy(first.verdict)


def test_bghira_simpletuner_2613(tmp_path: Path) -> None:
    """The disk was full, the trainer crashed in its save, and `resume latest` loads the torn
    checkpoint. Told by the missing guard and by each file that ends too early."""
    torch = importlib.import_module("torch")
    whole, torn = (simpletuner.checkpoint(tmp_path / name) for name in ("whole", "torn"))
    for later in simpletuner.written_after("optimizer.bin"):
        (torn / later).unlink(missing_ok=True)
    path = torn / "optimizer.bin"
    state, size = torch.load(path, weights_only=True), path.stat().st_size
    ended = in_a_child(partial(torch.save, state, path), room_bytes=size // 2)
    [good], [bad] = scan(whole), scan(torn)

    assert ended == 1
    said(bad.verdict, "truncated-file", "unreadable", "optimizer.bin")
    said(
        bad.verdict,
        "incomplete-checkpoint",
        "unreadable",
        "the mark that layout 'simpletuner' writes last is missing at step 3",
        "resume from the checkpoint before it",
    )
    assert bad.verdict.usable == ("weights",)
    healthy(good.verdict)


def test_lightning_ai_pytorch_lightning_688(tmp_path: Path, rng: np.random.Generator) -> None:
    """A checkpoint is written into its place in one go by torch.save: a crash meanwhile leaves
    half an archive under the right name."""
    pytest.importorskip("pytorch_lightning")
    torch = importlib.import_module("torch")
    seed_torch(rng)
    model = adapted(FAMILIES["lora"])
    own = train(model, torch.optim.AdamW(trainable(model), lr=1e-2))
    content = {
        "epoch": 1,
        "global_step": 4,
        "pytorch-lightning_version": "0.6.0",
        "state_dict": {f"model.{key}": value for key, value in model.state_dict().items()},
        "optimizer_states": [own.state_dict()],
        "lr_schedulers": [],
    }
    whole, torn = tmp_path / "whole.ckpt", tmp_path / "torn.ckpt"
    torch.save(content, whole)
    ended = in_a_child(partial(torch.save, content, torn), room_bytes=whole.stat().st_size // 2)
    [good], [bad] = scan(whole), scan(torn)

    assert ended == 1
    said(bad.verdict, "truncated-file", "unreadable", "torn.ckpt")
    assert bad.verdict.usable == ()
    silent(good.verdict, "truncated-file", "malformed-file")


def test_hiyouga_llama_factory_2922(run: Path, tmp_path: Path) -> None:
    """After the fine-tune the adapter cannot be loaded: MetadataIncompleteBuffer. The copy ended
    early; how many bytes there are and how many there should be is told."""
    source, copy = run / "checkpoint-4", tmp_path / "copied"
    shutil.copytree(source, copy)
    (copy / ADAPTER).unlink()
    size = (source / ADAPTER).stat().st_size
    copying = partial(shutil.copyfile, source / ADAPTER, copy / ADAPTER)
    ended = in_a_child(copying, room_bytes=size - 500)
    safetensors = importlib.import_module("safetensors")
    [whole], [cut] = scan(source), scan(copy)

    assert ended == 1
    with pytest.raises(safetensors.SafetensorError, match="incomplete metadata"):
        safetensors.safe_open(copy / ADAPTER, "np")
    said(cut.verdict, "truncated-file", "unreadable", ADAPTER, f"{size - 500}", f"{size}")
    healthy(whole.verdict)


def sharded(path: Path, rng: np.random.Generator) -> list[Path]:
    """Save a model in several shards and return them."""
    seed_torch(rng)
    tiny_llama(layers=2).save_pretrained(path, max_shard_size="20KB")
    return sorted(path.glob("*.safetensors"))


def test_facebookresearch_metaseq_53(tmp_path: Path, rng: np.random.Generator) -> None:
    """Shards of the last checkpoint have 0 bytes: nothing to load, and the last good one is to be
    taken. The empty ones are named."""
    shards = sharded(tmp_path / "last", rng)
    healthy(scan(tmp_path / "last")[0].verdict)
    for shard in shards[1:3]:
        shard.write_bytes(b"")
    [found] = scan(tmp_path / "last")

    said(found.verdict, "truncated-file", "unreadable", shards[1].name, "0 bytes")


def test_unslothai_unsloth_6796(tmp_path: Path, rng: np.random.Generator) -> None:
    """A checkpoint of which one shard arrived took the place of an older whole one: only what its
    index names in full may be resumed."""
    for step in (100, 200):
        sharded(tmp_path / f"checkpoint-{step}", rng)
        state = {"global_step": step, "log_history": []}
        path = tmp_path / f"checkpoint-{step}" / "trainer_state.json"
        path.write_text(json.dumps(state), encoding="utf-8")
    gone = sorted((tmp_path / "checkpoint-200").glob("*.safetensors"))[1:]
    for shard in gone:
        shard.unlink()
    older, newer = scan(tmp_path)

    finding = said(newer.verdict, "missing-shard", "unreadable", gone[0].name, "is not there")
    assert newer.verdict.usable == ()
    assert "step 200" in finding.message or newer.checkpoint.step == 200
    silent(older.verdict, "missing-shard")
    assert older.verdict.usable == ("weights", "state")


def test_pytorch_torchtitan_315(tmp_path: Path, rng: np.random.Generator) -> None:
    """The job ended while ranks were saving: the sharded checkpoint has no .metadata, so that
    which tensor lies in which file is lost, and the resume that takes it fails."""
    dcp = importlib.import_module("torch.distributed.checkpoint")
    seed_torch(rng)
    model = adapted(FAMILIES["lora"])
    train(model)
    for name in ("whole", "torn"):
        writer = dcp.FileSystemWriter(tmp_path / name / "step-30")
        dcp.save({"model": model.state_dict()}, storage_writer=writer, no_dist=True)
    (tmp_path / "torn" / "step-30" / ".metadata").unlink()
    [good], [bad] = scan(tmp_path / "whole"), scan(tmp_path / "torn")

    said(bad.verdict, "missing-shard", "unreadable", ".metadata")
    silent(good.verdict, "missing-shard", "incomplete-checkpoint")


def test_huggingface_peft_2892(tmp_path: Path, rng: np.random.Generator) -> None:
    """Under ZeRO-3 the saved adapter has 40 bytes: a whole file with no tensor in it."""
    save_file = importlib.import_module("safetensors.torch").save_file
    seed_torch(rng)
    model = adapted(FAMILIES["lora"])
    train(model)
    for name in ("zero", "whole"):
        model.save_pretrained(tmp_path / name)
    save_file({}, tmp_path / "zero" / ADAPTER, {"format": "pt"})
    [zero], [whole] = scan(tmp_path / "zero"), scan(tmp_path / "whole")

    assert (tmp_path / "zero" / ADAPTER).stat().st_size == 40
    said(
        zero.verdict,
        "empty-checkpoint",
        "faulty",
        "the weights file is whole but holds no tensor",
        "nothing was selected or gathered when it was saved",
    )
    silent(whole.verdict, "empty-checkpoint")


def test_huggingface_peft_2450(tmp_path: Path, rng: np.random.Generator) -> None:
    """Under ZeRO-3 what modules_to_save names is saved with the shape [0]: loading it is a size
    mismatch, and the trained head is lost. It is counted and named, the matrices are not."""
    torch = seed_torch(rng)
    model = adapted(FAMILIES["lora"], modules_to_save=["lm_head"])
    train(model)
    model.save_pretrained(tmp_path / "whole")
    state = model.state_dict()
    gathered = {
        key: torch.empty(0) if "modules_to_save" in key else value for key, value in state.items()
    }
    model.save_pretrained(tmp_path / "zero", state_dict=gathered)
    [zero], [whole] = scan(tmp_path / "zero"), scan(tmp_path / "whole")

    said(
        zero.verdict,
        "empty-values",
        "faulty",
        "1 of 5 tensors have no values at all",
        "lm_head",
        "sharded parameters were saved without being gathered",
    )
    silent(whole.verdict, "empty-values")


def test_nerogar_onetrainer_762(tmp_path: Path, rng: np.random.Generator) -> None:
    """Killed while it wrote its configuration, which is half there: the backup was not finished,
    and the next start cannot read it. Where the text ends is told."""
    torch = importlib.import_module("torch")
    model = denoising.unet(rng)
    own = denoising.learn(model, torch.optim.AdamW(trainable(model), lr=1e-3))
    path = onetrainer.backup(tmp_path, model, own, step=10, settings={})
    healthy(scan(path)[0].verdict)
    damage.cut(onetrainer.ARGS)(path)
    [found] = scan(path)

    said(found.verdict, "truncated-file", "unreadable", "args.json': its JSON ends too early")
    said(found.verdict, "incomplete-checkpoint", "unreadable", "layout 'onetrainer-backup'")
    assert "weights" in found.verdict.usable
    with pytest.raises(InputError, match="ends too early"):
        checked(path / onetrainer.ARGS, {})
