"""A node by the command line alone: from `init` over `send` and `result` to `log verify`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

READY_S_MAX = 60.0
VERB_S_MAX = 60.0


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "aonode", *arguments]


class Shell:
    """Runs verbs in one directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith("AONODE_")}

    def __call__(self, *arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            command(*arguments),
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=VERB_S_MAX,
            check=False,
        )
        assert done.returncode == code, f"{arguments}: {done.returncode}\n{done.stderr}"
        return (done.stdout if code == 0 else done.stderr).strip()

    def start(self) -> subprocess.Popen[str]:
        ports = [f"--{role}-port=0" for role in ("messenger", "scheduler", "compute")]
        node = subprocess.Popen(
            command("run", *ports),
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert node.stdout is not None
        ready = json.loads(node.stdout.readline())
        assert set(ready["urls"]) == {"messenger", "scheduler", "compute"}
        return node

    def stop(self, node: subprocess.Popen[str]) -> None:
        node.send_signal(signal.SIGTERM)
        assert node.wait(timeout=READY_S_MAX) == 0
        assert node.stdout is not None
        node.stdout.close()


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    return Shell(tmp_path)


@pytest.mark.slow
def test_a_node_from_init_to_log_verify(shell: Shell) -> None:
    shell("init")
    node = shell.start()
    try:
        module = shell("module", "publish")
        process = shell("spawn", module, "--tag", "Supply=100", "--tag", "Name=Mine")
        pay = ("--tag", "Action=Transfer", "--tag", "Recipient=bob", "--tag", "Quantity=7")
        message = shell("send", process, *pay)
        told = json.loads(shell("result", process, message, "--json"))
        assert (told["status"], told["slot"], told["message"]) == ("OK", 1, message)
        assert told["result"]["Messages"][1]["Target"] == "bob"
        assert "slot 1: OK" in shell("result", process, message)
        refused = shell("send", process, "--tag", "Variant+link=x", code=1)
        assert "is a link" in refused
        broke = shell("send", process, *pay[:4], "--tag", "Quantity=1000")
        assert "insufficient balance" in shell("result", process, broke)
        assert "quorum of 2 of 1" in shell("result", process, message, "--quorum", "2", code=2)
        status = json.loads(shell("status", "--json"))
        assert (status["processes"], status["ready"]) == (2, True), "the ledger is the other one"
        assert "in use" in shell("log", "verify", code=3)
    finally:
        shell.stop(node)
    assert "no node runs" in shell("status", code=6)
    checked = json.loads(shell("log", "verify", "--replay", "--json"))
    folded = status["machines"]["ledger"]["slot"] + 1
    assert checked.pop("slots") >= 3 + folded
    assert checked == {"processes": 2, "receipts": 3, "replayed": 3, "verified": True}
    # What was there before the restart is there after it, and the node goes on.
    node = shell.start()
    try:
        assert json.loads(shell("result", process, message, "--json"))["slot"] == 1
        more = shell("send", process, "--tag", "Action=Info")
        assert json.loads(shell("result", process, more, "--json"))["slot"] == 3
    finally:
        shell.stop(node)


@pytest.mark.slow
def test_second_node_on_a_directory_is_refused(shell: Shell) -> None:
    shell("init")
    node = shell.start()
    try:
        refused = shell(
            "run", "--messenger-port=0", "--scheduler-port=0", "--compute-port=0", code=3
        )
        assert "in use" in refused
        # It asks peers first what it has signed, and there are none: that takes a few seconds.
        deadline = time.monotonic() + READY_S_MAX
        while not json.loads(shell("status", "--json"))["ready"]:
            assert time.monotonic() < deadline
    finally:
        shell.stop(node)


@pytest.mark.slow
def test_a_node_without_its_key_says_so(shell: Shell) -> None:
    shell("init")
    (shell.directory / "aonode-data" / "node-key.json").unlink()
    assert "no key file" in shell("run", code=5)
