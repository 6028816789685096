"""What our own feed says in `raw`, beside the venue's messages: JSON in the messages of frames flagged FEED.

`connectors/venues` writes them where it reads a live venue or a capture, and turns them into ticks: what a venue does
not say itself (that the connection broke, what an answer of its REST belongs to) is in the log like everything else.
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from tapeline.schemas.errors import EventError
from tapeline.schemas.events import Event
from tapeline.schemas.tick import GapReason, Kind


class FeedConnect(Event):
    """The connection to the venue is there (again); numbers that a connection counts from its beginning start anew."""

    feed: Literal["connect"] = "connect"
    url: str


class FeedGap(Event):
    """Data of these symbols is missing from here on, until something shows otherwise."""

    feed: Literal["gap"] = "gap"
    reason: GapReason
    symbols: tuple[str, ...] = Field(description="in the venue's own spelling")
    kind: Kind | None = Field(default=None, description="which kind of tick is missing; null = every kind")
    missing: int = Field(default=0, description="how many messages, 0 if not known")
    detail: str = ""


class FeedAnswer(Event):
    """What the venue's REST answered: a snapshot of the order book of `symbol`."""

    feed: Literal["answer"] = "answer"
    url: str
    symbol: str
    data: str = Field(description="the body, as it came")


FeedEvent = FeedConnect | FeedGap | FeedAnswer
_EVENT: TypeAdapter[FeedEvent] = TypeAdapter(Annotated[FeedEvent, Field(discriminator="feed")])


def decode_feed(message: bytes) -> FeedEvent:
    """Read one message of a frame flagged FEED; raise EventError if it is none of ours."""
    try:
        return _EVENT.validate_json(message)
    except ValidationError as error:
        raise EventError(f"not an event of the feed: {error.errors()[0]['msg']}") from error
