"""`python -m tests.protocols.cases`: random cases by seed, in all the cores there are.

Prints how many of each kind were seen, and exits with 1 at the first violation, naming its seed.
`--golden` prints seed, ledger root and hash of the verdicts, to compare with another Python.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context

from tests.protocols.cases.agents import Violation
from tests.protocols.cases.case import Result, run_case
from tests.protocols.cases.history import Engine, Toy
from tests.protocols.cases.wasm import shared

CHUNK = 25
"""Seeds that one process takes at a time."""


_toy = cache(Toy)


def engine_of(wasm: bool) -> Engine:
    """The engine of a run: the real one, or a toy."""
    return shared() if wasm else _toy()


def run_chunk(seeds: range, wasm: bool) -> tuple[list[Result], str | None]:
    """Results in order, up to the first violation."""
    engine, results = engine_of(wasm), []
    for seed in seeds:
        try:
            results.append(run_case(seed, engine))
        except Violation as violation:
            return results, f"seed {seed}: {violation}"
        except Exception as error:
            raise RuntimeError(f"seed {seed}") from error
    return results, None


def run_seeds(
    seeds: range, *, wasm: bool = False, workers: int | None = None
) -> Iterator[tuple[list[Result], str | None]]:
    """Chunks of results in the order of their seeds."""
    size = max(1, min(CHUNK, len(seeds) // (2 * (workers or os.cpu_count() or 1))))
    chunks = [seeds[at : at + size] for at in range(0, len(seeds), size)]
    # Not forked: a process with threads, as a test run is by then, would leave locks held for ever.
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        try:
            yield from pool.map(run_chunk, chunks, [wasm] * len(chunks))
        finally:
            pool.shutdown(cancel_futures=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.protocols.cases", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many cases")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first seed")
    parser.add_argument("--wasm", action="store_true", help="on the real engine")
    parser.add_argument("--workers", type=int, help="processes; default: one for each core")
    parser.add_argument("--json", action="store_true", help="one JSON object")
    parser.add_argument("--golden", action="store_true", help="seed, root and verdicts, by line")
    arguments = parser.parse_args()
    seeds = range(arguments.first, arguments.first + arguments.seeds)
    counts: Counter[str] = Counter()
    start, done, violation = time.monotonic(), 0, None
    for results, violation in run_seeds(seeds, wasm=arguments.wasm, workers=arguments.workers):
        done += len(results)
        for result in results:
            counts.update(result.counts)
            if arguments.golden:
                print(result.seed, result.root.hex(), result.verdicts.hex())
        if violation is not None:
            break
    seconds = round(time.monotonic() - start, 1)
    if arguments.json:
        figures = {"cases": done, "violation": violation, "seconds": seconds}
        print(json.dumps({**figures, "counts": dict(sorted(counts.items()))}))
    elif not arguments.golden:
        print(f"{done} cases in {seconds} s, Python {sys.version.split()[0]}")
        for name, count in sorted(counts.items()):
            print(f"  {name:24} {count}")
    if violation is not None:
        print(f"violated: {violation}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
