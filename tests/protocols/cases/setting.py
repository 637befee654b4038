"""The network and the process of a case."""

from __future__ import annotations

from dataclasses import dataclass, replace

from protocols.accumulator import Mmr
from protocols.network import Network, sim_parameters
from protocols.parameters import Parameters
from protocols.wire.proof import (
    BLOCK_ENDS_MAX,
    Leaf,
    Receipt,
    StateProof,
    block_end_before,
    is_border,
)
from tests.protocols.cases.draws import Draws
from tests.protocols.cases.history import SCHEDULER, Engine, History
from tests.protocols.ledger.world import TOKEN, network
from tests.protocols.machine.world import Key

CLOCK, RICH = Key.of("clock"), Key.of("rich")
HONEST = tuple(Key.of(f"honest {number}") for number in range(5))
LIARS = tuple(Key.of(f"liar {number}") for number in range(4))
ACCUSERS = tuple(Key.of(f"accuser {number}") for number in range(3))
WATCHERS = tuple(Key.of(f"watcher {number}") for number in range(2))
OTHER_PROFILE = b"q" * 32


@dataclass(frozen=True)
class Setting:
    """What everybody in a case knows."""

    network: Network
    engine: Engine
    main: History
    """The branch of the log that counts, and what is true of it."""
    fork: History | None
    """The branch that its scheduler signed besides."""

    @property
    def parameters(self) -> Parameters:
        return self.network.parameters

    def draft_receipt(self, history: History, slot: int, key: Key) -> Receipt:
        """A unit's receipt, not signed yet."""
        end = block_end_before(slot, self.parameters.proof_every)
        roots = history.own.roots
        return Receipt(
            self.network.id,
            self.main.leaves[0].process,
            slot,
            history.heads[slot],
            history.leaves[slot],
            roots[slot + 1],
            None if end is None else roots[end + 1],
            self.network.profile,
            key.public,
        )

    def receipt(self, history: History, slot: int, key: Key, **changes: object) -> Receipt:
        """A signed receipt; its form is right whatever the leaves are."""
        draft = self.draft_receipt(history, slot, key)
        fields = {"leaf": self._formed(draft.leaf, slot), **changes}
        draft = replace(draft, **fields)  # type: ignore[arg-type]
        return draft.signed(key.sign(draft.signing_bytes()))

    def proof(
        self, history: History, first: int, last: int, key: Key, **changes: object
    ) -> StateProof:
        """A signed state proof of any slots; its form is right whatever the leaves are."""
        roots, every = history.own.roots, self.parameters.proof_every
        ends = range(first // every * every + every - 1, last, every)
        leaves = history.leaves[first : last + 1]
        draft = StateProof(
            self.network.id,
            self.main.leaves[0].process,
            first,
            last,
            history.own.head_before(first),
            history.heads[last],
            roots[first],
            roots[last + 1],
            tuple((end, roots[end + 1]) for end in ends),
            self._formed(leaves[-1], last).root,
            sum(leaf.fuel for leaf in leaves),
            self.network.profile,
            1,
            first,
            None,
            key.public,
        )
        return resigned(draft, key, **changes)

    def first_of(self, last: int, draws: Draws, lowest: int = 0) -> int:
        """Where a proof up to `last` may begin."""
        blocks = BLOCK_ENDS_MAX * self.parameters.proof_every
        return draws.between(max(lowest, last + 1 - blocks), last)

    def _formed(self, leaf: Leaf, slot: int) -> Leaf:
        """The leaf with a root iff one belongs there, of its own slot and process."""
        root = (leaf.root or b"r" * 32) if is_border(slot, self.parameters.root_every) else None
        return replace(leaf, root=root, slot=slot, process=self.main.leaves[0].process)


def resigned(statement: StateProof, key: Key, **changes: object) -> StateProof:
    """The statement with other fields, signed again."""
    draft = replace(statement, signature=b"", **changes)  # type: ignore[arg-type]
    return draft.signed(key.sign(draft.signing_bytes()))


def peaks_of(history: History, count: int) -> tuple[bytes, ...]:
    """Peaks of the range over the first `count` leaves."""
    return Mmr().extend(history.own.hashes[:count]).peaks


def make_setting(draws: Draws, engine: Engine) -> Setting:
    """Sizes, windows, shares, stakes and a log, all at random."""
    root_every = draws.pick((1, 2, 3, 4, 8))
    signers, challenger = draws.between(0, 1000), draws.between(0, 5000)
    parameters = replace(
        sim_parameters(),
        root_every=root_every,
        proof_every=root_every * draws.between(1, 4),
        challenge_window=draws.between(40, 60),
        demand_window=draws.between(7, 12),
        unbonding=draws.between(200, 400),
        slash_challenger=challenger,
        slash_signers=signers,
        slash_burn=10_000 - challenger - signers,
        mint_epoch=draws.between(4, 30),
        evidence_bond=draws.below(20 * TOKEN),
        evidence_bond_mib=draws.below(2 * TOKEN),
        demand_bond=draws.below(5 * TOKEN),
    )
    stakes = [(key.address, draws.between(4000, 9000) * TOKEN) for key in HONEST]
    stakes += [(key.address, draws.between(1000, 1500) * TOKEN) for key in (*LIARS, SCHEDULER)]
    rich = (RICH, *ACCUSERS, *WATCHERS, *LIARS)
    main, fork = engine.lines(draws)
    return Setting(
        network(
            parameters,
            name=f"case {draws.below(1000)}",
            stakes=tuple(stakes),
            balances=tuple((key.address, 100_000 * TOKEN) for key in rich),
            slashable_modules=(engine.module,),
        ),
        engine,
        engine.truth(main, root_every),
        engine.truth(fork, root_every) if fork else None,
    )
