"""Imports point one way, and each foreign library has one home."""

from __future__ import annotations

import ast
import graphlib
import sys
from fnmatch import fnmatch

import pytest

from tests.tidy.source import PACKAGES, SHIPPED, at, files, imports, modules, names_imported, tree

PURE = {"cbor2", "blake3"}
"""Foreign libraries of the specification: one encoding, one hash, both pure functions."""

IMPURE_STANDARD = {
    "asyncio", "concurrent", "ctypes", "datetime", "io", "logging", "mmap", "multiprocessing",
    "os", "pathlib", "platform", "queue", "random", "resource", "secrets", "selectors", "shutil",
    "signal", "socket", "sqlite3", "ssl", "subprocess", "tempfile", "threading", "time", "urllib",
    "uuid", "weakref",
}  # fmt: skip
"""Standard modules through which a clock, a random number, a thread or a file comes in."""

HOMES = {
    "libp2p": "aonode/net/libp2p_*.py",
    "plyvel": "aonode/store/level.py",
    "wasmtime": "aonode/engine/*.py",
    "starlette": "aonode/http/*.py",
    "hypercorn": "aonode/http/*.py",
    "nacl": "aonode/crypto/*.py aonode/net/libp2p_*.py",
    "coincurve": "aonode/crypto/*.py",
    "Crypto": "aonode/crypto/*.py",
    "cryptography": "aonode/crypto/*.py",
    "cbor2": "protocols/codec.py",
}
"""Where each library may be imported, so that it can be replaced by changing one place."""

AONODE_ORDER = (
    "toml_files", "env", "ports", "config", "running", "api", "ops", "crypto", "verify_result",
    "store", "engine", "processes", "log_check", "net", "roles", "http", "http_transport",
    "asking", "client", "accept", "node", "service", "local_network", "demo", "cli", "__main__",
)  # fmt: skip
"""The parts of a node: each imports only parts that stand before it."""

PROTOCOLS_LAST = "protocols.machine"
"""What decides stands on what crosses the network, never the other way round."""


def test_packages_import_only_what_stands_below_them() -> None:
    rank = {name: place for place, name in enumerate(PACKAGES)}
    wrong = [
        f"{at(path, node)} imports {name}"
        for path in files(".py", *PACKAGES)
        for node, name in imports(path)
        if rank.get(name.split(".")[0], -1) > rank[path.parts[0]]
    ]
    assert not wrong, "\n".join(wrong)


def test_nothing_imports_relatively() -> None:
    wrong = [
        at(path, node)
        for path in files(".py", *PACKAGES)
        for node in ast.walk(tree(path))
        if isinstance(node, ast.ImportFrom) and node.level
    ]
    assert not wrong, f"write the full name of the module: {wrong}"


def test_protocols_import_nothing_impure() -> None:
    allowed = (set(sys.stdlib_module_names) - IMPURE_STANDARD) | PURE | {"protocols"}
    wrong = [
        f"{at(path, node)} imports {name}"
        for path in files(".py", "protocols")
        for node, name in imports(path)
        if name.split(".")[0] not in allowed
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", HOMES)
def test_a_library_is_imported_in_its_home_only(library: str) -> None:
    wrong = [
        f"{at(path, node)} imports {name}"
        for path in files(".py", *SHIPPED)
        for node, name in imports(path)
        if name.split(".")[0] == library
        and not any(fnmatch(str(path), home) for home in HOMES[library].split())
    ]
    assert not wrong, f"{library} lives in {HOMES[library]}:\n" + "\n".join(wrong)


def test_parts_of_a_node_import_only_parts_before_them() -> None:
    rank = {name: place for place, name in enumerate(AONODE_ORDER)}
    wrong = []
    for path in files(".py", "aonode"):
        part = path.with_suffix("").parts[1]
        if part == "__init__":
            continue
        assert part in rank, f"{path} is a new part: give it its place in AONODE_ORDER"
        wrong += [
            f"{at(path, node)} imports {name}"
            for node, name in imports(path)
            if name.startswith("aonode.") and rank.get(name.split(".")[1], 0) > rank[part]
        ]
    assert not wrong, "\n".join(wrong)


def test_http_knows_the_node_by_its_api_only() -> None:
    wrong = [
        f"{at(path, node)} imports {name}"
        for path in files(".py", "aonode/http")
        for node, name in imports(path)
        if name.startswith(("aonode.roles", "aonode.net", "aonode.store", "aonode.engine"))
    ]
    assert not wrong, "\n".join(wrong)


def test_machines_stand_above_the_rest_of_the_specification() -> None:
    wrong = [
        f"{at(path, node)} imports {name}"
        for path in files(".py", "protocols")
        if path.parts[1] != "machine"
        for node, name in imports(path)
        if name.startswith(PROTOCOLS_LAST)
    ]
    assert not wrong, "\n".join(wrong)


def test_modules_do_not_import_in_circles() -> None:
    known = modules()
    graph = {
        name: {
            other
            for statement in tree(path).body
            for other in names_imported(statement)
            if other in known and other != name
        }
        for name, path in known.items()
    }
    tuple(graphlib.TopologicalSorter(graph).static_order())
