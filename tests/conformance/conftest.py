"""One small network for all conformance tests of a run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.conformance.small_network import Small, small_network


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Small]:
    with small_network(tmp_path_factory.mktemp("small-network")) as running:
        yield running
