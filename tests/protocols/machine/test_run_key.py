"""What running a segment gave is kept by segment *and* witness."""

from __future__ import annotations

from dataclasses import replace

from protocols.court import Segment
from protocols.ids import ItemId
from protocols.machine.ledger import run_key
from tests.protocols.machine.world import MODULE
from tests.protocols.toy import branches, toy_run, toy_witness


def test_a_wrong_state_is_not_taken_for_one_that_was_run() -> None:
    truth = branches()[0]
    base = Segment(
        b"f" * 32, truth.process, ItemId(MODULE), truth.slots[4:8], truth.leaves[3].root, None
    )
    right = replace(base, witness=truth.witness(4))
    wrong = replace(base, witness=toy_witness(b"x" * 32))
    assert toy_run(right) is not None
    assert toy_run(wrong) is None
    assert len({run_key(each) for each in (base, right, wrong)}) == 3
    assert run_key(base) == base.fact
