"""One seed, one run: in this process, in another, under any hash seed."""

from __future__ import annotations

import gc
import os
import subprocess
import sys

import pytest
import trio
from trio._core import _run

from simnet import determinism
from simnet.seed import Seed
from tests.simnet.chatter import chatter


def test_this_interpreter_and_trio_reproduce_a_schedule() -> None:
    determinism.check()


def test_the_switches_do_what_we_rely_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without trio's private switch the seed does not reach the schedule."""

    class Deaf:
        def __setattr__(self, name: str, value: object) -> None:
            pass

        def __getattr__(self, name: str) -> object:
            return getattr(_run, name)

    monkeypatch.setattr(determinism, "_run", Deaf())
    with pytest.raises(AssertionError, match=r"trio no longer|seed no longer"):
        determinism.check()


def test_what_was_switched_is_switched_back() -> None:
    before = vars(_run)["_ALLOW_DETERMINISTIC_SCHEDULING"], vars(_run)["_r"], gc.isenabled()

    async def main() -> None:
        assert not gc.isenabled()
        assert vars(_run)["_r"] is not before[1]
        raise KeyError

    with pytest.raises(KeyError):
        determinism.run(main, Seed.root(1))
    assert (
        vars(_run)["_ALLOW_DETERMINISTIC_SCHEDULING"],
        vars(_run)["_r"],
        gc.isenabled(),
    ) == before


def test_a_day_passes_at_once() -> None:
    async def main() -> float:
        await trio.sleep(86_400)
        return determinism.now_s()

    assert determinism.run(main, Seed.root(1)) == determinism.EPOCH_MS / 1000 + 86_400


PROGRAM = """
import sys
from simnet import determinism
from simnet.seed import Seed
from tests.simnet.chatter import chatter
from tests.simnet.chatter import chatter
print(determinism.self_test(Seed.root(int(sys.argv[1]))), chatter(int(sys.argv[1])))
"""


def _fresh(seed: int, hash_seed: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(seed)],
        capture_output=True, text=True, timeout=120, check=True,
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
    )  # fmt: skip
    return done.stdout


@pytest.mark.slow
def test_one_trace_in_fresh_processes_under_any_hash_seed() -> None:
    first = _fresh(11, "0")
    assert _fresh(11, "1") == first
    assert _fresh(11, "4242") == first
    assert _fresh(12, "0") != first


@pytest.mark.slow
def test_one_changed_byte_or_one_dropped_sync_changes_the_trace() -> None:
    plain = chatter(3)
    assert chatter(3) == plain
    assert chatter(3, flip=5) != plain
    assert chatter(3, drop=2) != plain
