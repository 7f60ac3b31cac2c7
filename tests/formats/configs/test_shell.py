"""Scripts as words: what a shell would hand to a trainer, without running anything."""

from __future__ import annotations

import shlex
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentinel.errors import InputError
from sentinel.formats.configs.options import options_of
from sentinel.formats.configs.shell import Command, parse_batch, parse_shell

SCRIPT = r"""#!/bin/bash
# don't stop at this quote
set -e
ARGS=(
  --full_fp16            # half
  --optimizer_args "scale_parameter=False" 'relative_step=False'
)
LR=1e-4
if [ -n "$1" ]; then OUT=$1; else OUT=out; fi
cat > notes.txt <<'EOF'
it's no command: train_network.py --full_bf16
EOF
cd "$(dirname "$0")"
CUDA_VISIBLE_DEVICES=0 accelerate launch --mixed_precision bf16 \
    train_network.py "${ARGS[@]}" --learning_rate $LR --output_dir=$OUT/x#1 2>&1 | tee log.txt
"""


def shell(text: str) -> tuple[Command, ...]:
    return parse_shell(Path("train.sh"), text).commands


def training(text: str) -> Command:
    (found,) = (one for one in shell(text) if one.program == "train_network.py")
    return found


def test_a_script_says_what_the_trainer_is_told():
    """Arrays and variables set once are filled in; redirections, comments, documents are none."""
    command = training(SCRIPT)

    assert command.launcher == ("accelerate", "launch", "--mixed_precision", "bf16")
    assert options_of(command.arguments).named == {
        "full_fp16": True,
        "optimizer_args": ["scale_parameter=False", "relative_step=False"],
        "learning_rate": "1e-4",
        "output_dir": "$OUT/x#1",
    }


@pytest.mark.parametrize(
    ("setting", "seen"),
    [
        ("LR=1e-4", "1e-4"),
        ('export LR="1e-4"', "1e-4"),
        ("LR=1e-4; LR=1e-3", "$LR"),
        ("if true; then LR=1e-4; fi", "$LR"),
        ("for LR in 1e-4 1e-3; do echo; done", "$LR"),
        ("LR=$(python pick.py)", "$LR"),
        ("", "$LR"),
    ],
)
def test_a_variable_is_filled_in_only_where_its_value_is_certain(setting, seen):
    """A guess would be judged like a fact, so what may differ stays as it is written."""
    command = training(f"{setting}\npython train_network.py --learning_rate $LR\n")

    assert options_of(command.arguments).named == {"learning_rate": seen}


@pytest.mark.parametrize(
    ("line", "program"),
    [
        ("python3 -u scripts/train.py --x", "train.py"),
        ("accelerate launch -m axolotl.cli.train c.yml", "axolotl.cli.train"),
        ("nohup torchrun --nproc_per_node 2 a/b/finetune.py --x &", "finetune.py"),
        ("sentinel run --policy report -- llamafactory-cli train c.yaml", "llamafactory-cli"),
        ("sudo env A=1 simpletuner train", "simpletuner"),
    ],
)
def test_a_command_is_known_by_its_script_or_module(line, program):
    """Whatever launches it, a training is told by what is launched."""
    assert [one.program for one in shell(line)] == [program]


def test_only_a_document_is_left_out():
    """`<<` in quotes or arithmetic, and `<<<`, begin none."""
    lines = (
        "echo '<<EOF' $((1<<2))",
        "tr a b <<< text",
        "cat <<-'END' > c.toml",
        "it's = 1",
        "\tEND",
        "python train_network.py --full_fp16",
    )

    assert [one.program for one in shell("\n".join(lines))] == [
        *("echo", "tr", "cat", "train_network.py"),
    ]


def test_an_open_quote_is_told_with_its_line():
    """Half of a script is not taken for all of it."""
    with pytest.raises(InputError, match="in line 2: a quote begins and is never closed"):
        shell("echo a\npython train.py 'abc\n")


def test_a_batch_file_says_the_same():
    """Carets continue lines, percent signs are variables, `rem` is a comment."""
    script = parse_batch(
        "@echo off\r\nrem it's\r\nset MODEL=C:\\models\\sd\r\n"
        '.\\venv\\python.exe train_network.py ^\r\n  --full_fp16 --resume "C:\\my runs\\x" ^\r\n'
        "  --pretrained_model_name_or_path %MODEL% --output_dir %OUT%\r\n"
    )

    assert script.commands == (
        Command(
            "train_network.py",
            (
                *("--full_fp16", "--resume", "C:\\my runs\\x"),
                *("--pretrained_model_name_or_path", "C:\\models\\sd", "--output_dir", "%OUT%"),
            ),
            (".\\venv\\python.exe",),
        ),
    )


# Framed, so that no word is a script's name, and without what a variable begins with.
words = st.text(st.characters(exclude_characters="\n\r\0$%")).map("<{}>".format)


@given(st.lists(words))
def test_quoted_words_come_out_as_they_went_in(given_words):
    """What shlex quotes for a shell is read back word for word."""
    (command,) = shell(shlex.join(["program", *given_words]))

    assert command == Command("program", tuple(given_words))


@given(st.text(alphabet="ab=$'\"\\ \n;&|()<>#{}[]-@%^`"))
def test_any_text_is_words_or_one_sentence(text):
    """Nothing but an InputError ever comes out, and no text takes long."""
    parse_batch(text)
    said = "is never closed"
    try:
        shell(text)
    except InputError as error:
        said = str(error)
    assert "is never closed" in said


@pytest.mark.parametrize("piece", ["${", "$(", "'", '"', "\\", "(", "<<a\n", "`", "$(("])
def test_long_nonsense_takes_no_time_to_speak_of(piece):
    """No pattern looks at the rest of the text again from every place."""
    text = f"a={piece}" * 100_000
    with suppress(InputError):
        shell(text)
    parse_batch(text)
