"""What a connection has of each of its subscriptions, ordinary (`subscription.py`) or durable (`durable.py`)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Protocol

from historian.stream.events import Data, Event


class OpenSubscription(Protocol):
    """Events to be sent, and what the client's control messages ask for. Where a kind has no such thing, it raises BadInput and says so."""

    @property
    def tag_count(self) -> int:
        """How many tags it has now. They are counted in the budget; whoever ends the subscription gives them back."""

    def events(self) -> AsyncGenerator[Event, None]:
        """All that the client is to be sent, in order; iterated once."""

    def write_with(self, write: Callable[[Data], bool]) -> None:
        """A way to write a frame at once, which it may use while `events` waits for something to come; it returns False where it cannot."""

    @property
    def pause(self) -> Callable[[], None]:
        """Send no data frames until `resume`."""

    @property
    def resume(self) -> Callable[[], None]: ...

    @property
    def grant(self) -> Callable[[int], None]:
        """So many more data frames may be sent."""

    def change(self, add: Sequence[str], remove: Sequence[str]) -> None:
        """Ask for these names too, and for those no more. Raises BadInput, Busy."""

    def acknowledge(self, position: str) -> None:
        """The client has all up to this position, for good. Raises BadInput."""
