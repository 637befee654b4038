"""`python -m aonode`: the same as the `aonode` command."""

from aonode.cli.__main__ import main

if __name__ == "__main__":
    main()
