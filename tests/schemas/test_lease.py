"""Leases: one holder at a time, whatever the order of words, delays and silence; the log alone decides."""

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from tapeline.schemas import Lease, Leases, is_older
from tapeline.schemas.lease import EPOCHS, TTL_MS, next_epoch


def word(what: str, holder: str = "a", epoch: int = 0) -> Lease:
    return Lease.model_validate({"source": "v/0", "holder": holder, "epoch": epoch, "what": what})


def after(*words: tuple[int, Lease]) -> tuple[str, int]:
    leases = Leases()
    for time_ms, record in words:
        leases.take(record, time_ms)
    return leases.of("v/0").holder, leases.of("v/0").epoch


def test_the_first_claim_wins_and_others_wait() -> None:
    assert after((1, word("claim", "a")), (2, word("claim", "b"))) == ("a", 1)


def test_a_silent_holder_is_followed_and_a_loud_one_is_not() -> None:
    claim, hold, other = (1, word("claim", "a")), (3000, word("hold", "a", 1)), word("claim", "b", 1)
    assert after(claim, (TTL_MS + 1, other)) == ("a", 1)
    assert after(claim, (TTL_MS + 2, other)) == ("b", 2)
    assert after(claim, hold, (TTL_MS + 2, other)) == ("a", 1)
    assert after(claim, (TTL_MS + 2, other), (TTL_MS + 3, word("hold", "a", 1))) == ("b", 2), "too late"


def test_a_lease_that_is_given_back_is_free_at_once() -> None:
    assert after((1, word("claim")), (2, word("release", epoch=1)), (3, word("claim", "b", 1))) == ("b", 2)
    assert after((1, word("claim")), (2, word("release", "b", 1))) == ("a", 1), "not theirs to give"


def test_what_compaction_leaves_is_enough() -> None:
    assert after((9, word("hold", "a", 7)), (10, word("claim", "b", 7))) == ("a", 7)
    assert after((9, word("release", "a", 7)), (10, word("claim", "b", 7))) == ("b", 8)


def test_epochs_begin_anew_without_zero() -> None:
    assert next_epoch(0) == 1
    assert next_epoch(EPOCHS - 1) == 1
    assert is_older(EPOCHS - 1, 1)
    assert not is_older(1, EPOCHS - 1)
    assert is_older(3, 4)
    assert not is_older(4, 4)


@dataclass(order=True)
class Word:
    """What a process says: when it sends it, and when the broker takes it."""

    arrives_ms: int
    sent_ms: int = field(compare=False)
    record: Lease = field(compare=False)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abc"),
            st.integers(0, 3000),  # how long the process does nothing before it speaks
            st.integers(0, 6000),  # how long its word is under way
            st.sampled_from(["claim", "hold", "hold", "hold", "release"]),
        ),
        max_size=60,
    )
)
def test_no_two_are_sure_at_the_same_time(steps: list[tuple[str, int, int, str]]) -> None:
    """A process is sure until TTL after it sent the last word that counted; no other one begins before that."""
    now_ms = dict.fromkeys("abc", 0)
    words: list[Word] = []
    for name, idle_ms, under_way_ms, what in steps:
        now_ms[name] += idle_ms + 1
        words.append(Word(now_ms[name] + under_way_ms, now_ms[name], word(what, name)))
        now_ms[name] += under_way_ms  # it waits for the broker's answer
    leases, sure = Leases(), dict[str, int]()
    for spoken in sorted(words):
        name, time_ms = spoken.record.holder, spoken.arrives_ms + 1
        before = leases.of("v/0").holder
        leases.take(spoken.record, time_ms)
        holder = leases.of("v/0").holder
        if holder == name:
            sure[name] = spoken.sent_ms + TTL_MS
        elif before == name:  # given back
            sure[name] = spoken.sent_ms
        for other, until_ms in sure.items():
            assert not holder or holder == before or other == holder or until_ms <= time_ms
