"""Checkpoints of PyTorch Lightning's Trainer, with a LoRA by PEFT inside the module it trains."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path

import pytest

from sentinel.formats.opening import candidate_at, discover, open_checkpoint
from sentinel.stats.measure import measure

pytestmark = pytest.mark.trainer

torch = pytest.importorskip("torch")
lightning = pytest.importorskip("pytorch_lightning")
peft = pytest.importorskip("peft")


class Module(lightning.LightningModule):
    """A LoRA over two layers, trained towards zero."""

    def __init__(self, learning_rate: float = 0.01, sizes: tuple[int, ...] = (6, 5)) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.learning_rate = learning_rate
        torch.manual_seed(0)
        base = torch.nn.Sequential(torch.nn.Linear(*sizes), torch.nn.Linear(5, 3))
        self.model = peft.get_peft_model(base, peft.LoraConfig(r=2, target_modules=["0"]))

    def training_step(self, batch, _index):
        loss = self.model(batch).square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return torch.optim.AdamW(
            [one for one in self.parameters() if one.requires_grad], lr=self.learning_rate
        )


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("lightning")
    checkpoints = lightning.callbacks.ModelCheckpoint(
        dirpath=root, save_top_k=-1, monitor="loss", filename="{epoch}-{step}", save_last=True
    )
    stopping = lightning.callbacks.EarlyStopping("loss", check_finite=False)
    trainer = lightning.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[checkpoints, stopping],
    )  # fmt: skip
    trainer.fit(Module(), torch.utils.data.DataLoader(torch.randn(6, 6), batch_size=2))
    return root


def test_it_is_what_torch_loads(trained, assert_equal):
    path = trained / "epoch=1-step=6.ckpt"
    found = open_checkpoint(path)

    theirs = torch.load(path, weights_only=False)
    assert (found.layout, found.trainer, found.faults) == ("lightning", "lightning", ())
    assert (found.step, found.epoch, found.updates_done) == (6, 1.0, 6)
    assert_equal(found, theirs["state_dict"])
    assert found.settings["versions.lightning"] == lightning.__version__
    assert found.settings["hyper_parameters.learning_rate"] == 0.01
    assert found.settings["hyper_parameters.sizes"] == "[6, 5]"
    assert found.settings["precision.adapter"] == "fp32"


def test_a_lora_in_it_has_its_roles_and_the_base_is_the_base(trained):
    found = open_checkpoint(trained / "last.ckpt")

    roles = Counter(one.role for one in found.tensors)
    assert roles == {"lora_up": 1, "lora_down": 1, "base": 4}
    assert {one.module for one in found.tensors} == {"0", "1"}
    measured = measure(found, digest=False)
    assert measured.pairs["norm"].to_pylist()[0] > 0
    assert [row["step"] for row in measured.optimizer.to_pylist()] == [6.0, 6.0]
    assert measured.optimizer_groups["lr"].to_pylist() == [0.01]


def test_saves_of_a_run_are_found_in_order(trained):
    found = list(discover(trained))
    assert [(one.path.name, one.step) for one in found] == [
        ("epoch=0-step=3.ckpt", 3), ("epoch=1-step=6.ckpt", 6), ("last.ckpt", None),
    ]  # fmt: skip
    assert {one.group for one in found} == {str(trained)}


def test_infinite_scores_of_callbacks_are_no_finding(trained, tmp_path):
    """`best_score` begins at infinity, and `kth_value` does so until k were saved."""
    import sentinel  # noqa: PLC0415

    tree = torch.load(trained / "last.ckpt", weights_only=False)
    for state in tree["callbacks"].values():
        state["kth_value"] = torch.tensor(math.inf)
        state["best_score"] = torch.tensor(math.inf)
    torch.save(tree, tmp_path / "last.ckpt")

    (judgement,) = sentinel.scan(tmp_path)

    assert judgement.verdict.level == "healthy", judgement.verdict.reason
    assert len(judgement.checkpoint.tensors) == 6


def test_a_scaler_tells_fp16_and_hides_how_many_steps_counted(trained, tmp_path):
    tree = torch.load(trained / "last.ckpt", weights_only=False)
    tree["MixedPrecision"] = torch.amp.GradScaler("cpu").state_dict()
    torch.save(tree, tmp_path / "last.ckpt")

    found = open_checkpoint(tmp_path / "last.ckpt")

    assert found.settings["precision.mixed"] == "fp16"
    assert found.updates_done is None


def test_a_torn_file_is_known_by_its_name(trained, tmp_path):
    raw = (trained / "last.ckpt").read_bytes()
    path = tmp_path / "run-epoch=3.ckpt"
    path.write_bytes(raw[: len(raw) // 2])

    found = open_checkpoint(path)

    assert found.layout == "lightning"
    assert [fault.rule for fault in found.faults] == ["truncated-file"]


@pytest.mark.parametrize("as_zip", [True, False])
def test_a_ckpt_of_another_kind_stays_what_it_was(tmp_path, as_zip):
    """A model of Stable Diffusion, also under one of Lightning's names."""
    path = tmp_path / "last.ckpt"
    tree = {"state_dict": {"w": torch.ones(2)}, "global_step": 4}
    torch.save(tree, path, _use_new_zipfile_serialization=as_zip)

    assert candidate_at(path) is None
    assert open_checkpoint(path).layout == "unknown"


def test_a_sharded_model_is_a_directory(tmp_path):
    """Laid out as `FSDPStrategy.save_checkpoint` does, which asks for GPUs: weights, meta.pt."""
    import torch.distributed.checkpoint as dcp  # noqa: PLC0415

    path = tmp_path / "epoch=0-step=4.ckpt"
    state = {"0.weight": {"step": torch.tensor(4.0), "exp_avg": torch.ones(2, 2)}}
    groups = [{"lr": 0.1, "params": ["0.weight"]}]
    saved = {
        "model": {"0.weight": torch.ones(2, 2)},
        "optimizer_0": {"state": state, "param_groups": groups},
    }
    dcp.save(saved, checkpoint_id=path, no_dist=True)
    assert (open_checkpoint(path).layout, open_checkpoint(path).complete) == ("dcp", True)
    meta = {"epoch": 0, "global_step": 4, "pytorch-lightning_version": "2.6.6"}
    torch.save(meta, path / "meta.pt")

    (candidate,) = discover(tmp_path)
    found = open_checkpoint(path)

    assert (candidate.layout, candidate.step, candidate.group) == ("lightning", 4, str(tmp_path))
    assert (found.step, found.complete, found.faults) == (4, True, ())
    assert [one.name for one in found.tensors] == ["0.weight"]
    assert found.optimizer is not None
    assert found.optimizer.parameters[0].name == "0.weight"
