"""New names for the tensors of an adapter: wrappers taken out, PEFT's prefix put in front.

`auto` changes what the rule `adapter-keys-load-nothing` speaks of, and the adapter's own name,
which some versions of loaders trip over; rules of the user's own replace a prefix or fill a
pattern. How PEFT looks keys up: `set_peft_model_state_dict` in src/peft/utils/save_and_load.py of
https://github.com/huggingface/peft.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from sentinel.checkpoint import Tensor
from sentinel.errors import ConfigError, RepairError
from sentinel.formats.roles import PEFT_PREFIX
from sentinel.formats.wrappers import adapter_name, without_adapter_name

AUTO = "auto"

_ADAPTER_ROLES = frozenset({"lora_up", "lora_down", "lora_mid", "magnitude", "adapter"})
_WRAPPERS = frozenset({"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
_FRONT = "module"
_HOLDERS = ("model.", "net.", "network.", "_forward_module.")
_NO_MODULE = re.compile(r"^(prompt_embeddings|prefix_task_|bundle_emb)")
_PEFT_FILE = re.compile(r"(^|/)adapter_model\.(safetensors|bin)$")
_PEFT_ROOT = "base_model."
_PACKED = ("._scale", "._shift")
_PEFT_NAMES = (
    (re.compile(r"\.lora_down\.(weight|bias)$"), r".lora_A.\1"),
    (re.compile(r"\.lora_up\.(weight|bias)$"), r".lora_B.\1"),
)
_SAVED = re.compile(r"\.modules_to_save\.([^.]+)\.")
_ROLES_UNDER_MODEL = _ADAPTER_ROLES - {"adapter"}
_SPLIT = re.compile(r"(\*)")


@dataclass(frozen=True, slots=True)
class KeyRule:
    """One rule of the user's: a prefix, or a pattern whose `*` stand for anything, and the new."""

    old: str
    new: str

    def apply(self, key: str) -> str:
        """Return the key's new name, the key itself where the rule does not fit."""
        if "*" not in self.old:
            return self.new + key.removeprefix(self.old) if key.startswith(self.old) else key
        pattern = "".join("(.*?)" if part == "*" else re.escape(part) for part in _parts(self.old))
        match = re.fullmatch(pattern, key)
        if match is None:
            return key
        found = iter(match.groups())
        return "".join(next(found) if part == "*" else part for part in _parts(self.new))


@dataclass(frozen=True, slots=True)
class KeyRules:
    """What becomes of keys: what `auto` does first, then each rule in turn."""

    auto: bool = False
    rules: tuple[KeyRule, ...] = ()

    def __bool__(self) -> bool:
        """Tell whether any key could change."""
        return self.auto or bool(self.rules)


def key_rules_of(texts: Iterable[str]) -> KeyRules:
    """Return what `--rename-keys` asks for: `auto`, or `OLD=NEW`.

    Raises ConfigError for a text that is neither, and for a pattern whose two sides do not have
    the same number of `*`.
    """
    auto, rules = False, []
    for text in texts:
        old, equals, new = text.partition("=")
        if text == AUTO:
            auto = True
            continue
        if not equals or not old:
            raise _wrong(text, "is neither 'auto' nor OLD=NEW")
        if "*" in old + new and old.count("*") != new.count("*"):
            raise _wrong(text, "does not have as many * on both sides")
        rules.append(KeyRule(old, new))
    return KeyRules(auto, tuple(rules))


def new_keys(tensors: Sequence[Tensor], rules: KeyRules) -> Mapping[str, str]:
    """Return the tensors' new keys by the old ones, only those that change.

    Raises RepairError when two tensors would have one key, and when a key would be empty.
    """
    found: dict[str, str] = {}
    taken: dict[str, str] = {}
    auto = _Automatic(tensors) if rules.auto else None
    for tensor in tensors:
        key = auto.key(tensor) if auto else tensor.name
        for rule in rules.rules:
            key = rule.apply(key)
        other = taken.setdefault(key, tensor.name)
        if other != tensor.name:
            raise RepairError(
                f"keys '{other:.200}' and '{tensor.name:.200}'",
                fact=f"would both become '{key:.200}'",
                todo="rename fewer keys, or other ones",
            )
        if not key:
            raise RepairError(
                f"key '{tensor.name:.200}'", fact="would be empty", todo="give it a name"
            )
        if key != tensor.name:
            found[tensor.name] = key
    return found


class _Automatic:
    """What is known of all keys together, before one is changed."""

    def __init__(self, tensors: Iterable[Tensor]) -> None:
        names = {tensor.name for tensor in tensors}
        self._names = names
        self._before_marker = frozenset(
            name.partition(".lora_")[0] for name in names if ".lora_" in name
        )
        adapters = {found for found in map(adapter_name, names) if found}
        # Of several adapters in one file their names tell which is which.
        self._adapter = adapters.pop() if len(adapters) == 1 else None
        self._saves_one = len({found[1] for found in map(_SAVED.search, names) if found}) == 1

    def key(self, tensor: Tensor) -> str:
        key = _unwrapped(tensor.name)
        key = self._unpacked(key, tensor)
        if tensor.role in _ADAPTER_ROLES or ".lora_" in key:
            key = self._without_inner_layer(key)
            key = self._without_adapter(key)
        if not _PEFT_FILE.search(tensor.member) or _NO_MODULE.match(key):
            return key
        if self._saves_one:
            key = _SAVED.sub(".", key)
        return _as_peft(key, tensor)

    def _unpacked(self, key: str, tensor: Tensor) -> str:
        """Take optimum-quanto's `_data` off what is not packed."""
        stem = tensor.name.removesuffix("._data")
        is_packed = any(f"{stem}{part}" in self._names for part in _PACKED)
        return key if is_packed or stem == tensor.name else key.removesuffix("._data")

    def _without_inner_layer(self, key: str) -> str:
        """Take `base_layer` out, unless the adapter around it lies beside it."""
        before, found, after = key.partition(".base_layer.")
        if not found or before in self._before_marker:
            return key
        return self._without_inner_layer(f"{before}.{after}")

    def _without_adapter(self, key: str) -> str:
        if self._adapter is None or adapter_name(key) != self._adapter:
            return key
        return without_adapter_name(key)


def _unwrapped(key: str) -> str:
    segments = [one for one in key.split(".") if one not in _WRAPPERS] or [key]
    while len(segments) > 1 and segments[0] == _FRONT:
        del segments[0]
    return ".".join(segments)


def _as_peft(key: str, tensor: Tensor) -> str:
    for holder in _HOLDERS:
        if key.startswith(holder + PEFT_PREFIX):
            key = key.removeprefix(holder)
    if tensor.role in _ADAPTER_ROLES:
        for pattern, named in _PEFT_NAMES:
            key = pattern.sub(named, key)
    if key.startswith(PEFT_PREFIX):
        return key
    if not key.startswith(_PEFT_ROOT):
        return PEFT_PREFIX + key
    # What all modules share lies there; a module of its own does not.
    is_shared = tensor.role not in _ROLES_UNDER_MODEL
    return key if is_shared else PEFT_PREFIX + key.removeprefix(_PEFT_ROOT)


def _parts(text: str) -> list[str]:
    return [part for part in _SPLIT.split(text) if part]


def _wrong(text: str, fact: str) -> ConfigError:
    return ConfigError(
        f"renaming '{text:.200}'", fact=fact, todo="write auto, OLD=NEW, or A.*.B=A.*.C"
    )
