"""Plans of aoconnect calls, and what the client returned for each."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from tests.conformance.nodejs import AOCONNECT, SCRIPTS, installed, node
from tests.conformance.small_network import Small

Signer = dict[str, Any]
"""`kind` and `secret` of `js/signers.mjs`."""


@dataclass
class Plan:
    """Calls in order. `"$name"` in arguments is the value of the earlier step of that name."""

    steps: list[dict[str, Any]] = field(default_factory=list)

    def add(self, call: str, /, *, named: str = "", **args: Any) -> str:
        """Append a call; `named` is its name for later steps, one of its own by default."""
        name = named or f"{call}-{len(self.steps)}"
        self.steps.append({"call": call, "as": name, "args": args})
        return "$" + name

    def message(self, process: str, action: str, data: str = "", **tags: str) -> str:
        """Append a message with these tags."""
        pairs = [
            {"name": name, "value": value} for name, value in {"Action": action, **tags}.items()
        ]
        return self.add("message", process=process, tags=pairs, data=data)


class Answers:
    """What each step of a plan returned."""

    def __init__(self, plan: Plan, answers: list[dict[str, Any]]) -> None:
        assert len(answers) == len(plan.steps)
        self.steps = list(zip(plan.steps, answers, strict=True))
        self._by_name = {step["as"]: answer for step, answer in self.steps}

    def value(self, name: str) -> Any:
        """The value of a step, by the name that `Plan.add` returned."""
        answer = self._by_name[name.removeprefix("$")]
        assert "value" in answer, f"{name} threw {answer.get('error')}"
        return answer["value"]

    def error(self, name: str) -> str:
        """The error a step threw."""
        answer = self._by_name[name.removeprefix("$")]
        assert "error" in answer, f"{name} returned {answer['value']}"
        return str(answer["error"])


def run(small: Small, signer: Signer, plan: Plan) -> Answers:
    """Run a plan with an unmodified aoconnect against the ports of `small`."""
    modules = installed(AOCONNECT)
    given = {
        "mu": small.mu,
        "cu": small.cu,
        "modules": str(modules),
        "signer": signer,
        "steps": plan.steps,
    }
    done = node(SCRIPTS / "aoconnect.mjs", stdin=json.dumps(given))
    assert done.returncode == 0, done.stderr[-4000:]
    return Answers(plan, json.loads(done.stdout))
