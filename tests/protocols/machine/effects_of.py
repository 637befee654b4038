"""Picking effects out of a list."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from protocols.machine.effects import Effect, Event, Notify, Reply

T = TypeVar("T")
E = TypeVar("E", bound=Event)


def only(effects: Sequence[Effect], kind: type[T]) -> list[T]:
    """The effects of one kind."""
    return [effect for effect in effects if isinstance(effect, kind)]


def notices(effects: Sequence[Effect], kind: type[E]) -> list[E]:
    """The events of one kind that are told to the node's other machines."""
    return [effect.event for effect in only(effects, Notify) if isinstance(effect.event, kind)]


def reply(effects: Sequence[Effect]) -> Any:
    """The value of the one reply."""
    (answer,) = only(effects, Reply)
    return answer.value
