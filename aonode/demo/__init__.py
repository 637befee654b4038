"""`aonode demo`: a whole network on this machine, used and checked before the eyes of a person.

`workload` says what is sent and what must come out, `run` sends and verifies it, `show` tells.
"""

LIES = ("balance", "undo", "receipt", "withhold", "refused")
"""What the liar of the demo can do (`aonode.demo.liar`)."""
