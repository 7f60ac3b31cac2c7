"""What must hold after a quarantine for each trainer: its own latest is the newest good one, its
rotation counts and deletes the good ones only, and nothing of ours is taken for a checkpoint.

Where the trainer is an installed library its own code is asked; for the others the facts are,
which `make trainers-check` gets from their code.
"""

from __future__ import annotations

import json
import os
import uuid
from pathlib import Path

import pytest

from sentinel.formats.opening import open_checkpoint
from sentinel.repairs.best_model import LostBest, lost_best
from sentinel.repairs.pin_copy import Source, files_of, take
from sentinel.repairs.pins import PinStore, check
from sentinel.repairs.quarantine import DIRECTORY, move, quarantine_place

FACTS = Path(__file__).parents[1] / "trainers" / "facts"


def fact(trainer: str, key: str, names: list[str]) -> dict[str, object]:
    """What a trainer's own code made of exactly these names."""
    facts = json.loads((FACTS / f"{trainer}.json").read_text(encoding="utf-8"))
    (case,) = [case for case in facts["latest"] if case[key] == names]
    return case


def made(root: Path, *names: str) -> list[Path]:
    """Checkpoints in the order in which they were written, told apart by every clock."""
    newest_ns = 0
    for number, name in enumerate(names):
        path = root / name
        if path.suffix:
            root.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"weights")
        else:
            path.mkdir(parents=True)
            (path / "weights").write_bytes(b"weights")
        newest_ns = changed_after(newest_ns, path, mtime_s=number * 10)
    return [root / name for name in names]


def changed_after(when_ns: int, path: Path, *, mtime_s: int) -> int:
    """Change a file until its ctime is a later one, and return that: nobody can set a ctime."""
    while path.stat().st_ctime_ns <= when_ns:
        os.utime(path, (mtime_s, mtime_s))
    os.utime(path, (mtime_s, mtime_s))
    return path.stat().st_ctime_ns


def quarantined(root: Path, path: Path) -> Path:
    """Move one out of the trainer's reach and return where it lies now."""
    planned = quarantine_place(path, root, "abc")
    move(planned, {"rules": ["nan-values"]})
    assert planned.place.exists()
    assert not planned.place.is_relative_to(root)
    return planned.place


def names(root: Path) -> list[str]:
    return [entry.name for entry in sorted(root.iterdir(), key=lambda path: path.stat().st_ctime)]


# -- Transformers, and LLaMA-Factory, which asks it -----------------------------------------------


@pytest.fixture
def trainer_utils():
    return pytest.importorskip("transformers.trainer_utils")


def test_transformers_begins_from_the_newest_good_one(trainer_utils, tmp_path):
    """`get_last_checkpoint`, which LLaMA-Factory calls too."""
    root = tmp_path / "out"
    *_, good, bad = made(root, "checkpoint-10", "checkpoint-20", "checkpoint-30")

    quarantined(root, bad)

    assert trainer_utils.get_last_checkpoint(str(root)) == str(good)


def test_transformers_finds_no_checkpoint_when_all_are_faulty(trainer_utils, tmp_path):
    """The quarantine is none, also where a whole parent directory is listed."""
    root = tmp_path / "out"
    (bad,) = made(root, "checkpoint-10")

    quarantined(root, bad)

    assert trainer_utils.get_last_checkpoint(str(root)) is None
    assert trainer_utils.get_last_checkpoint(str(tmp_path)) is None


@pytest.mark.parametrize("use_mtime", [True, False])
def test_transformers_rotates_the_good_ones(trainer_utils, tmp_path, use_mtime):
    """Two are kept of those that are there; the quarantined one neither counts nor goes."""
    root = tmp_path / "out"
    *_, bad = made(root, "checkpoint-10", "checkpoint-20", "checkpoint-30")
    place = quarantined(root, bad)
    made(root, "checkpoint-25")
    os.utime(root / "checkpoint-25", (100, 100))

    trainer_utils.rotate_checkpoints(str(root), save_total_limit=2, use_mtime=use_mtime)

    assert sorted(names(root)) == ["checkpoint-20", "checkpoint-25"]
    assert (place / "weights").exists()


def test_transformers_keeps_one_more_while_it_believes_in_a_best_that_is_gone(
    trainer_utils, tmp_path
):
    """A best checkpoint that lies in the quarantine still counts as one to protect."""
    root = tmp_path / "out"
    first, bad, *_ = made(root, "checkpoint-10", "checkpoint-20", "checkpoint-30", "checkpoint-40")
    quarantined(root, bad)

    trainer_utils.rotate_checkpoints(
        str(root), save_total_limit=1, best_model_checkpoint=str(bad), use_mtime=True
    )

    assert not first.exists()
    assert sorted(names(root)) == ["checkpoint-30", "checkpoint-40"]


# -- axolotl --------------------------------------------------------------------------------------


def test_axolotl_begins_from_the_newest_good_one(tmp_path):
    """`auto_resume_from_checkpoints`; its rotation is Transformers' own."""
    root = tmp_path / "out"
    *good, bad = made(root, "checkpoint-9", "checkpoint-10", "checkpoint-11")

    quarantined(root, bad)

    assert fact("axolotl_latest", "directories", names(root))["picked"] == good[-1].name
    assert fact("axolotl_latest", "directories", [DIRECTORY])["picked"] is None


# -- diffusers' scripts ---------------------------------------------------------------------------


def diffusers_order(root: Path) -> list[str]:
    """How every training script of diffusers lists its checkpoints, for latest and for rotation.

    examples/dreambooth/train_dreambooth_lora_flux.py: names that begin with `checkpoint`, by the
    number after the first dash; another name of that beginning is an error.
    """
    found = [path.name for path in root.iterdir() if path.name.startswith("checkpoint")]
    return sorted(found, key=lambda name: int(name.split("-")[1]))


def test_diffusers_scripts_begin_from_and_rotate_the_good_ones(tmp_path):
    """No name in their directory without a number, and the newest good one last."""
    root = tmp_path / "out"
    *good, bad = made(root, "checkpoint-9", "checkpoint-10", "checkpoint-11")

    quarantined(root, bad)

    assert diffusers_order(root) == [path.name for path in good]
    assert diffusers_order(tmp_path) == []


# -- SimpleTuner ----------------------------------------------------------------------------------


def test_simpletuner_begins_from_and_rotates_the_good_ones(tmp_path):
    """`resume_from_checkpoint=latest`, and one kept."""
    root = tmp_path / "out"
    *good, bad = made(root, "checkpoint-9", "checkpoint-10", "checkpoint-11")

    quarantined(root, bad)

    said = fact("simpletuner", "directories", names(root))
    assert said["picked"] == good[-1].name
    assert said["left_by_limit_1"] == [good[-1].name]


# -- OneTrainer -----------------------------------------------------------------------------------


@pytest.mark.parametrize("outermost", ["backup", "workspace"])
def test_onetrainer_continues_the_last_good_backup(tmp_path, outermost):
    """`continue_last_backup` takes the last name of all in `backup`, whatever it is: so nothing
    of ours lies there, be it the backups or the workspace that is watched."""
    workspace = tmp_path / "workspace"
    backup = workspace / "backup"
    *good, bad = made(
        backup,
        "2026-01-02_03-04-05-backup-10-0-10",
        "2026-01-02_03-04-06-backup-9-0-9",
        "2026-01-02_03-04-07-backup-12-0-12",
    )

    quarantined(backup if outermost == "backup" else workspace, bad)

    said = fact("onetrainer", "directories", names(backup))
    assert said["picked"] == good[-1].name
    assert said["left_by_rolling_1"] == [good[-1].name]


# -- ai-toolkit -----------------------------------------------------------------------------------


def test_ai_toolkit_begins_from_and_rotates_the_good_ones(tmp_path):
    """The newest change of all `cat*`; the others' ctime is not touched by the quarantine."""
    root = tmp_path / "cat"
    *good, bad = made(
        root,
        "cat_000000100.safetensors",
        "cat_000000200.safetensors",
        "cat_000000300.safetensors",
    )

    quarantined(root, bad)

    said = fact("ai_toolkit_latest", "written", names(root))
    assert said["picked"] == good[-1].name
    assert said["left_by_keeping_1"] == [good[-1].name]


def test_ai_toolkit_takes_what_was_moved_back_for_the_newest(tmp_path):
    """Why the way back is a command for people: a rename is a change, so the older save that
    comes back is begun from."""
    root = tmp_path / "cat"
    bad, good = made(root, "cat_000000100.safetensors", "cat_000000200.safetensors")
    place = quarantined(root, bad)
    changed_after(good.stat().st_ctime_ns, place, mtime_s=0)

    place.rename(bad)

    assert fact("ai_toolkit_latest", "written", names(root))["picked"] == bad.name


# -- sd-scripts -----------------------------------------------------------------------------------


@pytest.mark.parametrize("faulty", [10, 20, 30])
def test_sd_scripts_rotates_what_is_there(tmp_path, faulty):
    """It computes the name that is one too many, and is content when it is not there."""
    root = tmp_path / "out"
    name = "cat-step{:08d}.safetensors".format
    made(root, *(name(step) for step in (10, 20, 30)))
    quarantined(root, root / name(faulty))
    made(root, name(40))

    left = fact("sd_scripts_latest", "files", sorted(names(root)))["left"]

    assert left == [name(step) for step in (20, 30, 40) if step != faulty]


# -- accelerate -----------------------------------------------------------------------------------


def test_accelerate_loads_and_rotates_the_good_ones(tmp_path):
    """Automatic naming: `load_state()` takes the highest number, `save_state` drops the lowest."""
    accelerate = pytest.importorskip("accelerate")
    torch = pytest.importorskip("torch")
    config = accelerate.utils.ProjectConfiguration(
        project_dir=str(tmp_path / "run"), automatic_checkpoint_naming=True, total_limit=2
    )
    accelerator = accelerate.Accelerator(project_config=config, cpu=True)
    model = accelerator.prepare(torch.nn.Linear(1, 1, bias=False))
    for value in (1.0, 2.0, 3.0):
        model.weight.data.fill_(value)
        accelerator.save_state()
    root = tmp_path / "run" / "checkpoints"

    place = quarantined(root, root / "checkpoint_2")
    accelerator.load_state()

    assert model.weight.item() == 2.0
    accelerator.save_state()
    assert sorted(names(root)) == ["checkpoint_1", "checkpoint_3"]
    accelerator.save_state()
    assert sorted(names(root)) == ["checkpoint_3", "checkpoint_4"]
    assert place.exists()


# -- a best checkpoint that lies in the quarantine -------------------------------------------------


@pytest.fixture
def line_trainer(tmp_path):
    """Makes the real Trainer of a line through four points, which saves every second step."""
    pytest.importorskip("accelerate")
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")

    class Line(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(1, 1)

        def forward(self, x, labels):
            said = self.layer(x)
            return {"loss": ((said - labels) ** 2).mean(), "logits": said}

    def make(steps: int):
        rows = [{"x": torch.ones(1) * n, "labels": torch.ones(1)} for n in range(4)]
        settings = transformers.TrainingArguments(
            output_dir=str(tmp_path / "out"),
            max_steps=steps,
            per_device_train_batch_size=2,
            eval_strategy="steps",
            save_strategy="steps",
            eval_steps=2,
            save_steps=2,
            save_total_limit=2,
            load_best_model_at_end=True,
            report_to=[],
            use_cpu=True,
            disable_tqdm=True,
        )
        return transformers.Trainer(Line(), settings, train_dataset=rows, eval_dataset=rows)

    return make


def test_a_trainer_whose_best_is_gone_resumes_and_ends(line_trainer, tmp_path):
    """With `load_best_model_at_end`, resumed from a checkpoint that names a quarantined best: it
    goes on to its end, rotates, and touches nothing of ours."""
    root = tmp_path / "out"
    line_trainer(4).train()
    best, state_file = root / "checkpoint-2", root / "checkpoint-4" / "trainer_state.json"
    named = {"best_model_checkpoint": str(best), "best_metric": 0.0, "best_global_step": 2}
    state_file.write_text(json.dumps(json.loads(state_file.read_text()) | named))
    place = quarantined(root, best)
    content = sorted(path.name for path in place.iterdir())

    resumed = line_trainer(8)
    resumed.train(resume_from_checkpoint=str(root / "checkpoint-4"))

    assert resumed.state.global_step == 8
    assert sorted(names(root)) == ["checkpoint-6", "checkpoint-8"]
    assert sorted(path.name for path in place.iterdir()) == content
    assert resumed.state.best_model_checkpoint is None  # nothing is better than what is gone
    assert lost_best(root / "checkpoint-8", root) is None


def test_a_trainer_resumes_from_a_pin_and_leaves_it_as_it_is(line_trainer, tmp_path):
    """The pin's own path is given to the real Trainer: it goes on with optimizer and schedule,
    writes into its own directory, and the pin is bit for bit what it was."""
    root = tmp_path / "out"
    line_trainer(4).train()
    source = Source.of(
        open_checkpoint(root / "checkpoint-4"),
        run_id=str(uuid.UUID(int=1)),
        attempt=1,
        checkpoint_id="abc",
        seq=1,
    )
    pin = take(PinStore(tmp_path / "pins"), source, files_of(source), stopped=lambda: False)
    for path in list(root.iterdir()):
        path.rename(tmp_path / path.name)

    resumed = line_trainer(8)
    resumed.train(resume_from_checkpoint=str(pin.path))

    assert resumed.state.global_step == 8
    assert {entry["step"] for entry in resumed.state.log_history} >= {2, 4, 6, 8}
    assert sorted(names(root)) == ["checkpoint-6", "checkpoint-8"]
    check(pin)
    assert {path.name for path in pin.path.iterdir()} == {
        path.name for path in (tmp_path / "checkpoint-4").iterdir()
    }


def test_the_plan_says_which_best_is_gone(tmp_path):
    """By its name beside the checkpoint, with its metric; nothing where it is there."""
    target, best = made(tmp_path / "out", "checkpoint-20", "checkpoint-10")
    state = {"best_model_checkpoint": "out/checkpoint-10", "best_metric": 0.25}
    (target / "trainer_state.json").write_text(json.dumps(state))
    assert lost_best(target, target.parent) is None

    quarantined(tmp_path / "out", best)

    lost = lost_best(target, target.parent)
    assert lost == LostBest("checkpoint-10", 0.25)
    assert "names 'checkpoint-10' (0.25) as the best" in lost.said()


@pytest.mark.parametrize(
    "state",
    ["", "[]", "{}", '{"best_model_checkpoint": 3}', '{"best_model_checkpoint": ""}', "[" * 10_000],
)
def test_a_state_that_names_no_best_is_no_matter(tmp_path, state):
    """Torn, odd or hostile: nothing is said and nothing is raised."""
    (target,) = made(tmp_path / "out", "checkpoint-20")
    (target / "trainer_state.json").write_text(state)

    assert lost_best(target, target.parent) is None
