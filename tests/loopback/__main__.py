"""`python -m tests.loopback faults [--json]`: exits with 1 where something did not hold."""

from __future__ import annotations

import argparse
import json
import sys

from tests.loopback import faults


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.loopback")
    scenarios = parser.add_subparsers(required=True)
    scenario = scenarios.add_parser("faults", help=faults.__doc__)
    scenario.add_argument("--scheduler-kills", type=int, default=5)
    scenario.add_argument("--json", action="store_true", help="one JSON object")
    arguments = parser.parse_args()
    counts = faults.main(arguments.scheduler_kills)
    logs = counts.pop("logs", "")
    if arguments.json:
        print(json.dumps(counts))
    else:
        for name, value in counts.items():
            print(f"{name:20} {value}")
    sys.stderr.write(logs)
    sys.exit(1 if counts["violations"] else 0)


if __name__ == "__main__":
    main()
