"""What a challenge costs whom: attacker, challenger, and every node that folds the ledger.

Measured on the real engine and the real fold: evidence against a wrong receipt of a token
process, running its segment, folding it, and the same fact a second time. The worst case, every
slot at `fuel_max`, the largest items, witness and memory, is the measured work at the bounds of
the network's parameters. Stakes and bonds are those of the parameters; fuel and bytes become coins
at their `price_fuel` and `price_mib`; a second of processor time counts as `FUEL_PER_S`.
"""

from __future__ import annotations

import time
from argparse import Namespace
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from random import Random
from typing import Any, TypeVar

import zstandard

from aonode.crypto.verify import verify_ed25519, verify_item
from protocols import verdict as judging
from protocols.accumulator import Mmr
from protocols.court import Segment
from protocols.ids import ItemId
from protocols.ledger.demands import demand_bond
from protocols.ledger.disputes import MIB, evidence_bond
from protocols.ledger.draft import Draft
from protocols.limits import PAGE_BYTES
from protocols.machine.audit import accuse, check
from protocols.parameters import SHARE_WHOLE, Parameters, default_parameters
from protocols.wire.demand import LEAVES
from protocols.wire.evidence import (
    FraudProof,
    Witness,
    commitment,
    encode_evidence,
    evidence_bytes_max,
    evidence_hash,
)
from protocols.wire.item import Item
from protocols.wire.ledger_tx import (
    PART_BYTES_MAX,
    CommitEvidence,
    EvidencePart,
    RevealEvidence,
    Transfer,
)
from protocols.wire.proof import BLOCK_ENDS_MAX, Receipt, StateProof
from tests.bench.burning import burnt_fuel_per_s, restore_s_per_mib
from tests.protocols.cases.draws import Draws
from tests.protocols.cases.setting import Setting
from tests.protocols.cases.wasm import SLOTS_MAX, Wasm
from tests.protocols.ledger.world import RICH, STAKERS, TOKEN, Ledger, network, transaction
from tests.protocols.machine.world import Key

BYSTANDERS = (10, 100, 1000)
RATIO = 10
"""What an attacker pays at least, against all others together."""
SECOND_SHARE = 0.01
"""What a second Sybil on one fact costs bystanders at most, against the first."""
FUEL_PER_S = 5_000_000_000
"""Fuel that the parameters call a second (`fuel_max`). What this machine burns in an empty loop is
printed as `fuel_per_s`."""
COPIES = 6.4
"""Times a gossiped message reaches a node, with GossipSub's default degree."""
ASSIGNMENT_BYTES = 700
"""Of the ledger slot around an item: its assignment, and framing."""
WATCHER, LIAR, SYBIL = STAKERS[0], STAKERS[1], STAKERS[2]
T = TypeVar("T")


@dataclass(frozen=True)
class Cost:
    """Of one node."""

    cpu_s: float = 0.0
    fuel: int = 0
    """Of the modules it runs, beside `cpu_s`."""
    bytes: int = 0
    """Received, and kept with the log."""

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.cpu_s + other.cpu_s, self.fuel + other.fuel, self.bytes + other.bytes)

    def tokens(self, parameters: Parameters) -> float:
        """At the network's prices."""
        fuel = self.fuel + self.cpu_s * FUEL_PER_S
        price = fuel / 1e9 * parameters.price_fuel + self.bytes / MIB * parameters.price_mib
        return float(price / 10**parameters.denomination)


def timed(work: Callable[[], T]) -> tuple[float, T]:
    """Seconds of processor time, and the result."""
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


class Bench:
    """A ledger with the default parameters, and a token process that two stakers lie about."""

    def __init__(self, parameters: Parameters) -> None:
        self.parameters = parameters
        self.wasm = Wasm()
        numbers = (self.wasm.lines(Draws("bench", number))[0] for number in range(1000))
        line = next(line for line in numbers if len(line.slots) > SLOTS_MAX // 2)
        self.truth = self.wasm.truth(line, parameters.root_every)
        stakes = tuple((key.address, 2 * parameters.stake_min) for key in STAKERS)
        net = network(
            parameters,
            slashable_modules=(self.wasm.module,),
            stakes=stakes,
            balances=((RICH.address, 10**6 * TOKEN),),
        )
        self.setting = Setting(net, self.wasm, self.truth, None)
        self.fuel = 0
        self.ledger = Ledger(net, self._run)
        for key in STAKERS:
            self.ledger.do(RICH, Transfer(self.ledger.next_sequence(), key.address, 10_000 * TOKEN))

    def _run(self, segment: Segment) -> tuple[bytes, ...] | None:
        first, last = segment.slots[0].nonce, segment.slots[-1].nonce
        self.fuel += sum(leaf.fuel for leaf in self.truth.leaves[first : last + 1])
        return self.wasm.run(segment, self.parameters.root_every)

    def lie(self, key: Key, fuel: int) -> Receipt:
        """A receipt in which one leaf is wrong."""
        slot = self.parameters.root_every * 2 - 1
        leaf = replace(self.truth.leaves[slot], fuel=fuel)
        return self.setting.receipt(self.truth, slot, key, leaf=leaf)

    def evidence(self, statement: Receipt) -> tuple[Cost, FraudProof]:
        """What a challenger does to prove it: compare, take the state, prove, judge it alone."""
        truth, parameters = self.truth, self.parameters

        def prove() -> FraudProof:
            check(statement, truth.own, parameters)
            made = accuse(
                statement.encode(), truth.own.hashes[: statement.slot + 1], truth.own,
                log=truth.log, parameters=parameters, witness=truth.witness,
            )  # fmt: skip
            assert made is not None
            court = Draft(self.ledger.state, self.ledger.rules, self.ledger).court()
            judging.verdict(encode_evidence(made), self._run, court)
            return made

        before = self.fuel
        cpu, made = timed(prove)
        return Cost(cpu, self.fuel - before), made

    def fold(self, evidence: FraudProof, challenger: Key) -> tuple[Cost, str]:
        """What every node does about it: check the signatures, keep the bytes, fold, run."""
        ledger, blob = self.ledger, encode_evidence(evidence)
        hash = commitment(b"s" * 32, evidence_hash(blob), challenger.address)
        total = Cost()
        commit, cost, _ = self._slot(
            challenger, CommitEvidence(ledger.next_sequence(), hash, len(blob))
        )
        total += cost
        parts = []
        for at in range(0, len(blob), PART_BYTES_MAX):
            tx = EvidencePart(commit, blob[at : at + PART_BYTES_MAX])
            part, cost, _ = self._slot(challenger, tx)
            parts.append(part)
            total += cost
        _, cost, said = self._slot(challenger, RevealEvidence(commit, b"s" * 32, tuple(parts)))
        return total + cost, said

    def fold_s_per_mib(self, pages: int) -> float:
        """Seconds per MiB to fold large evidence: a witness that cannot be compressed, of a fact
        that is known, so that nothing is run."""
        _, made = self.evidence(self.lie(STAKERS[3], 5))
        content = Random(1).randbytes(pages * PAGE_BYTES)
        frame = zstandard.ZstdCompressor().compress(content)
        large = replace(made, witness=Witness(pages, ((0, pages),), (), frame))
        cost, said = self.fold(large, WATCHER)
        assert said.startswith("guilty"), said
        return cost.cpu_s * MIB / len(frame)

    def _slot(self, key: Key, tx: Any) -> tuple[ItemId, Cost, str]:
        item: Item = transaction(key, tx, len(self.ledger.items))
        before = self.fuel

        def work() -> str:
            verify_item(item)
            verify_item(item)  # its assignment
            return self.ledger.slot(item)[0].detail

        cpu, said = timed(work)
        cost = Cost(cpu, self.fuel - before, len(item.raw) + ASSIGNMENT_BYTES)
        return ItemId(item.id), cost, said


def worst(parameters: Parameters, fold: Cost, fold_s: float, restore_s: float) -> Cost:
    """One node's cost of the most expensive evidence there can be: all bounds at once.

    `fold`: of small evidence; `fold_s`, `restore_s`: seconds per MiB of evidence and of state."""
    size = evidence_bytes_max(parameters)
    state = parameters.memory_max / MIB
    cpu = fold.cpu_s + fold_s * size / MIB + restore_s * state
    return Cost(cpu, parameters.fuel_max * parameters.root_every, size)


def scenario(
    parameters: Parameters, lost: int, bond: int, proving: Cost, bystander: Cost, *, hunted: bool
) -> dict[str, Any]:
    """Who pays what, by number of bystanders; `lost`: base units that the attacker has lost.

    Where a statement is accused (`hunted`) the challenger is one of the others, and has its bond
    back; where what is brought forward is frivolous, the attacker is who brings it."""
    unit = 10**parameters.denomination
    nobody = Cost()
    attacker, challenger = (nobody, proving) if hunted else (proving, nobody)
    figures: dict[str, Any] = {
        "attacker": {"lost_tokens": lost / unit, **_show(attacker, parameters)},
        "challenger": {"locked_tokens": bond / unit * hunted, **_show(challenger, parameters)},
        "bystander": _show(bystander, parameters),
        "bystanders": {},
        "ratio": {},
    }
    for count in BYSTANDERS:
        all_of_them = Cost(bystander.cpu_s * count, bystander.fuel * count, bystander.bytes * count)
        others = (all_of_them + challenger).tokens(parameters)
        figures["bystanders"][str(count)] = _show(all_of_them, parameters)
        figures["ratio"][str(count)] = round(lost / unit / others, 1)
    return figures


def _show(cost: Cost, parameters: Parameters) -> dict[str, Any]:
    return {
        **asdict(cost),
        "cpu_s": round(cost.cpu_s, 5),
        "tokens": round(cost.tokens(parameters), 8),
    }


def measure(*, quick: bool = False) -> dict[str, Any]:
    """All figures; `quick` burns less fuel and restores less memory."""
    parameters = default_parameters()
    bench = Bench(parameters)
    bench.evidence(bench.lie(SYBIL, 1))  # compiles the module
    proving, made = bench.evidence(bench.lie(LIAR, 1))
    folded, said = bench.fold(made, WATCHER)
    proving += Cost(bytes=folded.bytes)
    assert said.startswith("guilty"), said
    blob = len(encode_evidence(made))
    _, other = bench.evidence(bench.lie(SYBIL, 3))
    rate, restore_s = burnt_fuel_per_s(quick=quick), restore_s_per_mib(quick=quick)
    fold_s = bench.fold_s_per_mib(16 if quick else 256)
    highest = worst(parameters, folded, fold_s, restore_s)
    known = replace(other, witness=None, slots=())
    second, said = bench.fold(known, WATCHER)
    assert said.startswith("guilty"), said
    size = highest.bytes
    # A statement costs the liar one signature; who proves it runs what it proves, and sends it.
    proving_worst = Cost(proving.cpu_s + highest.cpu_s, highest.fuel, highest.bytes)
    self_challenge = SHARE_WHOLE - parameters.slash_challenger
    stake = parameters.stake_min * self_challenge // SHARE_WHOLE
    demand = demand_cost(parameters)
    least, most = (evidence_bond(each, parameters) for each in (blob, size))
    # A state of zeros and few others is small as a witness and still fills the memory.
    unpacking = folded.cpu_s + restore_s * parameters.memory_max / MIB
    most_for_least = replace(folded, fuel=highest.fuel, cpu_s=unpacking)
    asked = demand_bond(LEAVES, 2048, parameters)
    made_scenarios = {
        name: scenario(parameters, lost, bond, first, other, hunted=name.startswith("wrong"))
        for name, lost, bond, first, other in (
            ("wrong_proof", stake, least, proving, folded),
            ("wrong_proof_worst", stake, most, proving_worst, highest),
            ("frivolous", least, least, proving, folded),
            ("frivolous_worst", most, most, proving_worst, highest),
            ("frivolous_most_fuel_least_bytes", least, least, proving, most_for_least),
            ("demand", asked, asked, Cost(), demand),
        )
    }
    ratios = [each["ratio"][str(BYSTANDERS[-1])] for each in made_scenarios.values()]
    shares = [second.tokens(parameters) / first.tokens(parameters) for first in (highest, folded)]
    return {
        "prices_tokens": {
            "per_1e9_fuel": parameters.price_fuel / TOKEN,
            "per_mib": parameters.price_mib / TOKEN,
        },
        "bonds_tokens": {
            "stake_min": parameters.stake_min / TOKEN,
            "evidence": parameters.evidence_bond / TOKEN,
            "evidence_per_mib": parameters.evidence_bond_mib / TOKEN,
            "demand": parameters.demand_bond / TOKEN,
        },
        "fuel_per_s": rate,
        "evidence_bytes": {"token": blob, "known_fact": len(encode_evidence(known)), "most": size},
        **made_scenarios,
        "second_sybil": _show(second, parameters),
        "second_sybil_share": round(shares[0], 6),
        "second_sybil_share_of_a_first_that_costs_nothing": round(shares[1], 3),
        "happy_path": happy_path(bench),
        "ratio_least": min(ratios),
    }


def demand_cost(parameters: Parameters) -> Cost:
    """One node's cost of a demand and the longest reply: a statement, and the leaves of a proof
    over all block ends that one may cross."""
    leaves = (BLOCK_ENDS_MAX + 1) * parameters.proof_every
    cpu, _ = timed(lambda: Mmr().extend([bytes(32)] * leaves).root())
    return Cost(cpu + 0.002, 0, 32 * leaves + 2 * 2048 + 2 * ASSIGNMENT_BYTES)


def happy_path(bench: Bench) -> dict[str, Any]:
    """What proofs add to a slot when nobody lies."""
    truth, setting, every = bench.truth, bench.setting, bench.parameters.proof_every
    leaf, rounds = truth.leaves[3], 2000
    hashing, _ = timed(lambda: [leaf.hash() for _ in range(rounds)])
    adding, _ = timed(lambda: Mmr().extend([bytes(32)] * rounds))
    signing, _ = timed(lambda: [setting.receipt(truth, 3, LIAR).encode() for _ in range(rounds)])
    last = len(truth.leaves) - 1
    sealing, _ = timed(lambda: [setting.proof(truth, 0, last, LIAR) for _ in range(200)])
    proof = setting.proof(truth, 0, last, LIAR)
    raw = proof.encode()

    def verify() -> None:
        read = StateProof.decode(raw)
        read.check(bench.parameters)
        assert verify_ed25519(read.cu, read.signing_bytes(), read.signature)

    def verify_all() -> None:
        for _ in range(500):
            verify()

    checking, _ = timed(verify_all)
    return {
        "leaf_us": round(hashing * 1e6 / rounds, 2),
        "mmr_us": round(adding * 1e6 / rounds, 2),
        "receipt_us": round(signing * 1e6 / rounds, 2),
        "sealing_us": round(sealing * 1e6 / 200 / every, 3),
        "proof_bytes": len(raw),
        "gossip_bytes": round(COPIES * len(raw) / every, 1),
        "verification_us": round(checking * 1e6 / 500 / every, 3),
    }


def run(arguments: Namespace) -> dict[str, Any]:
    """Figures, and what misses its target."""
    figures = measure()
    missed = ["ratio_least"] if figures["ratio_least"] < RATIO else []
    if figures["second_sybil_share"] > SECOND_SHARE:
        missed.append("second_sybil_share")
    return {**figures, "missed": missed}
