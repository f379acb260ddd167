"""What one connection may ask of the server: subscriptions, tags, control messages. Each refusal says what to do instead."""

from __future__ import annotations

from dataclasses import dataclass

from historian.schema.errors import BadInput, Busy
from historian.token_bucket import TokenBucket

#: tags of a subscription, with those that wildcards match, now and later
MAX_TAGS = 10_000


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one connection. `controls_s`: control messages a second, in the long run; ten seconds' worth may come at once."""

    subscriptions: int = 64
    tags: int = 50_000
    controls_s: int = 100


class TagBudget:
    """Counts the tags of all subscriptions of a connection."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.held = 0

    def check(self, subscription: int, more: int) -> None:
        """Raises BadInput if a subscription of so many tags is too large, or `more` tags are too many for the connection."""
        if subscription > MAX_TAGS:
            raise BadInput(
                f"these names stand for {subscription} tags, and a subscription has {MAX_TAGS} at most: ask for fewer, or narrower wildcards, in several subscriptions"
            )
        if self.held + more > self._limit:
            raise BadInput(
                f"{self.held + more} tags over all subscriptions of this connection, and at most {self._limit} may be: "
                "unsubscribe from what is not looked at, or open another connection"
            )

    def take(self, tags: int) -> None:
        self.held += tags

    def give_back(self, tags: int) -> None:
        self.held -= tags


class ControlRate:
    """A token bucket for control messages."""

    BURST_S = 10

    def __init__(self, a_second: int) -> None:
        self._a_second = a_second
        self._bucket = TokenBucket(a_second, self.BURST_S)

    def count(self) -> None:
        """One more has come. Raises Busy for one too many."""
        if self._bucket.take():
            raise Busy(
                f"more than {self._a_second} control messages a second; this one was passed over: send fewer, as with one credit for many frames",
                retry_after=1 / self._a_second,
            )
