"""Sizes, docstrings, broad excepts, and modules nobody uses."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from protocols.errors import Reason
from tests.tidy.source import (
    PACKAGES,
    ROOT,
    SHIPPED,
    at,
    dotted,
    files,
    imports,
    modules,
    nodes,
    text,
    tree,
)

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 70
BROAD_EXCEPT_HOMES = ("aonode/node.py", "aonode/net/libp2p_*.py")
"""Where one peer or one part could otherwise take the whole process down."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def test_files_can_be_read_in_one_sitting() -> None:
    sizes = {str(path): text(path).count("\n") for path in files(".py", *PACKAGES)}
    wrong = {path: lines for path, lines in sizes.items() if lines > FILE_LINES_MAX}
    assert not wrong, f"more than {FILE_LINES_MAX} lines: {wrong}"


def test_functions_fit_on_a_screen() -> None:
    wrong = [
        f"{at(path, node)} {node.name} has {lines(node)} lines"
        for path in files(".py", *PACKAGES)
        for node in nodes(path)
        if isinstance(node, Function) and lines(node) > FUNCTION_LINES_MAX
    ]
    assert not wrong, "\n".join(wrong)


def lines(node: Function) -> int:
    """Lines from `def` to the end of the body."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def test_broad_excepts_stand_in_two_places_only() -> None:
    wrong = [
        at(path, node)
        for path in files(".py", *SHIPPED)
        if not any(fnmatch(str(path), home) for home in BROAD_EXCEPT_HOMES)
        for node in nodes(path)
        if isinstance(node, ast.ExceptHandler) and catches_everything(node.type)
    ]
    assert not wrong, f"name what is expected here: {wrong}"


def catches_everything(caught: ast.expr | None) -> bool:
    """True for a bare except, and for one that names Exception or BaseException."""
    if caught is None:
        return True
    if isinstance(caught, ast.Tuple):
        return any(map(catches_everything, caught.elts))
    return dotted(caught) in {"Exception", "BaseException"}


def test_no_except_is_silent_about_everything() -> None:
    wrong = [
        at(path, node)
        for path in files(".py", *SHIPPED)
        for node in nodes(path)
        if isinstance(node, ast.ExceptHandler)
        and catches_everything(node.type)
        and all(isinstance(statement, ast.Pass) for statement in node.body)
    ]
    assert not wrong, f"a broad except counts or logs what it caught: {wrong}"


def test_public_names_of_the_specification_are_documented() -> None:
    wrong = [
        f"{where} {name}"
        for path in files(".py", "protocols")
        for where, name, documented in public(path)
        if not documented
    ]
    assert not wrong, "no docstring:\n" + "\n".join(wrong)


def public(path: Path) -> Iterator[tuple[str, str, bool]]:
    """The module, its public functions and classes: where, name, whether documented."""
    module = tree(path)
    if module.body:
        yield str(path), "the module", ast.get_docstring(module) is not None
    for node in module.body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            told = ast.get_docstring(node) is not None or is_one_expression(node)
            yield at(path, node), node.name, told


def is_one_expression(node: ast.stmt) -> bool:
    """True for a function whose body is one return: name, types and body tell all there is."""
    return isinstance(node, Function) and isinstance(node.body[0], ast.Return)


def test_every_module_is_used() -> None:
    used = {name for path in files(".py", *PACKAGES) for _, name in imports(path)}
    used |= set(re.findall(r'^\w+ = "([\w.]+):\w+"$', text(Path("pyproject.toml")), re.MULTILINE))
    wrong = [
        str(path)
        for name, path in modules().items()
        if name not in used
        and path.stem not in {"__init__", "__main__", "conftest", "check"}
        and not path.name.startswith("test_")
        and path.parts[:2] != ("tests", "bench")
    ]
    assert not wrong, f"nobody imports these, nor do they start anything: {wrong}"


def test_every_reason_is_given_by_somebody() -> None:
    given = {
        node.attr
        for path in files(".py", *SHIPPED)
        if path.name != "errors.py"
        for node in nodes(path)
        if isinstance(node, ast.Attribute) and dotted(node.value).endswith("Reason")
    }
    wrong = [reason.name for reason in Reason if reason.name not in given]
    assert not wrong, f"no refusal gives these reasons, take them out: {wrong}"


def test_no_test_is_switched_off() -> None:
    banned = {"pytest.mark.skip", "pytest.mark.skipif", "pytest.mark.xfail", "pytest.skip"}
    wrong = [
        at(path, node)
        for path in files(".py", "tests")
        for node in nodes(path)
        if dotted(node) in banned
    ]
    assert not wrong, f"a test runs or does not exist: {wrong}"


def test_nothing_is_left_open() -> None:
    words = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "NotImplemented" + "Error")
    wrong = [
        f"{path}:{number}"
        for path in files(".py", *PACKAGES)
        for number, line in enumerate(text(path).splitlines(), 1)
        if any(word in line for word in words)
    ]
    assert not wrong, f"finish it, or say in the docs that it is missing: {wrong}"


def test_packages_are_packages() -> None:
    folders = {path.parent for path in files(".py", *PACKAGES)}
    wrong = [str(folder) for folder in folders if not (ROOT / folder / "__init__.py").exists()]
    assert not wrong, f"no __init__.py: {wrong}"
