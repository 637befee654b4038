"""The numbers of one network on which results depend. Every network file states them all.

Sizes are bytes, times ticks unless the name says otherwise, amounts base units, shares basis
points. What a network may choose is bounded here; what no network may choose is in
`protocols.limits`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from protocols.errors import Invalid, Reason
from protocols.limits import PAGE_BYTES

SHARE_WHOLE = 10_000
"""Basis points of a whole."""
PROOF_SLOTS_MAX = 512
"""Slots of a proof block: a reply with all leaves of a proof must fit an item."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameters:
    """Every number of a network that a result can depend on."""

    item_bytes_max: int
    """Largest data item, bytes."""
    inline_bytes_max: int
    """Larger items are announced by id and size, and fetched."""
    module_bytes_max: int
    """Largest module item, bytes."""
    shards: int
    """Gossip shards: a power of two, by leading bits of the process id."""
    root_every: int
    """Slots of a segment: a leaf holds a state root iff (slot + 1) mod this = 0."""
    proof_every: int
    """Slots of a proof block; a multiple of `root_every`."""
    fuel_max: int
    """Fuel of one slot; 5e9 is about a second."""
    memory_max: int
    """Linear memory of one process, bytes; whole pages."""
    output_bytes_max: int
    """Output of one slot, bytes."""
    outbox_max: int
    """Outbox entries of one slot."""
    witness_bytes_max: int
    """Largest compressed state in a fraud proof, bytes."""
    tick_ms: int
    """Time between two checkpoints of the ledger."""
    challenge_window: int
    """Ticks in which a statement can be challenged."""
    demand_window: int
    """Ticks in which a demand must be answered."""
    unbonding: int
    """Ticks until an unbonded stake can be withdrawn."""
    denomination: int
    """Decimal digits after the point: one token is 10**denomination base units."""
    base_unit: str
    """Name of the base unit. All amounts are in it."""
    supply_cap: int
    """Base units that can ever exist."""
    stake_min: int
    """Smallest stake that counts."""
    evidence_bond: int
    """Bond of an evidence commit, and per MiB of it."""
    evidence_bond_mib: int
    demand_bond: int
    """Bond of a demand."""
    restore_quorum: int
    """Peers that must answer for its heads before an empty scheduler signs."""
    push_quorum: int
    """Receipts that must agree before a messenger pushes an outbox."""
    price_fuel: int
    """Per 10**9 fuel."""
    price_mib: int
    """Per MiB."""
    slash_challenger: int
    """Basis points of a slashed stake for the challenger, ..."""
    slash_signers: int
    """... for the signers of the checkpoint, ..."""
    slash_burn: int
    """... and burnt. The three make a whole."""
    mint_epoch: int
    """Ticks between two mints."""
    mint_numerator: int
    """A mint is (what is left to mint * this) >> 64: halving in four years."""
    mint_stakers: int
    """Basis points of a mint for those who hold a stake, by its size, ..."""
    mint_work: int
    """... for the pool that pays work, ..."""
    mint_audits: int
    """... and for the pool that pays audits. The three make a whole."""
    faucet_amount: int
    """The balance a faucet fills an account up to; 0 for no faucet."""

    def check(self) -> None:
        """Raise Invalid(CONFIG) naming the first parameter that cannot be used."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, int) and value < _LEAST.get(field.name, 1):
                raise _unfit(f"parameters.{field.name} = {value} is too small")
        demands = (
            (self.item_bytes_max <= 16 << 20, "item_bytes_max is above 16 MiB"),
            (
                self.inline_bytes_max <= min(self.item_bytes_max, 192 << 10),
                "inline_bytes_max is above item_bytes_max or the 192 KiB that gossip carries",
            ),
            (self.module_bytes_max <= 512 << 20, "module_bytes_max is above 512 MiB"),
            (self.shards in {1 << bit for bit in range(9)}, "shards is not a power of two to 256"),
            (
                self.proof_every % self.root_every == 0,
                "proof_every is not a multiple of root_every",
            ),
            (self.proof_every <= PROOF_SLOTS_MAX, f"proof_every is above {PROOF_SLOTS_MAX}"),
            (
                self.memory_max % PAGE_BYTES == 0 and self.memory_max <= 4 << 30,
                "memory_max is not a whole number of 64 KiB pages up to 4 GiB",
            ),
            (self.output_bytes_max <= 16 << 20, "output_bytes_max is above 16 MiB"),
            (self.outbox_max <= 4096, "outbox_max is above 4096"),
            (self.denomination <= 18, "denomination is above 18"),
            (
                self.slash_challenger + self.slash_signers + self.slash_burn == SHARE_WHOLE,
                f"slash_challenger, slash_signers and slash_burn do not add up to {SHARE_WHOLE}",
            ),
            (
                self.mint_stakers + self.mint_work + self.mint_audits == SHARE_WHOLE,
                f"mint_stakers, mint_work and mint_audits do not add up to {SHARE_WHOLE}",
            ),
            (self.supply_cap < 1 << 63, "supply_cap is not below 2**63"),
            (self.witness_bytes_max <= 256 << 20, "witness_bytes_max is above 256 MiB"),
        )
        for holds, complaint in demands:
            if not holds:
                raise _unfit(f"parameters: {complaint}")


_LEAST = {
    "denomination": 0,
    "evidence_bond": 0,
    "evidence_bond_mib": 0,
    "demand_bond": 0,
    "restore_quorum": 0,
    "price_fuel": 0,
    "price_mib": 0,
    "slash_challenger": 0,
    "slash_signers": 0,
    "slash_burn": 0,
    "mint_numerator": 0,
    "mint_stakers": 0,
    "mint_work": 0,
    "mint_audits": 0,
    "faucet_amount": 0,
}
"""Least values that are not 1."""


def _unfit(detail: str) -> Invalid:
    return Invalid(Reason.CONFIG, detail)


_TOKEN = 10**9


def default_parameters() -> Parameters:
    """What a new public network starts from."""
    return Parameters(
        item_bytes_max=2 << 20,
        inline_bytes_max=64 << 10,
        module_bytes_max=64 << 20,
        shards=1,
        root_every=8,
        proof_every=64,
        fuel_max=5_000_000_000,
        memory_max=2 << 30,
        output_bytes_max=1 << 20,
        outbox_max=256,
        witness_bytes_max=32 << 20,
        tick_ms=60_000,
        challenge_window=1440,
        demand_window=1440,
        unbonding=10_080,
        denomination=9,
        base_unit="armstrong",
        supply_cap=21_000_000 * _TOKEN,
        # Stake and bonds for a thousand nodes: docs/decisions/0010-bonds.md has the sums.
        stake_min=2000 * _TOKEN,
        evidence_bond=700 * _TOKEN,
        evidence_bond_mib=12 * _TOKEN,
        demand_bond=5 * _TOKEN,
        restore_quorum=2,
        push_quorum=2,
        price_fuel=_TOKEN // 1000,
        price_mib=_TOKEN // 1000,
        slash_challenger=2000,
        slash_signers=500,
        slash_burn=7500,
        mint_epoch=5,
        mint_numerator=30_388_000_307_821,
        mint_stakers=5000,
        mint_work=4000,
        mint_audits=1000,
        faucet_amount=0,
    )


def demo_parameters() -> Parameters:
    """Fast clocks, so that a person can watch a whole challenge, a faucet, and the stake and bonds
    that some thirty nodes need."""
    return replace(
        default_parameters(),
        stake_min=1000 * _TOKEN,
        evidence_bond=20 * _TOKEN,
        evidence_bond_mib=2 * _TOKEN,
        tick_ms=1000,
        challenge_window=20,
        demand_window=20,
        unbonding=120,
        faucet_amount=10_000 * _TOKEN,
    )


def sim_parameters() -> Parameters:
    """What the simulator runs unless a scenario says otherwise."""
    return replace(demo_parameters(), tick_ms=10_000, demand_window=12)
