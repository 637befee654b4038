"""A message that its scheduler does not take: what to demand of it on the ledger.

The demand holds the message, so that the scheduler cannot say it never had it; and any assignment
of the log, which shows that it keeps it.
"""

from __future__ import annotations

from aonode.client import Client
from aonode.verify_result import Evidence
from protocols.errors import Invalid, Reason
from protocols.ids import ItemId, ProcessId, b64url
from protocols.wire.assignment import assignment_of
from protocols.wire.demand import ScheduleSubject
from protocols.wire.item import decode_item
from protocols.wire.item_head import ItemHead
from protocols.wire.process import admissible, process_info


async def schedule_subject(client: Client, raw: bytes) -> bytes:
    """The subject of a SCHEDULE demand for a signed message, with slot 0 of its log as a compute
    unit gives it.

    Raises Invalid: INADMISSIBLE for what a scheduler may refuse, and what the units say.
    """
    parameters = client.network.parameters
    item = decode_item(raw, size_max=parameters.item_bytes_max)
    if item.target is None:
        raise Invalid(
            Reason.INADMISSIBLE, f"item {b64url(item.id)} is no message: it has no target"
        )
    process = ProcessId(item.target)
    error = Invalid(Reason.CONFIG, "no compute unit's address is given; give one with --cu URL")
    for url in client.cu_urls:
        try:
            given = Evidence.of_json(await client.asker.get(f"{url}/proof/{b64url(process)}"))
            zero = decode_item(given.message, size_max=parameters.item_bytes_max)
            assignment = decode_item(given.assignment, size_max=parameters.item_bytes_max)
            if zero.id != ItemId(process) or assignment_of(assignment).process != process:
                raise Invalid(Reason.MISMATCH, f"{url} gave another log than {b64url(process)}")
        except Invalid as failed:
            error = failed
            continue
        admissible(item, process_info(zero), parameters)
        return ScheduleSubject(ItemHead.of(zero), assignment.raw, raw).encode()
    raise error
