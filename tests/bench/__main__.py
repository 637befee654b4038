"""`python -m tests.bench NAME [--json]`: figures of one part, and ratios taken in one run.

Exits with 1 where a target is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from tests.bench import challenge, compute, corridor, gossip, parallel, schedule
from tests.bench.aos_log import WORKLOADS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    benches = parser.add_subparsers(required=True)
    bench = benches.add_parser("corridor", help=corridor.__doc__)
    bench.add_argument("--messages", type=int, default=4000)
    bench.add_argument("--singles", type=int, default=400)
    bench.add_argument("--latency", type=int, default=100)
    bench.add_argument("--profile", type=Path, help="directory for a profile of each node")
    bench.set_defaults(run=corridor.run)
    bench = benches.add_parser("schedule", help=schedule.__doc__)
    bench.add_argument("--assignments", type=int, default=16_000)
    bench.set_defaults(run=schedule.run)
    bench = benches.add_parser("gossip", help=gossip.__doc__)
    bench.set_defaults(run=gossip.run)
    bench = benches.add_parser("compute", help=compute.__doc__)
    bench.add_argument("--node", help="another Node.js to run the loader with")
    bench.add_argument("--only", nargs="*", help="some of the workloads")
    bench.set_defaults(run=compute.run)
    bench = benches.add_parser("parallel", help=parallel.__doc__)
    bench.add_argument("--workload", choices=WORKLOADS, default="counter")
    bench.add_argument("--slots", type=int, default=250, help="of each process, in a block")
    bench.add_argument("--blocks", type=int, default=12, help="of each kind")
    bench.set_defaults(run=parallel.run)
    bench = benches.add_parser("challenge", help=challenge.__doc__)
    bench.set_defaults(run=challenge.run)
    for each in benches.choices.values():
        each.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    figures = arguments.run(arguments)
    if arguments.json:
        print(json.dumps(figures))
    else:
        for name, value in figures.items():
            print(f"{name:32} {value}")
    sys.exit(1 if figures["missed"] else 0)


if __name__ == "__main__":
    main()
