"""What a client does with the ledger: transactions, final checkpoints, acceptance of results."""
