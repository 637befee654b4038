"""Every decoder of the project, found by its name, and how to call it.

A decoder is a public function or method of `protocols` or `aonode` called `decode`, `scan`,
`derive`, or `decode_`, `unpack_`, `parse_`, `read_`something, or one of `ALSO`, that takes bytes, a
text, an item or a document. What it needs besides is in `ARGUMENTS`, by parameter name. A new
decoder is found by itself; if it takes something new, the collection fails and says so.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from protocols.ids import ProcessId
from protocols.outbox import FORMAT_CBOR, Bounds
from protocols.parameters import demo_parameters
from protocols.wire.demand import ANSWERS
from protocols.wire.item import decode_item
from protocols.wire.outcome import Status
from protocols.wire.record import Record
from tests.tidy.source import files, module_name, tree

NAME = re.compile(r"decode|scan|derive|(decode|unpack|parse|read)_[a-z0-9_]+|parse")
ALSO = {
    "protocols.wire.assignment:assignment_of",
    "protocols.wire.evidence:statement_of",
    "protocols.wire.ledger_tx:transaction_of",
    "protocols.wire.process:process_info",
    "protocols.wire.zstd:check_frame",
    "aonode.engine.validator:check",
    "aonode.http.gateway:_question",
}
"""Decoders that are called otherwise."""
NOT = {
    "aonode.engine.code:read_unsigned": "an integer at a place that the reader has checked",
    "protocols.wire.record:Record.decode": "abstract: its heirs are here",
    "protocols.ledger.state:read_entry": "entries are read by the heirs of Record",
}
"""What is called so and decodes nothing of anybody else's."""
STORES = ".scan"
"""Ends the name of a store's walk over a range of keys, in classes."""
INPUTS = {
    "bytes": "bytes",
    "bytes | memoryview": "bytes",
    "Sequence[bytes]": "frames",
    "Sequence[bytes] | None": "frames",
    "Item": "item",
    "str": "text",
    "object": "document",
}
"""Annotation of the parameter that is decoded, and what it is fed."""
SIZE_MAX = 1 << 14
ARGUMENTS: dict[str, Any] = {
    "size_max": SIZE_MAX,
    "content_bytes": 1 << 10,
    "outcome_bytes_max": SIZE_MAX,
    "output_bytes_max": SIZE_MAX,
    "parameters": demo_parameters(),
    "bounds": Bounds(SIZE_MAX, 64),
    "count": 2,
    "status": Status.OK,
    "format": FORMAT_CBOR,
    "kind": 1,
    "variables": {},
    "what": "this",
    "process": ProcessId(bytes(32)),
    "timestamp": 7,
    "id": bytes(32),
}
"""Values of what decoders take besides the input."""
CHOICES: dict[str, tuple[Any, ...]] = {
    "format": (FORMAT_CBOR, "wasm32-unknown-emscripten4"),
    "count": (0, 1, 2, 128),
    "kind": tuple(range(len(ANSWERS))),
    "status": tuple(Status),
}
"""Parameters that have more than one interesting value."""


@dataclass(frozen=True)
class Decoder:
    """A decoder, what it eats, and which of its parameters the fuzzer chooses."""

    name: str
    call: Callable[..., Any]
    eats: str
    """`bytes`, `frames`, `item`, `text` or `document`."""
    input: str
    """Name of the parameter that is decoded."""
    fixed: dict[str, Any]
    chosen: tuple[str, ...]

    def __call__(self, fed: Any, **chosen: Any) -> Any:
        """Decode. What makes an item of bytes refuses some before the decoder sees them."""
        if self.eats == "item":
            fed = decode_item(fed, size_max=SIZE_MAX)
        elif self.eats == "text":
            fed = fed.decode("utf-8", "replace")
        elif self.eats == "frames":
            fed = [fed[at : at + 512] for at in range(0, len(fed), 512)]
        return self.call(**{self.input: fed}, **self.fixed, **chosen)


def decoders() -> dict[str, Decoder]:
    """Every decoder by `module:qualified.name`."""
    found: dict[str, Decoder] = {}
    for path in files(".py", "protocols", "aonode"):
        name = module_name(path)
        for qualified in _functions(tree(path).body, name + ":"):
            full = f"{name}:{qualified}"
            if full in NOT or ("." in qualified and qualified.endswith(STORES)):
                continue
            if full in ALSO or NAME.fullmatch(qualified.rsplit(".", 1)[-1]):
                decoder = _decoder(full, _resolve(importlib.import_module(name), qualified))
                found |= {full: decoder} if decoder else {}
    return found | {decoder.name: decoder for decoder in _records()}


def _functions(body: list[ast.stmt], prefix: str) -> Iterator[str]:
    """Qualified names of the functions and methods that are public, or in `ALSO`."""
    for node in body:
        if not isinstance(node, ast.ClassDef | ast.FunctionDef):
            continue
        full = prefix + node.name
        if node.name.startswith("_") and full not in ALSO:
            continue
        if isinstance(node, ast.ClassDef):
            yield from _functions(node.body, full + ".")
        else:
            yield full.split(":")[1]


def _resolve(module: ModuleType, qualified: str) -> Callable[..., Any]:
    found: Any = module
    for part in qualified.split("."):
        found = getattr(found, part)
    call: Callable[..., Any] = found
    return call


def heirs(base: type[Record]) -> Iterator[type[Record]]:
    """The records that say how their fields are read."""
    for heir in base.__subclasses__():
        if "READ" in vars(heir):
            yield heir
        yield from heirs(heir)


def _records() -> Iterator[Decoder]:
    """The heirs of Record, each read by the one `decode`."""
    for heir in heirs(Record):
        decoder = _decoder(f"{heir.__module__}:{heir.__qualname__}.decode", heir.decode)
        assert decoder is not None, "Record.decode takes bytes"
        yield decoder


def _decoder(name: str, call: Callable[..., Any]) -> Decoder | None:
    """None if nothing that it takes is on the list of inputs."""
    parameters = inspect.signature(call).parameters.values()
    given = {each.name: str(each.annotation) for each in parameters if each.name != "self"}
    foods = [
        each for each in parameters if given.get(each.name) in INPUTS and each.name not in ARGUMENTS
    ]
    if not foods:
        return None
    food = foods[0]
    needed = [
        each.name
        for each in parameters
        if each is not food and (each.default is each.empty or each.name in ARGUMENTS)
    ]
    unknown = [each for each in needed if each not in ARGUMENTS]
    assert not unknown, f"say in ARGUMENTS what {name} gets as {', '.join(unknown)}"
    return Decoder(
        name,
        call,
        INPUTS[given[food.name]],
        food.name,
        {each: ARGUMENTS[each] for each in needed if each not in CHOICES},
        tuple(each for each in needed if each in CHOICES),
    )
