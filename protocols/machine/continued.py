"""Whether one statement of a unit continues another one."""

from __future__ import annotations

from protocols.court import first_leaf, roots_of
from protocols.errors import Invalid
from protocols.machine.watch import Watch
from protocols.wire.evidence import statement_of
from protocols.wire.proof import Statement, StateProof


def continues(statement: Statement, raw: bytes, watch: Watch) -> bool:
    """Whether an encoded, signed state proof of its unit is what the statement continues: it
    begins before it, and gives the same root where the statement begins."""
    try:
        proof = statement_of(raw)
    except Invalid:
        return False
    if not isinstance(proof, StateProof) or proof.process != statement.process:
        return False
    if (proof.network, proof.profile) != (statement.network, statement.profile):
        return False
    if watch.account_of(proof.cu) != watch.account_of(statement.cu):
        return False
    first = first_leaf(statement, watch.parameters)
    root = roots_of(statement, watch.parameters).get(first)
    given = roots_of(proof, watch.parameters).get(first)
    if root is None or given != root or proof.first >= first:
        return False
    ends = (proof.last, proof.head)
    if isinstance(statement, StateProof) and ends != (first - 1, statement.head_before):
        return False
    return watch.views.signed(proof.cu, proof.signing_bytes(), proof.signature)
