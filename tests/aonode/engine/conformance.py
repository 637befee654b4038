"""What a profile means, as numbers: fuel, status and state root of fixed logs.

`python -m tests.aonode.engine.conformance` writes the vectors anew. If a release of wasmtime or a
change of ours alters one number, the profile has another meaning: give it another id, and know
that nodes of the two cannot agree.
"""

from __future__ import annotations

import json
from typing import Any

from aonode.ports import Session
from tests.aonode.engine.aos import MESSAGES, VECTORS, encode, make_aos_engine, open_module
from tests.aonode.engine.guests import COUNTER, open_small
from tests.aonode.engine.test_token import ALICE, BOB, OWNER, Token

PATH = VECTORS / "conformance.json"
REAL = ("aos2_0_6", "aos2_0_4_32")


def run(session: Session, calls: list[bytes]) -> dict[str, Any]:
    """Genesis root; fuel and status of each call; root after all."""
    genesis = session.state_root().hex()
    results = [session.run_slot(call) for call in calls]
    return {
        "genesis": genesis,
        "slots": [[int(result.status), result.fuel] for result in results],
        "root": session.state_root().hex(),
    }


def small_logs() -> dict[str, Any]:
    """The profile and the logs that need no real module."""
    token = Token(Name="Coin", Ticker="CN", Supply="1000000")
    sent = [
        token.send(OWNER, Action="Transfer", Recipient=ALICE, Quantity="300"),
        token.send(ALICE, Action="Transfer", Recipient=BOB, Quantity="301"),
        token.send(ALICE, Action="Transfer", Recipient=BOB, Quantity="7", X_Note="note"),
        token.send(OWNER, Action="Mint", Quantity="5"),
        token.send(BOB, Action="Balances"),
    ]
    return {
        "profile": make_aos_engine().profile.hex(),
        "counter": run(open_small(COUNTER), [b"x", b"g", b"e", b"t", b"l", b"b", b"x"]),
        "token": {
            "slots": [[int(r.status), r.fuel] for r in (token.boot, *sent)],
            "root": token.session.state_root().hex(),
        },
    }


def real_log(name: str) -> dict[str, Any]:
    """The golden messages on a real module."""
    calls = [encode(case["message"]) for case in MESSAGES["cases"]]
    return run(open_module(make_aos_engine(), name), calls)


def main() -> None:
    """Write the vectors."""
    vectors = small_logs() | {name: real_log(name) for name in REAL}
    PATH.write_text(json.dumps(vectors, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
