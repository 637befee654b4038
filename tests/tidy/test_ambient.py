"""Time, entropy and threads come from `Env`; order and numbers are the same on every machine."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.tidy.source import at, dotted, files, imports, nodes

AMBIENT_MODULES = {
    "time", "random", "secrets", "uuid", "threading", "multiprocessing", "concurrent", "asyncio",
}  # fmt: skip
AMBIENT_CALLS = {
    "os.urandom", "os.getrandom", "datetime.now", "datetime.utcnow", "datetime.today",
    "date.today", "datetime.datetime.now", "datetime.date.today", "trio.to_thread.run_sync",
    "trio.from_thread.run", "trio.from_thread.run_sync", "os.fork",
}  # fmt: skip

ALLOWED = {
    ("aonode/env.py", "time"): "this is where the clock comes from",
    ("aonode/env.py", "os.urandom"): "this is where entropy comes from",
    ("aonode/env.py", "trio.to_thread.run_sync"): "this is where threads come from",
    ("aonode/net/libp2p_router.py", "time"): "overrides a method of a library that keeps wall time",
    ("aonode/engine/config.py", "threading"): "the stack size of threads that will run wasm",
    ("aonode/engine/wasm.py", "threading"): "a lock: one engine serves many worker threads",
    ("aonode/store/memory.py", "threading"): "a lock: stores are read from worker threads",
    ("aonode/http/server.py", "trio.to_thread.run_sync"): "hypercorn asks for it, starlette never",
    ("aonode/http/server.py", "trio.from_thread.run"): "hypercorn asks for it, starlette never",
}
"""Each exception, and why it can change no result and no schedule of the simulator."""


def ambient(path: Path) -> dict[str, str]:
    """What a file takes from its surroundings, and where."""
    found: dict[str, str] = {}
    for node, name in imports(path):
        module = name.split(".")[0]
        if module in AMBIENT_MODULES:
            found.setdefault(module, at(path, node))
        elif name in AMBIENT_CALLS:
            found.setdefault(name, at(path, node))
    for node in nodes(path):
        name = dotted(node)
        if name in AMBIENT_CALLS:
            found.setdefault(name, at(path, node))
    return found


def test_time_entropy_and_threads_come_from_env() -> None:
    wrong = [
        f"{where} uses {name}: take it from Env"
        for path in files(".py", "protocols", "aonode")
        for name, where in ambient(path).items()
        if (str(path), name) not in ALLOWED
    ]
    assert not wrong, "\n".join(wrong)


def test_no_exception_outlives_its_reason() -> None:
    used = {(str(path), name) for path in files(".py", "aonode") for name in ambient(path)}
    assert not ALLOWED.keys() - used, "take these out of ALLOWED"


def test_protocols_have_no_floating_point() -> None:
    wrong = [
        at(path, node)
        for path in files(".py", "protocols")
        for node in nodes(path)
        if (isinstance(node, ast.Constant) and isinstance(node.value, float))
        or (isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div))
        or (isinstance(node, ast.Call) and dotted(node.func) == "float")
    ]
    assert not wrong, f"use integers, basis points or //: {wrong}"


def test_protocols_never_walk_a_set() -> None:
    wrong = [
        at(path, node)
        for path in files(".py", "protocols")
        for node in nodes(path)
        if isinstance(node, ast.For | ast.comprehension) and makes_a_set(node.iter)
    ]
    assert not wrong, f"its order differs from run to run, sort it: {wrong}"


def makes_a_set(node: ast.AST) -> bool:
    """True for a set display, comprehension or constructor, also behind list() or enumerate()."""
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.BinOp):
        return makes_a_set(node.left) or makes_a_set(node.right)
    if isinstance(node, ast.Call):
        name = dotted(node.func)
        if name in {"set", "frozenset"}:
            return True
        return name in {"list", "tuple", "enumerate"} and any(map(makes_a_set, node.args))
    return False


def test_protocols_never_ask_for_an_identity_or_a_hash() -> None:
    wrong = [
        at(path, node)
        for path in files(".py", "protocols")
        for node in nodes(path)
        if isinstance(node, ast.Call)
        and dotted(node.func) in {"id", "hash"}
        and not isinstance(node.args[0], ast.Attribute)
    ]
    assert not wrong, f"these differ from run to run: {wrong}"
