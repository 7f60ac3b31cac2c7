"""What must hold of messages: real daemons, real apprise, a real server that takes them."""

from __future__ import annotations

import json
import os
import signal
import struct

import pytest

from posted import mailbox, pictures

pytest.importorskip("apprise")
posix = pytest.mark.skipif(os.name != "posix", reason="`sentinel run` is POSIX only")


def configured(bench, url: str, **more: object) -> list[str]:
    """The options of a daemon that sends to an address which only the environment knows."""
    notify = {"urls": ["${HOOK_URL}"], "group_s": 0.2, "timeout_s": 20.0} | more
    (bench.place / "notify.yaml").write_text(
        json.dumps({"settle_s": 0.2, "backoff_s": 0.05, "grace_s": 1.0, "notify": notify}),
        encoding="utf-8",
    )
    os.environ["HOOK_URL"] = url
    return ["--state", str(bench.state), "--config", str(bench.place / "notify.yaml")]


def watch_once(bench, url: str, **more: object):
    return bench.run("watch", str(bench.out), "--once", *configured(bench, url, **more))


@pytest.fixture(autouse=True)
def own_environment(monkeypatch):
    monkeypatch.setenv("HOOK_URL", "")


def test_a_message_says_all_that_one_needs_at_night(bench, saves):
    """Which run and step, what, since when, what sentinel does, and the command to look closer."""
    saves.folder(bench.out / "checkpoint-10", 10)
    saves.folder(bench.out / "checkpoint-20", 20, nan=True)
    saves.folder(bench.out / "checkpoint-30", 30, nan=True)
    with mailbox() as box:
        ran = watch_once(bench, box.url)
        message = box.next()
        rest = box.rest()

    assert ran.code == 1
    assert message["title"] == "sentinel: bench/out: faulty at step 20"
    assert message["type"] == "failure"
    lines = message["message"].splitlines()
    assert lines[0].startswith("bench/out at step 20: nan-values: ")
    assert lines[1].startswith("Since: the last healthy one is step 10, written ")
    assert lines[2] == "Sentinel: reports only, the training goes on"
    assert lines[3] == f"Look closer: sentinel log {bench.run_id} --state {bench.state}"
    assert rest == []  # step 30 shows the same: no news
    assert not list((bench.state / "notices").iterdir())
    looked = bench.run(*lines[3].removeprefix("Look closer: sentinel ").split())
    assert "nan-values" in looked.out


def test_no_secret_is_ever_said(bench, saves):
    """Neither password nor path of an address, in what is said, kept or listed as processes."""
    saves.folder(bench.out / "checkpoint-10", 10, nan=True)

    with mailbox() as box:
        url = box.url
    ran = watch_once(bench, url)  # nobody listens there any more
    tested = bench.run("notify", "test", *configured(bench, url)[2:])

    assert "a message could not be sent, and is kept for the next start: json://127" in ran.err
    assert tested.code == 2
    assert "json://127.0.0.1:" in tested.err
    assert "not delivered: A Connection error occurred sending JSON notification" in tested.err
    kept = b"".join(path.read_bytes() for path in bench.state.rglob("*") if path.is_file())
    for secret in ("hunter2secret", "hook-token-4711", "watcher"):
        assert secret not in ran.out + ran.err + tested.out + tested.err
        assert secret.encode() not in kept


def test_several_at_once_are_one_message(bench, saves):
    """Three runs turn bad within the time of a group; a tensor's name calls nobody."""
    for name in "ab":
        saves.folder(bench.out / name / "checkpoint-10", 10, nan=True)
    keys = ("@everyone.lora_down.weight", "@everyone.lora_up.weight")
    saves.file(bench.out / "c" / "c.safetensors", 10, nan=True, keys=keys)
    with mailbox() as box:
        watch_once(bench, box.url, group_s=60.0)
        message = box.next()
        rest = box.rest()

    assert message["title"].endswith("faulty at step 10 (and 2 more)")
    assert all(f"out/{name} at step 10" in message["message"] for name in "ab")
    assert "everyone" in message["message"]
    assert "@everyone" not in message["message"]
    assert rest == []


def test_a_server_that_never_answers_delays_no_verdict(bench, saves):
    """Verdicts are there while the message still hangs; it is sent again by the next start."""
    saves.folder(bench.out / "checkpoint-10", 10, nan=True)
    options = configured(bench, "", group_s=0.05)
    with mailbox(silent=True) as box:
        os.environ["HOOK_URL"] = box.url
        process = bench.start("watch", str(bench.out), *options)
        try:
            assert box.asked.acquire(timeout=60)  # from here on it hangs
            saves.folder(bench.out / "checkpoint-20", 20, nan=True)
            saves.folder(bench.out / "checkpoint-30", 30)
            said = iter(process.stdout.readline, "")
            assert any("checkpoint-30" in line for line in said)
            assert box.rest() == []
        finally:
            process.send_signal(signal.SIGKILL)
            process.communicate()
    with mailbox() as box:
        os.environ["HOOK_URL"] = box.url
        bench.run("watch", str(bench.out), "--once", *options)
        late = box.next()

    assert "at step 10: nan-values" in late["message"]


def test_a_failed_delivery_is_tried_again(bench, saves):
    """Two answers of 500: the third try arrives; nothing is said."""
    saves.folder(bench.out / "checkpoint-10", 10, nan=True)
    with mailbox(500) as box:
        process = bench.start("watch", str(bench.out), *configured(bench, box.url, group_s=0.05))
        try:
            message = box.next()
        finally:
            process.terminate()
            said, _ = process.communicate()

    assert "nan-values" in message["message"]
    assert "message" not in said
    assert box.rest() == []


@posix
def test_a_repair_is_told_from_the_fault_to_its_proof(bench):
    """What was found, what is done, and that it helped."""
    (bench.place / "sentinel.yaml").write_text("", encoding="utf-8")
    trainer = bench.trainer("--fault", "zero", "--linger-s", "60", "--steps", "30")
    with mailbox() as box:
        options = configured(bench, box.url, events=["faulty", "repair", "outcome", "ended"])
        recipe = bench.arguments(trainer=trainer)[3:5]
        ran = bench.run("run", *options, *recipe, "--", *trainer)
        messages = [box.next(), *box.rest()]

    assert ran.code == 0, ran.err
    text = "\n\n".join(message["message"] for message in messages)
    assert "at step 10: dead-lora-up: " in text
    assert "Sentinel: stops the trainer, moves the checkpoint out of its reach and starts" in text
    assert "starts the training again from the beginning in fp32" in text
    assert "repair fixed: dead-lora-up is gone from" in text
    assert "the trainer ended with code 0" in text


@posix
def test_giving_up_is_told_before_sentinel_ends(bench):
    """The last message is out when the process is gone."""
    trainer = bench.trainer("--fault", "nan", "--fault-from", "10", "--always", "--steps", "20")
    with mailbox() as box:
        options = configured(bench, box.url, events=["gave_up"], group_s=600.0)
        recipe = bench.arguments(trainer=trainer)[3:5]
        ran = bench.run("run", "--max-attempts", "2", *options, *recipe, "--", *trainer)
        message = box.next()

    assert ran.code == 75
    assert message["title"].startswith("sentinel: bench/out: ended, nothing trains at step ")
    assert "gave up after 2 attempts" in message["message"]
    assert "`sentinel resume --dry-run` tells how it would go on" in message["message"]


def test_a_missing_variable_is_said_at_the_start(bench):
    """Not at night, when the message is due."""
    ran = bench.run("watch", str(bench.out), "--once", *configured(bench, ""))

    assert ran.code == 2
    assert "'${HOOK_URL}': is not in the environment; export HOOK_URL where" in ran.err


def test_a_test_message_shows_what_one_looks_like(bench):
    """By the template of the settings, to the address of the command line."""
    with mailbox() as box:
        options = configured(bench, "", title="[{run}] {occasion}", template="{what} <{look}>")
        ran = bench.run("notify", "test", *options[2:], "--to", box.url)
        message = box.next()

    assert (ran.code, ran.out) == (0, f"json://127.0.0.1:{box.port}: delivered\n")
    assert message["title"] == "sentinel: [example/out] faulty"
    assert message["message"] == "this is a test: nothing is wrong <sentinel log>"


def test_pictures_of_the_run_go_with_the_message(bench, saves):
    """Verdicts, and the loss where one was logged; without the extra the words go alone."""
    pytest.importorskip("vl_convert")
    for step in (10, 20):
        saves.folder(bench.out / f"checkpoint-{step}", step, nan=step == 20)
    lines = [json.dumps({"step": step, "loss": 1 / step}) for step in range(1, 21)]
    (bench.out / "trainer_log.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with mailbox() as box:
        watch_once(bench, box.url)
        drawn = pictures(box.next())

    assert len(drawn) == 2
    for picture in drawn:
        assert picture.startswith(b"\x89PNG\r\n\x1a\n")
        assert struct.unpack(">II", picture[16:24])[0] > 600
