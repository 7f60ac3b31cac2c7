"""Malicious pickles, made by hand: what each would call, and in how many ways it can be said.

The ideas are those of the public scanners' test files (picklescan, fickling); every byte is
built here. A sample of `live_samples` really makes a file when Python loads it.
"""

from __future__ import annotations

import io
import pickle
import struct
import zipfile
from collections.abc import Iterator

CALLS = """
os system; posix system; nt system; os popen; os execvp; os posix_spawn; os remove; os putenv
subprocess Popen; subprocess call; subprocess run; subprocess check_output; subprocess getoutput
builtins eval; builtins exec; builtins compile; builtins __import__; builtins getattr
builtins open; builtins apply; builtins map; builtins print; builtins globals; builtins breakpoint
__builtin__ eval; __builtin__ execfile; __builtin__ file; __builtin__ reduce; runpy run_path
runpy _run_code; importlib import_module; importlib.util spec_from_file_location; imp load_source
pkgutil resolve_name; zipimport zipimporter; site addsitedir; sys exit; torch load; torch.hub load
torch.jit load; torch.utils.cpp_extension load_inline; torch.fx wrap; torch.serialization load
torch._inductor.codecache compile_file; torch.package PackageImporter
torch.utils._config_module ConfigModule.load_config; torch._dynamo.guards GuardBuilder.get
numpy load; numpy.testing._private.utils runstring; numpy.f2py.crackfortran myeval; numpy fromfile
numpy memmap; numpy.ctypeslib load_library; numpy save; pandas read_pickle; functools partial
functools reduce; operator attrgetter; operator methodcaller; operator call; types CodeType
types FunctionType; types MethodType; types ModuleType; types new_class; pip main
pip._internal main; ensurepip _run_pip; setuptools setup; venv create; webbrowser open
antigravity geohash; cProfile runctx; cProfile run; profile Profile.runctx; bdb Bdb.run; pdb run
timeit timeit; trace Trace.runctx; doctest debug_script; code interact; _pickle loads
pickle loads; pickle Unpickler; cPickle loads; marshal loads; shelve open; dill loads; joblib load
cloudpickle loads; jsonpickle decode; yaml load; yaml unsafe_load
asyncio.unix_events _UnixSubprocessTransport._start; asyncio create_subprocess_shell; asyncio run
multiprocessing.util spawnv_passfds; multiprocessing Process
concurrent.futures ProcessPoolExecutor; ctypes CDLL; ctypes.util find_library
ctypes.cdll LoadLibrary; cffi FFI; _ctypes dlopen; pty spawn; commands getoutput; pexpect run
fabric Connection; paramiko ProxyCommand; sh Command; shutil rmtree; shutil move
pathlib Path.unlink; tempfile mktemp; fileinput input; linecache getline; socket create_connection
socket socket; ssl wrap_socket; urllib.request urlopen; http.client HTTPSConnection; requests get
requests.api post; smtplib SMTP; ftplib FTP; telnetlib Telnet; xmlrpc.client ServerProxy
imaplib IMAP4_stream; uuid _get_command_stdout; _osx_support _read_output; pydoc pipepager
_aix_support _read_cmd_output; idlelib.pyshell ModifiedInterpreter.runcode
lib2to3.pgen2.grammar Grammar.loads; distutils.file_util write_file; logging.config dictConfig
sqlite3 connect; threading Thread; signal signal; _posixsubprocess fork_exec; _io FileIO
io open_code; codecs decode; _codecs decode; gc get_objects; sentinel.storage atomic_write
transformers pipeline; transformers.utils.hub cached_file; trl main
transformers.training_args os.system; transformers.trainer_utils threading.Thread
accelerate launch; collections namedtuple; collections.abc Callable.__call__; argparse FileType
datetime eval; decimal exec; torch._utils _import_dotted_name; torch._utils import_module
torch.storage _load_from_bytes; torch Tensor.__reduce_ex__; torch ops.load_library
torch classes.load_library; uuid UUID.__init__
""".replace("\n", ";")
"""Modules and names that no checkpoint needs to call; many of them need not be installed."""


def calls() -> list[tuple[str, str]]:
    pairs = (one.split() for one in CALLS.split(";"))
    return [(pair[0], pair[1]) for pair in pairs if pair]


def text(value: str) -> bytes:
    raw = value.encode()
    return b"X" + struct.pack("<I", len(raw)) + raw


def short(value: str) -> bytes:
    raw = value.encode()
    return b"\x8c" + bytes([len(raw)]) + raw


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def forms(module: str, name: str, argument: str) -> dict[str, bytes]:
    """One call as every opcode can say it, and hidden where somebody may not look."""
    line = f"c{module}\n{name}\n".encode()
    word = f"S{argument!r}\n".encode()
    stacked = short(module) + short(name) + b"\x93"
    return {
        "GLOBAL, protocol 0": line + b"(" + word + b"tR.",
        "GLOBAL, protocol 2": b"\x80\x02" + line + text(argument) + b"\x85R.",
        "STACK_GLOBAL": b"\x80\x04" + stacked + short(argument) + b"\x85R.",
        "STACK_GLOBAL in a frame": b"\x80\x05\x95" + struct.pack("<Q", 1 << 62) + stacked + b")R.",
        "STACK_GLOBAL from the memo": b"\x80\x04" + short(module) + b"\x94" + short(name)
        + b"\x9400h\x00h\x01\x93)R.",
        "INST": b"(" + word + f"i{module}\n{name}\n.".encode(),
        "OBJ": b"(" + line + word + b"o.",
        "NEWOBJ": b"\x80\x02" + line + text(argument) + b"\x85\x81.",
        "NEWOBJ_EX": b"\x80\x04" + stacked + short(argument) + b"\x85}\x92.",
        "in a key": b"}" + line + b"(" + word + b"tRNs.",
        "in an argument": named("collections", "OrderedDict")
        + b"(" + line + b"(" + word + b"tRtR.",
        "in a state": named("types", "SimpleNamespace")
        + b")R}" + text("a") + line + b"(" + word + b"tRsb.",
        "in a persistent id": b"\x80\x02" + line + b"(" + word + b"tRQ.",
        "and thrown away": b"(" + line + b"(" + word + b"tR1N.",
        "without an end": line + b"(" + word + b"tR",
        "behind an odd key": b"\x80\x02}}Ns0" + line + b"(" + word + b"tR.",
        "behind a long number": b"\x80\x02\x8b\x00\x02\x00\x00" + b"x" * 512
        + b"0" + short(module) + b"\x94" + short(name) + b"\x9400h\x00h\x01\x93)R.",
        "before what is unknown": line + b"(" + word + b"tR\xff\xff.",
        "in a wrapper of torch": named("torch._tensor", "_rebuild_from_type_v2")
        + b"(" + line + named("torch", "Tensor") + b"(" + word + b"tNtR.",
        "in a reconstructor": named("copy_reg", "_reconstructor")
        + b"(" + line + named("__builtin__", "object") + b"NtR.",
    }  # fmt: skip


def live_samples(command: str) -> dict[str, bytes]:
    """Pickles that run a shell command when Python loads them, none of them by an open call.

    All but the first hide behind names that only seem to build data.
    """
    word = text(command)
    shell = named("posix", "system")
    namespace = named("argparse", "Namespace") + b")\x81"
    ordered = b"\x80\x02" + named("collections", "OrderedDict") + b")R"
    return {
        "plain": b"\x80\x02" + shell + word + b"\x85R.",
        "numpy's generator": b"\x80\x02" + named("numpy.random._pickle", "__generator_ctor")
        + b"(" + word + shell + b"tR.",
        "numpy's random state": b"\x80\x02" + named("numpy.random._pickle", "__randomstate_ctor")
        + b"(" + word + shell + b"tR.",
        "a state that sets __setstate__": b"\x80\x02" + namespace
        + b"}" + text("__setstate__") + shell + b"sb" + word + b"b.",
        "slots that set __setstate__": b"\x80\x02" + namespace
        + b"N}" + text("__setstate__") + shell + b"s\x86b" + word + b"b.",
        "an ordered dictionary with a __setstate__": ordered
        + b"}" + text("__setstate__") + shell + b"sb" + word + b"b.",
        "a state that sets append": b"\x80\x02" + namespace
        + b"}" + text("append") + shell + b"sb" + word + b"a.",
        "an ordered dictionary with an append": ordered
        + b"}" + text("append") + shell + b"sb" + word + b"a.",
        "a name that is built": b"\x80\x04" + named("builtins", "str")
        + b"C\x05posix" + short("ascii") + b"\x86R" + short("system") + b"\x93" + word + b"\x85R.",
        "a state that is built": b"\x80\x02" + namespace + named("copy_reg", "_reconstructor")
        + b"(" + named("__builtin__", "dict") * 2 + b"}" + text("__setstate__") + shell + b"stRb"
        + word + b"b.",
    }  # fmt: skip


def odd_samples() -> dict[str, bytes]:
    """Ways out of the file that are no call of a name."""
    namespace = named("argparse", "Namespace") + b")\x81"
    nested = pickle.dumps({"a": 1})
    return {
        "EXT1": b"\x80\x02\x82\x01.",
        "EXT2": b"\x80\x02\x83\x01\x01.",
        "EXT4": b"\x80\x02\x84\x01\x01\x01\x01.",
        "a class changed": b"\x80\x02" + namespace + b"N}" + text("__class__")
        + named("tempfile", "_TemporaryFileCloser") + b"s\x86b.",
        "a class changed by torch": named("torch._tensor", "_rebuild_from_type_v2") + b"("
        + named("torch._utils", "_rebuild_parameter") + named("torch", "Tensor") + b")}"
        + text("__class__") + named("os", "_wrap_close") + b"stR.",
        "a dictionary that calls for what it lacks": named("collections", "defaultdict")
        + b"(" + named("os", "getcwd") + b"tR.",
        "BUILD on a module": named("os", "environ") + b"}b.",
        "the result of a call called": named("numpy", "dtype") + b"(S'f8'\ntR)R.",
        "a nested pickle": named("pickle", "loads") + b"(B" + struct.pack("<I", len(nested))
        + nested + b"tR.",
    }  # fmt: skip


def in_containers(raw: bytes) -> Iterator[tuple[str, bytes]]:
    """A pickle as each file that could carry it: the name of the file, and its bytes."""
    yield "bare.pt", raw
    yield "zipped.pt", torch_zip({"a/data.pkl": raw})
    head = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    yield "legacy.bin", head + raw + pickle.dumps([], 2)
    yield "in the system's facts.bin", head[: -len(pickle.dumps({}, 2))] + raw
    yield "in the keys.ckpt", head + pickle.dumps({}, 2) + raw
    header = b"{'descr': '|O', 'fortran_order': False, 'shape': (1,), }\n"
    array = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + raw
    yield "array.npy", array
    yield "arrays.npz", torch_zip({"a.npy": array})


def torch_zip(files: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return file.getvalue()
