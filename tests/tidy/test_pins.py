"""Why four dependencies are pinned exactly, each with the behaviour that the pin protects.

To move a pin: change it in pyproject.toml, read the library's changes, run these tests, and mend
what they show. They are here so that a newer release cannot slip in unread.
"""

from __future__ import annotations

import importlib
import inspect
import re
import tomllib
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cbor2
import pytest
import wasmtime

from protocols.codec import decode
from protocols.errors import Invalid
from simnet import determinism
from tests.tidy.source import files, module_name, text

PINNED = ("trio", "libp2p", "wasmtime", "cbor2")


def pins() -> dict[str, str]:
    """Exactly pinned dependencies of the project and their versions, extras left out."""
    project = tomllib.loads(text(Path("pyproject.toml")))["project"]
    pinned = {}
    for line in project["dependencies"]:
        name, _, release = line.partition("==")
        assert release, f"{line!r} is not pinned; nobody has run the tests with what comes next"
        pinned[name.partition("[")[0]] = release
    return pinned


def test_trio_is_pinned_because_the_simulator_sets_its_private_scheduling_switches() -> None:
    # One seed, one schedule; another seed, another. Both rest on two private names of trio.
    determinism.check()


LIBRARY_HOOKS = {
    "Pubsub.push_msg",
    "Pubsub.continuously_read_stream",
    "Pubsub.handle_sending_messages",
    "Pubsub.notify_subscriptions",
    "GossipSub.mesh_heartbeat",
    "GossipSub.handle_ihave",
    "GossipSub.handle_iwant",
    "GossipSub._emit_control_msgs",
    "GossipSub._handle_topic_heartbeat",
}
"""Methods of py-libp2p without whose replacement a peer can stop or starve a node."""


@pytest.mark.slow
def test_libp2p_is_pinned_because_the_adapter_replaces_its_inner_methods() -> None:
    replaced = set()
    for path in files(".py", "aonode/net"):
        if not path.stem.startswith("libp2p_"):
            continue
        module = importlib.import_module(module_name(path))
        for _, ours in inspect.getmembers(module, inspect.isclass):
            if ours.__module__ == module.__name__:
                replaced |= replacements(ours)
    missing = LIBRARY_HOOKS - replaced
    assert not missing, f"no longer there to be replaced, or no longer replaced: {missing}"


def replacements(ours: type) -> set[str]:
    """Methods that a class of ours replaces in py-libp2p; their parameters must fit."""
    found = set()
    bases = [base for base in ours.__mro__[1:] if base.__module__.startswith("libp2p.")]
    for name, method in vars(ours).items():
        theirs = next((vars(base)[name] for base in bases if name in vars(base)), None)
        if theirs is None or name.startswith("__") or not inspect.isfunction(theirs):
            continue
        assert accepts(method, theirs), (
            f"{ours.__name__}.{name}{inspect.signature(method)} replaces "
            f"{theirs.__qualname__}{inspect.signature(theirs)}"
        )
        found.add(theirs.__qualname__)
    return found


def accepts(method: Any, theirs: Any) -> bool:
    """True iff every call that `theirs` takes by name, `method` takes too."""
    own = inspect.signature(method).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in own.values()):
        return True
    return own.keys() == inspect.signature(theirs).parameters.keys()


FUEL_WAT = """(module (memory 1)
  (func (export "loop") (param i32)
    (loop (local.set 0 (i32.sub (local.get 0) (i32.const 1))) (br_if 0 (local.get 0))))
  (func (export "fill") (param i32)
    (memory.fill (i32.const 0) (i32.const 7) (local.get 0))))"""


@pytest.mark.parametrize(
    ("function", "argument", "fuel"),
    [("loop", 1, 7), ("loop", 1000, 6001), ("fill", 0, 5), ("fill", 65536, 65541)],
)
def test_wasmtime_is_pinned_because_its_fuel_is_in_every_leaf(
    function: str, argument: int, fuel: int
) -> None:
    # Fuel is part of what is signed: a release that counts otherwise is another profile.
    config = wasmtime.Config()
    config.consume_fuel = True
    engine = wasmtime.Engine(config)
    store = wasmtime.Store(engine)
    store.set_fuel(1_000_000)
    instance = wasmtime.Instance(store, wasmtime.Module(engine, FUEL_WAT), [])
    before = store.get_fuel()
    call = instance.exports(store)[function]
    assert isinstance(call, wasmtime.Func)
    call(store, argument)
    assert before - store.get_fuel() == fuel


@pytest.mark.parametrize(
    ("head", "value"),
    [("17", 23), ("1818", 24), ("190100", 256), ("1a00010000", 1 << 16), ("3903e7", -1000)],
)
def test_cbor2_is_pinned_because_its_shortest_heads_are_the_canonical_form(
    head: str, value: int
) -> None:
    # Ids and signatures are taken over what it writes: another head is another id.
    assert cbor2.dumps(value).hex() == head


@pytest.mark.parametrize(
    ("blob", "what"),
    [
        ("d8236161", re.Pattern),  # a regular expression of the peer's choice
        ("d81c81d81d00", list),  # a list that contains itself
        ("a0", dict),
    ],
)
def test_cbor2_reads_what_the_scanner_must_refuse(blob: str, what: type) -> None:
    assert isinstance(cbor2.loads(bytes.fromhex(blob)), what)
    with pytest.raises(Invalid):
        decode(bytes.fromhex(blob), size_max=100)


def test_every_dependency_runs_in_its_pinned_release() -> None:
    assert set(PINNED) <= pins().keys()
    wrong = {name: version(name) for name, pin in pins().items() if version(name) != pin}
    assert not wrong, f"installed, but not what pyproject.toml says: {wrong}"
