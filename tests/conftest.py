"""One hypothesis profile for all tests: the same examples in every run, no clock."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("aonode", derandomize=True, deadline=None, database=None, print_blob=True)
settings.load_profile("aonode")
