"""The project's own files, parsed once."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("protocols", "aonode", "simnet", "tests")
"""In the order in which they may import each other."""
SHIPPED = PACKAGES[:3]

_SKIPPED = {"node_modules", "__pycache__"}


@cache
def files(suffix: str, *tops: str) -> tuple[Path, ...]:
    """Files below `tops` (folders of the top level) with this suffix, relative, sorted."""
    found = (path for top in tops for path in (ROOT / top).rglob(f"*{suffix}"))
    kept = (path.relative_to(ROOT) for path in found if not _SKIPPED & set(path.parts))
    return tuple(sorted(kept))


@cache
def text(path: Path) -> str:
    """A file's text."""
    return (ROOT / path).read_text("utf-8")


@cache
def tree(path: Path) -> ast.Module:
    """A Python file's syntax tree."""
    return ast.parse(text(path), str(path))


def nodes(path: Path) -> Iterator[ast.AST]:
    """Every node of a Python file."""
    return ast.walk(tree(path))


def at(path: Path, node: ast.AST) -> str:
    """Where a node stands, as an editor takes it."""
    return f"{path}:{getattr(node, 'lineno', 1)}"


def module_name(path: Path) -> str:
    """Dotted name under which a Python file is imported."""
    return ".".join(path.with_suffix("").parts).removesuffix(".__init__")


@cache
def modules() -> dict[str, Path]:
    """Every module of the project by its dotted name."""
    return {module_name(path): path for path in files(".py", *PACKAGES)}


def names_imported(node: ast.AST) -> list[str]:
    """Dotted names an import statement may bind: of modules, and of what it takes out of them."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return []


def imports(path: Path) -> Iterator[tuple[ast.AST, str]]:
    """Every import of a file, wherever it stands, with the dotted names it may bind."""
    for node in nodes(path):
        for name in names_imported(node):
            yield node, name


def dotted(node: ast.AST) -> str:
    """`a.b.c` for an expression of names and attributes, else an empty string."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        before = dotted(node.value)
        return f"{before}.{node.attr}" if before else ""
    return ""
