"""`aonode demo --liar`: one compute unit lies, and loses its stake."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from aonode.env import ProductionEnv

LIAR = "cu3"


async def run_liar(root: Path, *, lie: str, aos: bool, quiet: bool) -> tuple[dict[str, Any], bool]:
    """What `--json` prints, and whether the liar and nobody else was caught. Raises Invalid."""
    # libp2p and wasmtime are loaded only here.
    from aonode.cli import liar
    from aonode.client import ANCHOR_BYTES, module_item
    from aonode.crypto.signers import Ed25519Signer
    from aonode.demo import workload
    from aonode.demo.caught import LiarDemo
    from aonode.demo.show import Show
    from aonode.local_network import local_network, run_command

    def command(config: Path) -> Sequence[str]:
        if config.parent.name != LIAR:
            return run_command(config)
        return [sys.executable, "-m", liar.__name__, "--lie", lie, "--config", str(config)]

    show, env = Show(quiet=quiet), ProductionEnv()
    chosen = workload.aos() if aos else workload.token()
    signer = Ed25519Signer(env.entropy("key", 32))
    wasm = await env.offload(chosen.module)
    module = module_item(signer, wasm, chosen.format, env.entropy("anchor", ANCHOR_BYTES))
    show.title(f"Start: five nodes, each a process of its own; {LIAR} lies ({lie})")
    async with local_network(
        root, env, name="liar", slashable_modules=(module.id,), command=command
    ) as local:
        for node in local.nodes.values():
            assert node.process is not None, "local_network has started it"
            url = next(iter(node.urls.values()))
            show.say(f"  {node.name:7} pid {node.process.pid:<7} {url}  staked")
        demo = LiarDemo(
            root, local, chosen, show, env, liar=LIAR, lie=lie, signer=signer, module=module
        )
        caught = await demo.run()
    show.title("Summary")
    for name, value in asdict(caught).items():
        if name != "ledger_roots":
            show.say(f"  {name.replace('_', ' '):18} {value}")
    return asdict(caught), caught.passed
