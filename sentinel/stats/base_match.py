"""Which module of a base an adapter's module lies on, though libraries name it differently.

Transformers adds and drops prefixes when it loads (`model.` becomes `model.language_model.`), a
diffusers pipeline puts the component's name in front, kohya flattens dots to underscores, and
llama.cpp has names of its own.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from sentinel.stats.gguf_names import gguf_names, is_gguf_name

_LONGEST_PREFIX = 4
_FLAT_PREFIXES = ("lora_", "lycoris_")

_Prefixes = tuple[str, str]


def match_modules(adapter: Iterable[str], base: Iterable[str]) -> dict[str, str]:
    """Return the base's module for each of the adapter's modules that has one.

    The same name wins. Else the two may differ in a prefix without a layer's number; of several
    such prefixes the one that most modules have in common wins, so that a whole adapter moves
    together. No module of the base is given twice.
    """
    modules, known = list(dict.fromkeys(adapter)), set(base)
    found = {module: module for module in modules if module in known}
    free = known - found.keys()
    rest = [module for module in modules if module not in found]
    if any(map(is_gguf_name, rest)) != any(map(is_gguf_name, free)):
        found |= _renamed(rest, free)
        free -= set(found.values())
        rest = [module for module in rest if module not in found]
    found |= _flattened([module for module in rest if is_flat(module)], free)
    found |= _moved([module for module in rest if not is_flat(module)], free)
    return found


def is_flat(module: str) -> bool:
    """Tell whether a name is of kohya's kind, with underscores where the model has dots."""
    return "." not in module and module.startswith(_FLAT_PREFIXES)


def _renamed(modules: list[str], free: set[str]) -> dict[str, str]:
    """Return the matches of names of which one side's are llama.cpp's."""
    if not any(map(is_gguf_name, modules)):
        names = ((module, name) for module in modules for name in gguf_names(module))
        pairs = [(module, name) for module, name in names if name in free]
    else:
        own = set(modules)
        names = ((name, module) for module in sorted(free) for name in gguf_names(module))
        pairs = [(name, module) for name, module in names if name in own]
    found: dict[str, str] = {}
    for module, match in pairs:
        if module not in found and match not in found.values():
            found[module] = match
    return found


def _flattened(modules: list[str], free: set[str]) -> dict[str, str]:
    if not modules:
        return {}
    names: dict[str, str] = {}
    for module in sorted(free):
        names.setdefault(module.replace(".", "_"), module)
        names.setdefault(module.partition(".")[2].replace(".", "_"), module)
    found = {}
    for module in modules:
        name = module.partition("_")[2]
        # What follows may be the component: unet, te1, transformer.
        match = names.get(name) or names.get(name.partition("_")[2])
        if match is not None:
            found[module] = match
    return found


def _moved(modules: list[str], free: set[str]) -> dict[str, str]:
    if not modules:
        return {}
    votes = _votes(modules, free)
    ranked = sorted(votes, key=lambda pair: (-votes[pair], sum(map(len, pair)), pair))
    found: dict[str, str] = {}
    taken: set[str] = set()
    for own, theirs in ranked:
        for module in modules:
            if module in found or not _begins(module, own):
                continue
            match = _join(theirs, module[len(own) :].lstrip("."))
            if match in free and match not in taken:
                found[module] = match
                taken.add(match)
    return found


def _votes(modules: list[str], free: set[str]) -> Mapping[_Prefixes, int]:
    """Return how many modules each pair of prefixes, the adapter's and the base's, brings home."""
    tails: dict[str, list[str]] = {}
    for module in free:
        for prefix, tail in _splits(module):
            tails.setdefault(tail, []).append(prefix)
    return Counter(
        (own, theirs)
        for module in modules
        for own, tail in _splits(module)
        for theirs in tails.get(tail, ())
    )


def _splits(module: str) -> Iterator[tuple[str, str]]:
    """Yield the ways to cut a prefix off; it holds no number and leaves at least two segments.

    A cut behind a layer's number would make one layer of another.
    """
    segments = module.split(".")
    for width in range(min(_LONGEST_PREFIX, len(segments) - 2) + 1):
        if width and segments[width - 1].isdigit():
            return
        yield ".".join(segments[:width]), ".".join(segments[width:])


def _begins(module: str, prefix: str) -> bool:
    return not prefix or module.startswith(f"{prefix}.")


def _join(prefix: str, tail: str) -> str:
    return f"{prefix}.{tail}" if prefix else tail
