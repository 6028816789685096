"""What a member does about the others of its group, with facts and time made by hand."""

from collections.abc import Mapping

from tapeline.streams.orphans import LOOK_SECONDS, Judge, Member, Remedy

GHOST_SECONDS = 60.0
A = Member("a", "a", frozenset({0, 1}))
B = Member("b", "b", frozenset({2, 3}))
C = Member("c", None, frozenset())
BOTH = {"id-a": A, "id-b": B}
NOTHING: Mapping[int, int] = {}


def watch(
    judge: Judge,
    seconds: float,
    members: Mapping[str, Member] = BOTH,
    done: Mapping[int, int] = NOTHING,
    ends: Mapping[int, int] = NOTHING,
    start: float = 100.0,
) -> Remedy | None:
    """Look every few seconds at the same facts until something is to be done."""
    now = start
    while now <= start + seconds:
        if (remedy := judge.look(now, members, 4, done, ends)) is not None:
            return remedy
        now += LOOK_SECONDS
    return None


def test_a_group_in_which_all_is_well_is_left_alone() -> None:
    assert watch(Judge("a", GHOST_SECONDS), 600, done={2: 5, 3: 7}, ends={2: 5, 3: 7}) is None


def test_partitions_of_nobody_are_shared_by_one_of_the_members_at_the_second_look() -> None:
    members = {"id-a": A, "id-c": C}
    assert watch(Judge("a", GHOST_SECONDS), 0, members) is None
    assert watch(Judge("a", GHOST_SECONDS), LOOK_SECONDS, members) == Remedy("nobody has some partitions")
    assert watch(Judge("c", GHOST_SECONDS), 600, members) is None


def test_a_member_that_has_work_and_does_none_is_put_out_under_its_name() -> None:
    judge = Judge("a", GHOST_SECONDS)
    assert watch(judge, GHOST_SECONDS, done={2: 5, 3: 7}, ends={2: 5, 3: 8}) is None
    remedy = watch(judge, LOOK_SECONDS, done={2: 5, 3: 7}, ends={2: 9, 3: 9}, start=100 + GHOST_SECONDS + LOOK_SECONDS)
    assert remedy == Remedy("b has [2, 3] and has done nothing for 60 s", "b")


def test_the_first_of_those_that_live_does_it() -> None:
    ends = {0: 1}
    assert watch(Judge("b", GHOST_SECONDS), 90, ends=ends) == Remedy("a has [0, 1] and has done nothing for 60 s", "a")
    three = {**BOTH, "id-c": C}
    assert watch(Judge("c", GHOST_SECONDS), 90, three, ends=ends) is None
    assert watch(Judge("b", GHOST_SECONDS), 90, three, ends=ends) is not None


def test_who_does_some_of_its_work_lives() -> None:
    judge = Judge("a", GHOST_SECONDS)
    for step in range(100):
        assert judge.look(100 + step * LOOK_SECONDS, BOTH, 4, {2: step // 10, 3: 0}, {2: 1000, 3: 10}) is None


def test_who_came_back_under_its_name_begins_anew() -> None:
    judge = Judge("a", GHOST_SECONDS)
    assert watch(judge, GHOST_SECONDS, ends={2: 1}) is None
    assert watch(judge, GHOST_SECONDS, {"id-a": A, "id-b2": B}, ends={2: 1}, start=104 + GHOST_SECONDS) is None


def test_we_ourselves_are_the_watchdogs_business() -> None:
    assert watch(Judge("a", GHOST_SECONDS), 600, ends={0: 10}) is None


def test_time_in_which_nobody_looked_does_not_count() -> None:
    """We stood still, or the broker was away."""
    judge = Judge("a", GHOST_SECONDS)
    assert judge.look(100, BOTH, 4, {}, {2: 1}) is None
    assert judge.look(100 + 10 * GHOST_SECONDS, BOTH, 4, {}, {2: 1}) is None
    judge.forget()
    assert judge.look(102 + 10 * GHOST_SECONDS, BOTH, 4, {}, {2: 1}) is None


def test_a_group_of_ghosts_and_nobody_else_is_left_alone() -> None:
    assert Judge("z", GHOST_SECONDS).look(100, {}, 4, {}, {}) is None
