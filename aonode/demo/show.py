"""What the demo tells while it runs: one line per station, plain text, coloured on a terminal."""

from __future__ import annotations

from rich.console import Console

_STYLES = {"client": "bold", "mu": "cyan", "su": "yellow", "cu": "green", "disk": "magenta"}
NAME_WIDTH = 7


class Show:
    """Writes lines to standard output, or nothing if `quiet`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._console = Console(highlight=False, soft_wrap=True, quiet=quiet)

    def title(self, text: str) -> None:
        """What comes next."""
        self._console.print(f"\n{text}", style="bold", markup=False)

    def say(self, text: str) -> None:
        """A line of prose."""
        self._console.print(text, markup=False)

    def station(self, where: str, what: str, *, slot: int | None = None, ms: float) -> None:
        """Something happened to a message: where, what, in which slot, so long after it left."""
        place = "" if slot is None else f"slot {slot}"
        name = f"{where:{NAME_WIDTH}}"
        style = _STYLES.get(where.rstrip("0123456789"), "")
        self._console.print(f"  {name}", style=style, end="", markup=False)
        self._console.print(f" {place:9} {ms:8.1f} ms  {what}", markup=False)

    def passed(self, number: int, slot: int, times_ms: dict[str, float], what: str) -> None:
        """One message has been through every station; when it was at each."""
        times = "  ".join(f"{where} {ms:.0f}" for where, ms in times_ms.items())
        self._console.print(f"  #{number:<4} slot {slot:<5} {times} ms  {what}", markup=False)
