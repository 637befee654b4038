"""Random cases: a log, units that are honest or lie about it, and a ledger that judges them.

    python -m tests.protocols.cases --seeds 10000 [--from N] [--wasm] [--json]

One case is a function of its seed alone. From a seed comes a tree of draws (`draws.py`): every
part of a case draws from a branch of its own name, integers only, so that one part can change
without changing what the others draw.

    seed
    ├── setting          sizes of segments and blocks, windows, shares, stakes; which log
    ├── unit/<name>      what a unit states, and how it lies          (units.py, lies.py)
    ├── order/<n>        who acts next on the ledger, in the n-th run  (court.py)
    ├── agent/<name>     what watchers, accusers and others do         (agents.py, hostile.py)
    └── node/<n>         how the n-th other node folds the same log    (judges.py)

Judged: every wrong unit loses its stake, no honest one ever, whatever is brought forward and in
whatever order; supply is conserved after every ledger slot; a log gives one root on every node.
"""
