"""Coins, stakes and acceptance by the command line, against real nodes with a fast ledger."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio

from aonode.client import module_item
from aonode.config import write_network
from aonode.crypto.keys import new_key
from aonode.crypto.signers import Ed25519Signer
from aonode.env import ProductionEnv
from aonode.local_network import (
    BALANCE,
    STAKE,
    LocalNetwork,
    local_network,
    run_command,
)
from aonode.processes import token_wasm
from aonode.running import Running, write_running
from protocols.ids import address_of, b64url
from protocols.outbox import FORMAT_CBOR
from protocols.parameters import demo_parameters

TOKEN = 10**9
SLASHED_S_MAX = 120.0
UNITS = 4
"""Messenger, scheduler and two compute units: each has a stake."""
PARAMETERS = replace(
    demo_parameters(),
    tick_ms=250,
    challenge_window=40,
    demand_window=40,
    unbonding=8,
    mint_epoch=1 << 20,
    root_every=4,
    proof_every=4,
)


class Shell:
    """Runs verbs beside a network that is up."""

    def __init__(self, directory: Path, local: LocalNetwork) -> None:
        self.directory = directory
        self.local = local
        self._environment = {k: v for k, v in os.environ.items() if not k.startswith("AONODE_")}

    async def __call__(self, *arguments: str, code: int = 0) -> str:
        """Standard output; for another exit code than 0 standard error."""
        done = await trio.run_process(
            [sys.executable, "-m", "aonode", *arguments, "--data-dir", "client"],
            cwd=self.directory,
            env=self._environment,
            capture_stdout=True,
            capture_stderr=True,
            check=False,
        )
        told = f"{arguments}: {done.returncode}\n{done.stderr.decode()}"
        assert done.returncode == code, f"{told}\n{self.local.tails()}"
        return (done.stdout if code == 0 else done.stderr).decode().strip()

    async def json(self, *arguments: str) -> Any:
        return json.loads(await self(*arguments, "--json"))

    def key(self, name: str) -> Sequence[str]:
        """The option that makes a node's own key sign."""
        return ("--key", str(self.local.nodes[name].data.key))


@asynccontextmanager
async def shell(root: Path, **options: Any) -> AsyncIterator[Shell]:
    """A network, and a client's directory beside it."""
    env = ProductionEnv()
    network_root, client = root / "network", root / "client"
    network_root.mkdir()
    client.mkdir()
    options = {"computes": 2, "parameters": PARAMETERS, **options}
    async with local_network(network_root, env, **options) as local:
        write_network(client / "network.toml", local.network)
        new_key(client / "client-key.json", env.entropy("key", 32))
        roles = ("messenger", "scheduler", "compute")
        urls = {role: local.urls(role) for role in roles}
        write_running(client, Running(os.getpid(), "", [], urls))
        yield Shell(root, local)


@pytest.mark.slow
async def test_coins_and_stakes(tmp_path: Path) -> None:
    async with shell(tmp_path) as run:
        told = await run.json("ledger", "show")
        assert told["genesis"] == UNITS * (STAKE + BALANCE) * TOKEN
        assert told["bonded"] == UNITS * STAKE * TOKEN
        assert await run("ledger", "balance") == "0"
        filled = await run.json("ledger", "faucet")
        assert (filled["action"], filled["notes"][0]["kind"]) == ("Faucet", "done")
        assert await run("ledger", "balance") == "10,000"
        account = filled["account"]
        await run("ledger", "transfer", account, "2.5", *run.key("cu1"))
        assert await run("ledger", "balance", account) == "10,002.5"
        refused = await run("ledger", "transfer", account, "20000", code=1)
        assert "the ledger refused Transfer" in refused

        refused = await run("stake", "add", "999", code=1)
        assert "is below 1000000000000" in refused
        assert "nothing can be withdrawn" in await run("stake", "withdraw", code=1)
        await run("stake", "add", "1500")
        shown = await run.json("stake", "show")
        assert (shown["stake"], shown["balance"]) == (1500 * TOKEN, 8502_500_000_000)
        session = new_key(tmp_path / "session.json", b"s" * 32)
        await run("stake", "delegate", "session.json")
        shown = await run.json("stake", "show", b64url(session.address))
        assert shown["session_of"] == account
        await run("stake", "remove", "1500")
        shown = await run.json("stake", "show")
        (waiting,) = shown["unbonding"]
        assert (shown["stake"], waiting["amount"]) == (0, 1500 * TOKEN)
        await reach(run, waiting["tick"])
        await run("stake", "withdraw")
        assert await run("ledger", "balance") == "10,002.5"
        units = (await run.json("ledger", "units"))["units"]
        assert sorted(row["stake"] for row in units) == [0] + [STAKE * TOKEN] * UNITS
        assert "nobody is accused" in await run("challenge", "list")


async def reach(run: Shell, tick: int) -> None:
    """Wait until a checkpoint is final."""
    with trio.fail_after(60):
        while (await run.json("ledger", "show"))["tick"] < tick:
            await trio.sleep(PARAMETERS.tick_ms / 1000)


@pytest.mark.slow
async def test_results_are_accepted_soft_and_hard(tmp_path: Path) -> None:
    async with shell(tmp_path) as run:
        module = await run("module", "publish")
        process = await run("spawn", module, "--tag", "Supply=100")
        messages = [await run("send", process, "--tag", "Action=Info") for _ in range(3)]
        message = messages[0]
        soft = ("result", process, message, "--quorum", "2", "--accept", "soft")
        await reach(run, 1)
        told = await run.json(*soft, "--value", "3000")
        found = told["acceptance"]
        assert (found["accepted"], found["at_risk"]) == (True, 3000 * TOKEN)
        assert len(found["units"]) == len(told["units"]) == 2
        assert told["status"] == "OK"
        other = ("result", process, messages[1], *soft[3:], "--value", "1")
        assert "behind other results" in await run(*other, code=1)
        too_many = ("result", process, message, "--quorum", "3", "--accept", "soft")
        assert "2 units with a stake answered" in await run(*too_many, code=1)

        hard = ("result", process, message, "--quorum", "2", "--accept", "hard")
        saved = ("--wait", "--timeout", "120", "--save", "saved.json")
        told = (await run.json(*hard, *saved))["acceptance"]
        assert told["accepted"], told["reasons"]
        assert told["tick"] >= told["hard_tick"] > PARAMETERS.challenge_window
        text = await run(*hard)
        assert "accepted hard at checkpoint" in text
        proved = await run.json("prove", "saved.json")
        assert proved["holds"]
        assert {step["step"] for step in proved["steps"]} >= {"checkpoint", "stake", "agreement"}
        assert "one unit says so" in await stderr(run, "result", process, message)

        raised = await run.json("challenge", "raise", "saved.json")
        assert [len(row["taken_by"]) for row in raised["statements"]] == [2, 2]
        cases = await run.json("challenge", "list")
        assert cases["cases"] == cases["fines"] == [], "an honest unit's receipt harms nobody"

        await run("send", process, "--save", "message.item")
        await run("ledger", "faucet")
        told = await run.json("challenge", "censored", "message.item")
        assert (told["action"], told["notes"][0]["kind"]) == ("Demand", "done")
        told = await run.json("challenge", "list")
        while any(not row["answered"] for row in told["demands"]):
            assert "SCHEDULE" in await run("challenge", "list")
            told = await run.json("challenge", "list")
        assert told["cases"] == told["fines"] == told["unhosted"] == [], "it has its slot"


def command(config: Path) -> list[str]:
    """The second compute unit lies about balances."""
    if config.parent.name != "cu2":
        return run_command(config)
    lies = ("-m", "aonode.cli.liar", "--lie", "balance", "--config", str(config))
    return [sys.executable, *lies]


@pytest.mark.slow
async def test_a_lie_is_refused_and_handed_over_until_it_is_punished(tmp_path: Path) -> None:
    signer = Ed25519Signer(b"m" * 32)
    module = module_item(signer, token_wasm(), FORMAT_CBOR, bytes(32))
    options = {"computes": 3, "command": command, "slashable_modules": (module.id,)}
    async with shell(tmp_path, **options) as run:
        (mu,) = run.local.urls("messenger")
        async with httpx.AsyncClient(trust_env=False) as http:
            (await http.post(f"{mu}/tx", content=module.raw)).raise_for_status()
        process = await run("spawn", b64url(module.id), "--tag", "Supply=100")
        message = await run("send", process, "--tag", "Action=Balances")
        await reach(run, 1)
        asked = ("result", process, message, "--quorum", "2", "--accept", "soft")
        refused = json.loads(await refusal(run, *asked, "--json"))["acceptance"]
        liar = run.local.nodes["cu2"].key
        assert (refused["accepted"], len(refused["disagree"])) == (False, 3)
        assert refused["reasons"][0].startswith("do not rely on this result")
        assert b64url(liar) in refused["reasons"][0]
        assert len({row["output"] for row in refused["disagree"]}) == 2
        assert all(len(row["taken_by"]) >= 2 for row in refused["handed_over"])
        with trio.fail_after(SLASHED_S_MAX):
            while not (cases := (await run.json("challenge", "list"))["cases"]):
                await trio.sleep(0.5)
        assert [case["account"] for case in cases] == [b64url(address_of(liar))]
        # Once that is final, the others are believed again.
        told = await run.json(*asked, "--wait", "--timeout", "60")
        found = told["acceptance"]
        assert (found["accepted"], len(found["units"])) == (True, 2)
        assert any("says something else" in warning for warning in found["warnings"])


async def refusal(run: Shell, *arguments: str) -> str:
    """What a verb prints before it fails."""
    done = await trio.run_process(
        [sys.executable, "-m", "aonode", *arguments, "--data-dir", "client"],
        cwd=run.directory,
        capture_stdout=True,
        capture_stderr=True,
        check=False,
    )
    assert done.returncode == 1
    return done.stdout.decode()


async def stderr(run: Shell, *arguments: str) -> str:
    """What a verb that succeeds warns of."""
    done = await trio.run_process(
        [sys.executable, "-m", "aonode", *arguments, "--data-dir", "client"],
        cwd=run.directory,
        capture_stdout=True,
        capture_stderr=True,
    )
    return done.stderr.decode()
