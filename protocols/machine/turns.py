"""Which watcher brings a proved case to the ledger first. Part of `accusing`.

All watchers find a lie at about the same time, and only the first is paid: what the others send
costs them, and everybody who keeps the ledger's log. So the accounts with a stake take turns, in
an order that the accused cannot choose and that is another one for every account accused; the
last waits for less than a tick. Who has nothing at stake waits for a whole one. A turn is no
right: whoever is silent is passed over.
"""

from __future__ import annotations

from protocols.codec import digest
from protocols.domains import WATCH_TURN
from protocols.ids import Address, NodeKey
from protocols.ledger.entries import Bond
from protocols.machine.watch import Watch


def wait_ms(watch: Watch, accused: NodeKey) -> int:
    """How long this node leaves it to others to bring what it has proved against a unit."""
    account, own = watch.account_of(accused), watch.account_of(watch.key)
    accounts = [Address(key) for key, bond in watch.state.all(Bond) if not bond.frozen]
    rivals = [each for each in accounts if each != account]
    if own not in rivals:
        return watch.parameters.tick_ms
    place = digest(WATCH_TURN, account, own)
    rank = sum(digest(WATCH_TURN, account, each) < place for each in rivals)
    return watch.parameters.tick_ms * rank // len(rivals)


__all__ = ["wait_ms"]
