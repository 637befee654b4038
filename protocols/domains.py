"""Every hash domain and signature domain, so that no two uses can collide.

A hash domain `d` keys BLAKE3 with the context `aonode/1/<d>` (`protocols.codec.digest`). A
signature domain is the first field of what is signed (`protocols.codec.signing_bytes`).
"""

from __future__ import annotations

CONTEXT_PREFIX = "aonode/1/"

# The log

HEAD = "head"
"""Fields: head before, assignment id."""
HEAD_GENESIS = "head-genesis"
"""Fields: process id. The head before slot 0."""
ASSIGNMENT_ANCHOR = "assignment-anchor"
"""Fields: process id, nonce, head before. Makes signing a slot a pure function of the log."""
PUSH_ANCHOR = "push-anchor"
"""Fields: messenger key, process id, slot, index. One outbox entry gives one pushed item."""

# Evaluation

LEAF = "leaf"
"""Fields: process, slot, assignment id, state root or null, outcome hash, fuel, status."""
OUTCOME = "outcome"
"""Fields: raw output, outbox root."""
OUTBOX = "outbox"
"""Merkle tree over the encoded outbox entries."""
STATE = "state"
"""Merkle tree over the pages of linear memory."""
STATE_ROOT = "state-root"
"""Fields: page count, root of the pages, globals."""
PROFILE = "profile"
"""Fields: the engine's semantics."""

# Accumulators

MMR_NODE = "mmr-node"
MMR_BAG = "mmr-bag"
MMR_ROOT = "mmr-root"
"""Fields: leaf count, bagged peaks or null."""

# The ledger

LEDGER_MODULE = "ledger-module"
"""Fields: version of the fold. Stands where other processes name their module."""
LEDGER_TRANSACTION = "ledger-transaction"
"""Fields: ledger, action, data. Anchor of a node's own transaction."""
LEDGER_ENTRY = "ledger-entry"
"""Fields: key, value. A leaf of the ledger's state."""
LEDGER_BRANCH = "ledger-branch"
"""Fields: bit, left, right."""
LEDGER_EMPTY = "ledger-empty"
"""No fields. The root of no entries."""
ANCHOR = "anchor"
"""Fields: process, slot, head, leaf, peaks. Id of an anchor."""
STATEMENT = "statement"
"""Fields: the encoded statement. Id of what a unit signed."""
DEMAND = "demand"
"""Fields: kind, then what names the subject (`protocols.ledger.subjects`)."""
OFFENCE = "offence"
"""Fields: class of the fault, process, slot or null. What a unit pays a share for once."""
EVIDENCE = "evidence"
"""The bytes of an encoded evidence."""
EVIDENCE_COMMIT = "evidence-commit"
"""Fields: salt, evidence hash, accuser's address."""
EVIDENCE_SALT = "evidence-salt"
"""Fields: the accuser's signature over the evidence hash. Nobody else can know it."""
WATCH_TURN = "watch-turn"
"""Fields: accused account, watcher's account. In this order a case is brought to the ledger."""
SEGMENT_RUN = "segment-run"
"""Raw: a fact, and the witness its segment was run from. Never leaves a node."""
FACT = "fact"
"""Fields: profile, process, module, first slot, head before, head after, root before or null."""

# Signatures

SIGN_VOTE = "vote"
SIGN_DELEGATION = "delegation"
SIGN_RECEIPT = "receipt"
SIGN_STATE_PROOF = "state-proof"
SIGN_SALT = "evidence-salt"
SIGN_UNIT = "unit"
