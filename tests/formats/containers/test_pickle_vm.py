"""The interpreter builds what Python's own unpickler would, calls nothing, and never runs away."""

from __future__ import annotations

import collections
import contextlib
import io
import pickle
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentinel.errors import InputError, TruncatedError, UnsafePickleError
from sentinel.formats.containers.pickle_machine import BUILT_LIMIT, MARK_LIMIT
from sentinel.formats.containers.pickle_nodes import Call, Global, Persistent
from sentinel.formats.containers.pickle_source import PickleSource
from sentinel.formats.containers.pickle_vm import read_pickle


def read(raw: bytes) -> object:
    return read_pickle(PickleSource(io.BytesIO(raw), len(raw), "file 'x.pt'"))


NUMBERS = st.integers(-(2**63), 2**63)
KEYS = st.one_of(st.text(), NUMBERS, st.booleans(), st.none(), st.tuples(NUMBERS))
PLAIN = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(allow_nan=False),
        st.text(),
        st.binary(),
    ),
    lambda inner: st.one_of(
        st.lists(inner), st.lists(inner).map(tuple), st.dictionaries(KEYS, inner)
    ),
    max_leaves=20,
)


@given(PLAIN, st.integers(3, pickle.HIGHEST_PROTOCOL))
def test_plain_values_are_what_python_reads(value, protocol):
    """From protocol 3 on, where bytes are bytes, the value comes back as it was."""
    assert read(pickle.dumps(value, protocol)) == value


@given(st.lists(st.one_of(st.integers(), st.floats(allow_nan=False), st.text(), st.none())))
def test_old_protocols_are_read_too(value):
    """Protocols 0 to 2 spell numbers and texts in other ways."""
    for protocol in (0, 1, 2):
        assert read(pickle.dumps(value, protocol)) == value


def test_containers_of_the_standard_library_are_plain():
    value = [collections.OrderedDict(a=1), {1, 2}, frozenset({3}), collections.deque([4])]
    for protocol in range(6):
        found = read(pickle.dumps(value, protocol))
        assert found == [{"a": 1}, [1, 2], [3], [4]]


def test_a_call_on_the_list_is_a_node_with_its_state():
    raw = b"cnumpy\ndtype\n(S'f8'\ntR(I3\nS'<'\ntb."

    found = read(raw)

    assert isinstance(found, Call)
    assert (str(found.target), found.arguments, found.state) == ("numpy.dtype", ("f8",), (3, "<"))


def test_a_name_that_is_only_mentioned_is_harmless():
    assert read(b"cos\nsystem\n.") == Global("os", "system")
    found = read(b"\x80\x02X\x01\x00\x00\x00aQ.")
    assert isinstance(found, Persistent)
    assert found.key == "a"


class Attack:
    """What a hostile pickle is made of: Python's pickler writes the call at every protocol."""

    def __init__(self, target, *arguments):
        self.call = (target, arguments)

    def __reduce__(self):
        return self.call


def hostile(canary: Path) -> dict[str, bytes]:
    import os  # noqa: PLC0415 - only attacks need it
    import subprocess  # noqa: PLC0415

    command = f"touch {canary}"
    script = f"open({str(canary)!r}, 'w')"
    attacks = {
        "os.system": Attack(os.system, command),
        "eval": Attack(eval, script),
        "exec": Attack(exec, script),
        "Popen": Attack(subprocess.Popen, ["touch", str(canary)]),
        "getattr": Attack(getattr, "a", "upper"),
        "import": Attack(__import__, "os"),
        "nested": {"state_dict": [Attack(os.system, command)], "lr": 1.0},
        "as an argument": Attack(collections.OrderedDict, [("a", Attack(os.system, command))]),
        "a nested pickle": Attack(pickle.loads, pickle.dumps(Attack(os.system, command))),
    }
    found = {
        f"{name}, protocol {protocol}": pickle.dumps(value, protocol)
        for name, value in attacks.items()
        for protocol in range(6)
    }
    line = command.encode()
    return found | {
        "INST": b"(S'" + line + b"'\nios\nsystem\n.",
        "OBJ": b"(cos\nsystem\nS'" + line + b"'\no.",
        "NEWOBJ": b"\x80\x02cos\nsystem\nX\x01\x00\x00\x00a\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04cos\nsystem\nX\x01\x00\x00\x00a\x85}\x92.",
        "STACK_GLOBAL": b"\x80\x04\x8c\x02os\x8c\x06system\x93\x8c\x01a\x85R.",
        "a dotted name": b"\x80\x04\x8c\x08builtins\x8c\x0ddict.__init__\x93)R.",
        "through torch": b"ctorch.hub\nload\n(S'a'\ntR.",
        "a class of a library": b"ctransformers.training_args\nos.system\n(S'a'\ntR.",
        "the result of a call": b"cnumpy\ndtype\n(S'f8'\ntR)R.",
        "BUILD on a class": b"cos\nenviron\n}b.",
        "the reconstructor": b"ccopy_reg\n_reconstructor\n(csubprocess\nPopen\nc__builtin__\n"
        b"object\nNtR.",
        "torch's wrapper": b"ctorch._tensor\n_rebuild_from_type_v2\n(cos\nsystem\nNS'a'\n\x85NtR.",
        "after the value": b"N0cposix\nsystem\n(S'" + line + b"'\ntR.",
    }


def test_what_would_call_something_is_refused_and_nothing_is_run(tmp_path):
    canary = tmp_path / "canary"

    for name, raw in hostile(canary).items():
        with pytest.raises(UnsafePickleError, match="would call") as caught:
            read(raw)
        assert caught.value.rule == "unsafe-pickle", name
        assert "x.pt" in str(caught.value), name

    assert not canary.exists()


def test_the_refusal_names_the_global():
    with pytest.raises(UnsafePickleError, match=r"'posix\.system'.*nothing was run"):
        read(b"cposix\nsystem\n(S'a'\ntR.")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"\x80\x02",
        b"\x80\x02}",
        b"X\xff\xff\xff\xffabc",
        b"\x8d" + b"\xff" * 8,
        b"\x8e" + b"\xff" * 7 + b"\x7f",
        b"\x96" + b"\xff" * 8,
        b"cos",
        b"\x8b\x10\x00\x00\x00abc",
    ],
)
def test_what_ends_early_is_truncated(raw):
    with pytest.raises(TruncatedError):
        read(raw)


@pytest.mark.parametrize(
    "raw",
    [
        b".",
        b"0.",
        b"t.",
        b"R.",
        b"NR.",
        b"h\x00.",
        b"g9\n.",
        b"p-1\n.",
        b"Na.",
        b"}Ns.",
        b"](NNu.",
        b"}(Nu.",
        b"}]Ns.",
        b"Nb.",
        b"\x80\x09.",
        b"\xff.",
        b"\x97.",
        b"Ix\n.",
        b"Sx\n.",
        b"\x8b\xff\xff\xff\x7f" + b"a" * 10,
        b"I" + b"9" * 5000 + b"\n.",
        b"\x80\x04K\x01K\x02\x93.",
        b"ccollections\nOrderedDict\n(I1\ntR.",
        b"\xe2\x82\xac",
    ],
)
def test_what_no_pickler_writes_is_refused(raw):
    with pytest.raises(InputError) as caught:
        read(raw)
    assert not isinstance(caught.value, UnsafePickleError)


def test_a_key_that_is_costly_to_hash_is_refused():
    """A tuple of tuples of tuples would be hashed to its bottom, without a limit on depth."""
    deep = b")" + b"\x85" * 200_000
    with pytest.raises(InputError, match="key"):
        read(b"}" + deep + b"Ns.")
    with pytest.raises(InputError, match="key"):
        read(b"}" + b")" + b"2\x86" * 5_000 + b"Ns.")


@pytest.mark.parametrize(
    "raw",
    [
        b"(" * (MARK_LIMIT + 1),
        b"}0" * (BUILT_LIMIT + 1),
        b"]q\x00(" + b"h\x00" * 400_000 + b"e" + b"cbuiltins\nlist\n(h\x00tR" * 3 + b".",
    ],
    ids=["marks", "objects", "copies of a long list"],
)
def test_bombs_are_defused(raw):
    """What is built is counted: marks, objects, and elements copied into another container."""
    with pytest.raises(InputError, match="more than"):
        read(raw)


def test_memory_follows_the_file_and_not_its_claims():
    tracemalloc.start()
    for raw in (
        b"\x8d" + b"\xff" * 8,
        b"X\xff\xff\xff\x7fabc",
        b"\x8b\xff\xff\xff\x7f",
        b"r\xff\xff\xff\xff",
    ):
        with pytest.raises(InputError):
            read(raw)
    assert tracemalloc.get_traced_memory()[1] < 1e6
    tracemalloc.stop()


def test_a_value_that_holds_itself_is_only_a_value():
    found = read(b"]q\x00h\x00a.")
    assert isinstance(found, list)
    assert found[0] is found


VALID = pickle.dumps(
    {"a": [1, 2.5, "x", b"y"], "b": collections.OrderedDict(c=(None, True)), 3: {4}}, protocol=2
)


@given(st.integers(0, 5), st.data())
@settings(max_examples=300)
def test_any_mutation_ends_in_a_value_or_an_input_error(protocol, data):
    raw = bytearray(pickle.dumps(pickle.loads(VALID), protocol))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(InputError):
        read(bytes(raw[: data.draw(st.integers(0, len(raw)))]))


@given(st.binary(max_size=200))
@settings(max_examples=500)
def test_any_bytes_end_in_a_value_or_an_input_error(raw):
    with contextlib.suppress(InputError):
        read(raw)
