"""A trainer's own function by itself, taken out of its file without the libraries around it."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path


def extracted(
    file: Path, names: tuple[str, ...], around: Mapping[str, object]
) -> dict[str, object]:
    """Return functions and constants of a file, also those inside classes and functions.

    ``around`` holds what they use by name; annotations and decorators are left out.
    """
    found = []
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef) and node.name in names:
            node.decorator_list, node.returns = [], None
            for argument in (*node.args.args, *node.args.kwonlyargs):
                argument.annotation = None
            found.append(node)
        elif isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) in names:
            found.append(node)
    missing = set(names) - {getattr(one, "name", None) or one.targets[0].id for one in found}
    if missing:
        raise LookupError(f"{file} has no {sorted(missing)}")
    module = ast.fix_missing_locations(ast.Module(body=found, type_ignores=[]))
    space = dict(around)
    exec(compile(module, str(file), "exec"), space)
    return space
