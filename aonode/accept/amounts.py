"""Amounts as people write them: tokens with a decimal point. Inside, integers of base units."""

from __future__ import annotations

from protocols.errors import Invalid, Reason
from protocols.parameters import Parameters

DIGITS_MAX = 20


def base_units(text: str, parameters: Parameters) -> int:
    """`12.5` tokens in base units. Raises Invalid(CONFIG) for anything but a decimal number above
    zero, with no more digits than the network's tokens have."""
    whole, point, rest = text.partition(".")
    digits = whole + rest
    plain = digits.isascii() and digits.isdigit() and len(whole) <= DIGITS_MAX
    if not plain or (point and not rest) or len(rest) > parameters.denomination:
        raise Invalid(
            Reason.CONFIG,
            f"{text[:64]!r} is no amount; write tokens as 12 or 12.5, with at most "
            f"{parameters.denomination} digits after the point",
        )
    amount = int(whole + rest.ljust(parameters.denomination, "0"))
    if not 0 < amount <= parameters.supply_cap:
        raise Invalid(
            Reason.CONFIG,
            f"{text} tokens is not above 0 and at most {tokens(parameters.supply_cap, parameters)}",
        )
    return amount


def tokens(amount: int, parameters: Parameters) -> str:
    """Base units as a decimal number of tokens, thousands apart."""
    text = str(amount).rjust(parameters.denomination + 1, "0")
    point = len(text) - parameters.denomination
    digits = text[point:].rstrip("0")
    return f"{int(text[:point]):,}{'.' + digits if digits else ''}"
