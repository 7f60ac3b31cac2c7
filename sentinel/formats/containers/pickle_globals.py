"""The closed list of what a checkpoint's pickle may call: names that only build data.

Nothing here is ever imported or called; the list decides which symbolic calls are harmless. It
follows what torch's own restricted reader allows
(https://github.com/pytorch/pytorch/blob/main/torch/_weights_only_unpickler.py), plus the plain
value types and the enums that Transformers and Accelerate write into `training_args.bin`.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sentinel.formats.containers.pickle_nodes import Global

PYTHON_2_MODULES: Mapping[str, str] = MappingProxyType(
    {"__builtin__": "builtins", "copy_reg": "copyreg"}
)
"""Modules that pickles up to protocol 2 name as Python 2 did."""

MAPPINGS = frozenset(
    {"builtins.dict", "collections.OrderedDict", "collections.defaultdict", "collections.Counter"}
)
SEQUENCES = frozenset(
    {
        "builtins.list",
        "builtins.set",
        "builtins.frozenset",
        "builtins.tuple",
        "collections.deque",
        "torch.Size",
    }
)

_HARMLESS: Mapping[str, str] = MappingProxyType(
    {
        # `xrange` is what protocols up to 2 call a range.
        "builtins": "bool bytearray bytes complex dict float frozenset int list object range set"
        " slice str tuple xrange",
        "collections": "Counter OrderedDict defaultdict deque",
        "copyreg": "_reconstructor",
        "_codecs": "encode",
        "argparse": "Namespace",
        "datetime": "date datetime timedelta",
        "decimal": "Decimal",
        "pathlib": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
        "pathlib._local": "Path PosixPath PurePath PurePosixPath PureWindowsPath WindowsPath",
        "types": "SimpleNamespace",
        "uuid": "UUID",
        "deepspeed.utils.tensor_fragment": "fragment_address",
        "numpy": "dtype ndarray",
        "numpy.core.multiarray": "_reconstruct scalar",
        "numpy._core.multiarray": "_reconstruct scalar",
        "numpy._core.numeric": "_frombuffer",
        "numpy.core.numeric": "_frombuffer",
        "numpy.random._pickle": "__randomstate_ctor __generator_ctor __bit_generator_ctor",
        "numpy.random._mt19937": "MT19937",
        "numpy.random._pcg64": "PCG64 PCG64DXSM",
        "numpy.random._philox": "Philox",
        "numpy.random._sfc64": "SFC64",
        "numpy.random.bit_generator": "SeedSequence __pyx_unpickle_SeedSequence",
        "random": "Random",
        "accelerate.data_loader": "SeedableRandomSampler",
        "torch": "Size device Tensor",
        "torch._C": "Generator",
        "torch.distributed.checkpoint.filesystem": "_StorageInfo",
        "torch.distributed.checkpoint.metadata": "_MEM_FORMAT_ENCODING",
        "torch._tensor": "_rebuild_from_type_v2 Tensor",
        "torch._utils": "_rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_parameter"
        " _rebuild_parameter_with_state _rebuild_qtensor _rebuild_sparse_tensor"
        " _rebuild_meta_tensor_no_storage _rebuild_nested_tensor _rebuild_wrapper_subclass"
        " _rebuild_device_tensor_from_numpy _rebuild_device_tensor_from_cpu_tensor",
        "torch.nn.parameter": "Parameter",
        "torch.serialization": "_get_layout",
        "torch.torch_version": "TorchVersion",
    }
)

CALLERS = frozenset(
    {
        "collections.defaultdict",
        "copyreg._reconstructor",
        "numpy.random._pickle.__bit_generator_ctor",
        "numpy.random._pickle.__generator_ctor",
        "numpy.random._pickle.__randomstate_ctor",
        "numpy.random.bit_generator.__pyx_unpickle_SeedSequence",
    }
)
"""What would itself call its arguments, now or later: they have to be harmless too. NumPy's
`__generator_ctor("rm -r x", os.system)` is a shell command."""

_CLASSES_IN = frozenset(
    {
        "accelerate.state",
        "accelerate.utils.dataclasses",
        "deepspeed.runtime.fp16.loss_scaler",
        "deepspeed.runtime.zero.config",
        "lightning.fabric.utilities.data",
        "lightning.pytorch.utilities.parsing",
        "lightning_fabric.utilities.data",
        "omegaconf.base",
        "omegaconf.dictconfig",
        "omegaconf.listconfig",
        "omegaconf.nodes",
        "peft.utils.peft_types",
        "pytorch_lightning.utilities.parsing",
        "transformers.debug_utils",
        "transformers.integrations.deepspeed",
        "transformers.trainer_pt_utils",
        "transformers.trainer_utils",
        "transformers.training_args",
        "transformers.training_args_seq2seq",
        "sentence_transformers.training_args",
        "torch.distributed.checkpoint.metadata",
    }
)
"""Modules of enums and dataclasses: their classes hold settings and nothing else."""

_CLASS_NAME = re.compile(r"_?[A-Z][A-Za-z0-9]*")
_SETTINGS_NAME = re.compile(r"_?[A-Z][A-Za-z0-9]*(Arguments|Args|Config)")


def is_harmless(target: Global) -> bool:
    """Tell whether calling this would only build data; a dotted name is looked through never."""
    if target.name in _HARMLESS.get(target.module, "").split():
        return True
    return target.module in _CLASSES_IN and _CLASS_NAME.fullmatch(target.name) is not None


def is_settings_class(target: Global) -> bool:
    """Tell whether a name is that of a class of settings outside the standard library.

    `training_args.bin` is an instance of a class of the trainer's own, often of the script itself
    (``__main__.TrainingArguments``). To make one without arguments and to set its fields only
    builds data; with arguments it would be a call.
    """
    package = target.module.partition(".")[0]
    return package not in sys.stdlib_module_names and bool(_SETTINGS_NAME.fullmatch(target.name))
