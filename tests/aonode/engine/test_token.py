"""The token that comes with the node, and that its binary is what its source gives."""

from __future__ import annotations

from pathlib import Path

import pytest

import aonode.processes
from aonode.engine.wasm import WasmEngine
from aonode.ports import ModuleSpec, Session, SlotResult
from aonode.processes import token_wasm
from aonode.processes.build import build
from protocols.codec import encode
from protocols.ids import ItemId, ProcessId
from protocols.outbox import Bounds, OutMessage, derive
from protocols.wire.outcome import Status

OWNER = "O" * 43
ALICE = "a" * 43
BOB = "0x" + "b" * 40
BOUNDS = Bounds(1 << 20, 256)
AMOUNT_MAX = (1 << 128) - 1

ENGINE = WasmEngine(
    fuel_max=100_000_000, memory_max=1 << 28, output_bytes_max=1 << 20, outbox_max=256
)


class Token:
    """A token process and its log."""

    def __init__(self, **tags: str) -> None:
        module = ModuleSpec(ItemId(b"m" * 32), token_wasm(), "ao-cbor-1")
        self.session: Session = ENGINE.open(ProcessId(b"p" * 32), module, b"", 1 << 28)
        self.slot = 0
        self.boot = self.send(OWNER, **tags)

    def send(self, sender: str, **tags: str) -> SlotResult:
        """One slot. `X_Note` stands for the tag `X-Note`."""
        pairs = [[name.replace("_", "-"), value] for name, value in tags.items()]
        call = encode(
            [1, b"p" * 32, b"m" * 32, self.slot, 0, b"i" * 32, sender, sender, pairs, b"data"]
        )
        self.slot += 1
        return self.session.run_slot(call)

    def outbox(self, sender: str, **tags: str) -> tuple[OutMessage, ...]:
        """Messages of a slot that has to go well."""
        result = self.send(sender, **tags)
        derived = derive("ao-cbor-1", Status(result.status), result.raw, BOUNDS)
        assert derived.status == Status.OK, derived.error
        return derived.outbox.messages

    def error(self, sender: str, **tags: str) -> str:
        """Error text of a slot that has to fail."""
        result = self.send(sender, **tags)
        derived = derive("ao-cbor-1", Status(result.status), result.raw, BOUNDS)
        assert derived.status == Status.ERROR
        return derived.error

    def balance(self, account: str) -> int:
        (message,) = self.outbox(ALICE, Action="Balance", Recipient=account)
        return int(message.data)


def tags_of(message: OutMessage) -> dict[str, str]:
    return {tag.name: tag.value for tag in message.tags}


def test_set_up_and_info() -> None:
    token = Token(Name="Coin", Ticker="CN", Denomination="12", Logo="L", Supply="1000")
    assert token.boot.status == Status.OK
    (info,) = token.outbox(ALICE, Action="Info")
    assert info.target == ALICE
    assert tags_of(info) == {
        "Action": "Info-Notice",
        "Name": "Coin",
        "Ticker": "CN",
        "Denomination": "12",
        "Logo": "L",
        "Supply": "1000",
    }
    assert token.balance(OWNER) == 1000
    assert token.balance(ALICE) == 0


def test_transfer_notices() -> None:
    token = Token(Supply="1000")
    debit, credit = token.outbox(
        OWNER, Action="Transfer", Recipient=ALICE, Quantity="30", X_Note="für dich"
    )
    assert (debit.target, credit.target) == (OWNER, ALICE)
    assert tags_of(debit) == {
        "Action": "Debit-Notice",
        "Recipient": ALICE,
        "Quantity": "30",
        "X-Note": "für dich",
    }
    assert tags_of(credit) == {
        "Action": "Credit-Notice",
        "Sender": OWNER,
        "Quantity": "30",
        "X-Note": "für dich",
    }
    assert debit.data == f"You transferred 30 to {ALICE}".encode()
    assert credit.data == f"You received 30 from {OWNER}".encode()
    assert token.outbox(ALICE, Action="Transfer", Recipient=BOB, Quantity="7", Cast="true") == ()
    assert [token.balance(name) for name in (OWNER, ALICE, BOB)] == [970, 23, 7]
    token.outbox(ALICE, Action="Transfer", Recipient=ALICE, Quantity="23")
    assert token.balance(ALICE) == 23


@pytest.mark.parametrize(
    ("sender", "tags", "error"),
    [
        (OWNER, {}, "the Action tag is missing"),
        (OWNER, {"Action": "Burn"}, "unknown Action"),
        (OWNER, {"Action": "Transfer", "Quantity": "1"}, "Recipient tag is missing"),
        (OWNER, {"Action": "Transfer", "Recipient": ""}, "1 to 64 printable"),
        (OWNER, {"Action": "Transfer", "Recipient": 'x"y'}, "1 to 64 printable"),
        (OWNER, {"Action": "Transfer", "Recipient": "x" * 65}, "1 to 64 printable"),
        (OWNER, {"Action": "Transfer", "Recipient": BOB}, "Quantity tag is missing"),
        (OWNER, {"Action": "Transfer", "Recipient": BOB, "Quantity": "-1"}, "decimal"),
        (OWNER, {"Action": "Transfer", "Recipient": BOB, "Quantity": "1.5"}, "decimal"),
        (OWNER, {"Action": "Transfer", "Recipient": BOB, "Quantity": "01"}, "decimal"),
        (OWNER, {"Action": "Transfer", "Recipient": BOB, "Quantity": ""}, "decimal"),
        (OWNER, {"Action": "Transfer", "Recipient": BOB, "Quantity": "0"}, "above 0"),
        (OWNER, {"Action": "Transfer", "Recipient": BOB, "Quantity": str(1 << 128)}, "decimal"),
        (OWNER, {"Action": "Transfer", "Recipient": BOB, "Quantity": "1001"}, "insufficient"),
        (ALICE, {"Action": "Transfer", "Recipient": BOB, "Quantity": "1"}, "insufficient"),
        (ALICE, {"Action": "Mint", "Quantity": "1"}, "only the owner"),
        (OWNER, {"Action": "Mint", "Quantity": str(AMOUNT_MAX)}, "128 bits"),
        (OWNER, {"Action": "Balances", "Limit": "251"}, "at most 250"),
    ],
)
def test_errors_are_clear_and_change_nothing(sender: str, tags: dict[str, str], error: str) -> None:
    token = Token(Supply="1000")
    root = token.session.state_root()
    assert error in token.error(sender, **tags)
    assert token.session.state_root() == root


def test_a_bad_set_up_leaves_a_token_that_says_so() -> None:
    token = Token(Supply="many")
    assert token.boot.status == Status.ERROR
    assert "not set up" in token.error(OWNER, Action="Info")


def test_mint_and_the_largest_amounts() -> None:
    token = Token(Supply=str(AMOUNT_MAX - 5))
    token.outbox(OWNER, Action="Mint", Quantity="5")
    token.outbox(OWNER, Action="Transfer", Recipient=ALICE, Quantity=str(AMOUNT_MAX))
    assert token.balance(ALICE) == AMOUNT_MAX
    assert token.balance(OWNER) == 0
    (total,) = token.outbox(BOB, Action="Total-Supply")
    assert int(total.data) == AMOUNT_MAX


def test_many_accounts_in_pages() -> None:
    token = Token(Supply="100000")
    names = [f"account-{number}" for number in range(1200)]
    for name in names:
        token.outbox(OWNER, Action="Transfer", Recipient=name, Quantity="2", Cast="")
    found: list[str] = [OWNER]
    seen = ""
    for start in range(0, 1250, 250):
        (page,) = token.outbox(BOB, Action="Balances", Start=str(start), Limit="250")
        seen += page.data.decode()
    assert all(f'"{name}":"2"' in seen for name in names)
    assert f'"{found[0]}":"{100000 - 2400}"' in seen
    (past,) = token.outbox(BOB, Action="Balances", Start="99999")
    assert past.data == b"{}"


def test_forwarded_tags_are_bounded() -> None:
    token = Token(Supply="10")
    error = token.error(OWNER, Action="Transfer", Recipient=BOB, Quantity="1", X_A="y" * 4096)
    assert "4096" in error


def test_input_that_is_no_message() -> None:
    token = Token(Supply="10")
    for call in (b"", b"\xff", encode([2, 0]), encode([1, b"p"]), bytes(70_000)):
        result = token.session.run_slot(call)
        assert result.status == Status.ERROR


@pytest.mark.slow
def test_the_binary_is_what_the_source_gives(tmp_path: Path) -> None:
    source = Path(aonode.processes.__file__).parent / "token.c"
    build(source, tmp_path / "token.wasm")
    assert (tmp_path / "token.wasm").read_bytes() == token_wasm()
