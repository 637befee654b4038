"""A power cut fences first and cancels then, so that nothing is written on the way down."""

from __future__ import annotations

import pytest
import trio

from simnet import determinism
from simnet.disk import Drive, SimDisk
from simnet.power import Power, PowerLost
from simnet.seed import Seed
from simnet.trace import Trace


async def _careful(disk: SimDisk) -> None:
    """A task that tidies up when it is cancelled, as a node does."""
    try:
        await trio.sleep_forever()
    finally:
        disk.write([(b"tidied", b"")], sync=True)


def test_cancelling_writes_and_a_power_cut_does_not() -> None:
    async def main() -> list[bytes | None]:
        left: list[bytes | None] = []
        for cut in (False, True):
            drive, power = Drive("node", Trace()), Power("node", 1)
            disk = drive.open("log", power)
            try:
                with power.while_on() as scope:
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(_careful, disk)
                        await trio.sleep(1)
                        if cut:
                            drive.power_cut(power)
                        scope.cancel()
            except* PowerLost:
                assert cut
            disk.close()
            left.append(drive.open("log", Power("node", 2)).get(b"tidied"))
        return left

    assert determinism.run(main, Seed.root(1)) == [b"", None]


def test_whoever_talks_to_the_machine_is_cut_off_with_it() -> None:
    async def main() -> str:
        power = Power("node", 1)
        async with trio.open_nursery() as nursery:

            async def cut() -> None:
                await trio.sleep(1)
                power.cut()

            nursery.start_soon(cut)
            with power.while_on():
                await trio.sleep_forever()
        with pytest.raises(PowerLost), power.while_on():
            raise AssertionError("a dead machine does nothing")
        return "came back"

    assert determinism.run(main, Seed.root(1)) == "came back"
