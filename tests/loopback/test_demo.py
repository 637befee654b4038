"""The demo on real processes: it verifies, and one flipped byte on the way makes it fail."""

from __future__ import annotations

import json

import httpx
import pytest
from click.testing import CliRunner, Result

from aonode.cli.__main__ import aonode
from protocols.ids import b64url, unb64url

MESSAGES = 14


class Liar(httpx.AsyncHTTPTransport):
    """Changes one part of the result in one slot, as it comes from the first unit that has it."""

    def __init__(self, part: str, slot: int) -> None:
        super().__init__()
        self._part, self._slot = part, slot
        self.lied = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        answer = await super().handle_async_request(request)
        if not request.url.path.startswith("/results/"):
            return answer
        body = json.loads(await answer.aread())
        for edge in body["edges"]:
            if edge["nonce"] == self._slot and not self.lied:
                self.lied = True
                raw = bytearray(unb64url(edge[self._part]))
                raw[len(raw) // 2] ^= 1
                edge[self._part] = b64url(bytes(raw))
        return httpx.Response(answer.status_code, content=json.dumps(body).encode())


def run(*arguments: str, transport: httpx.AsyncBaseTransport | None = None) -> Result:
    http = None if transport is None else lambda: httpx.AsyncClient(transport=transport)
    command = ["demo", "--messages", str(MESSAGES), *arguments]
    return CliRunner().invoke(aonode, command, obj=http)


@pytest.mark.slow
def test_demo_verifies_everything() -> None:
    done = run("--json")
    assert done.exit_code == 0, done.output
    summary = json.loads(done.stdout)
    assert list(summary) == [
        "messages",
        "scheduled",
        "results",
        "cus",
        "roots_equal",
        "replay_equal",
        "verified",
        "p50_ms",
        "p99_ms",
        "messages_per_s",
    ]
    assert (summary["messages"], summary["scheduled"]) == (MESSAGES, MESSAGES)
    assert (summary["cus"], summary["results"]) == (3, 3 * MESSAGES)
    assert summary["verified"] is summary["roots_equal"] is summary["replay_equal"] is True
    assert 0 < summary["p50_ms"] <= summary["p99_ms"]


@pytest.mark.slow
@pytest.mark.parametrize("part", ["receipt", "outcome", "assignment"])
def test_one_flipped_byte_fails_the_demo_and_names_the_message(part: str) -> None:
    liar = Liar(part, slot=2)
    done = run(transport=liar)
    assert done.exit_code == 1, done.output
    assert liar.lied
    error = done.stderr.strip().splitlines()[-1]
    shown = [line for line in done.stdout.splitlines() if line.startswith("  client ")]
    # Slot 2 holds the second transfer, which was sent alone.
    message = shown[1].split("signed ")[1][:43]
    assert f"message {message} of process" in error
    assert "does not verify" in error
