from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from inference_operator.core.roster import Roster


def roster(*members: tuple[str, str]) -> Roster:
    found = Roster()
    for uid, endpoint_id in members:
        assert found.join(uid, endpoint_id, "RUNNING", at=10, now=11)
    return found


def test_what_a_list_shows_as_before_is_confirmed() -> None:
    seen = roster(("a", "ep-1"))
    assert seen.note({"ep-1": "RUNNING"}, at=70) == []
    assert seen.confirmed("a", since=60) == "RUNNING"
    assert seen.shown_at("a") == 70


def test_a_look_of_long_ago_confirms_nothing() -> None:
    seen = roster(("a", "ep-1"))
    assert seen.confirmed("a", since=10) == "RUNNING"
    assert seen.confirmed("a", since=11) is None


def test_who_has_moved_has_to_look_once_and_is_no_longer_confirmed() -> None:
    seen = roster(("a", "ep-1"), ("b", "ep-2"))
    assert seen.note({"ep-1": "UPDATING", "ep-2": "RUNNING"}, at=70) == ["a"]
    assert seen.note({"ep-1": "RUNNING", "ep-2": "RUNNING"}, at=80) == []
    assert seen.confirmed("a", since=0) is None
    assert seen.shown_at("a") == 10, "as long as nothing is known of a later look"


def test_an_entry_that_cannot_be_read_is_one_that_has_moved() -> None:
    assert roster(("a", "ep-1")).note({"ep-1": None}, at=70) == ["a"]


def test_all_resources_of_an_endpoint_have_to_look() -> None:
    assert sorted(roster(("a", "ep-1"), ("b", "ep-1")).note({"ep-1": "UPDATING"}, at=70)) == ["a", "b"]


def test_a_list_that_was_asked_for_before_the_look_says_nothing_about_it() -> None:
    seen = roster(("a", "ep-1"))
    assert seen.note({"ep-1": "UPDATING"}, at=9) == []
    assert seen.confirmed("a", since=10) == "RUNNING"


def test_who_is_not_named_looks_by_itself_until_a_list_names_it() -> None:
    seen = roster(("a", "ep-1"), ("b", "ep-2"))
    seen.note({"ep-2": "RUNNING"}, at=70)
    assert seen.complete(begun=65) == ["a"]
    assert not seen.join("a", "ep-1", "RUNNING", at=75, now=76)
    assert "ep-1" in seen.wanted
    seen.note({"ep-1": "RUNNING"}, at=130)
    assert seen.join("a", "ep-1", "RUNNING", at=135, now=136)


def test_who_has_joined_while_a_list_was_read_is_not_missed_in_it() -> None:
    seen = roster()
    assert seen.join("a", "ep-1", "RUNNING", at=60, now=80)
    assert seen.complete(begun=70) == []
    assert seen.complete(begun=130) == ["a"]


def test_a_look_while_a_list_is_read_is_no_reason_for_another() -> None:
    seen = roster(("a", "ep-1"))
    seen.note({"ep-1": "RUNNING"}, at=72)
    assert seen.join("a", "ep-1", "RUNNING", at=69, now=80)
    assert seen.complete(begun=70) == []


def test_who_has_moved_since_a_look_began_does_not_rest_on_it() -> None:
    seen = roster(("a", "ep-1"))
    assert seen.note({"ep-1": "UPDATING"}, at=72) == ["a"]
    assert not seen.join("a", "ep-1", "RUNNING", at=69, now=80)
    assert seen.has_moved("a")
    assert seen.shown_at("a") == 69
    assert seen.join("a", "ep-1", "UPDATING", at=81, now=82)
    assert not seen.has_moved("a")


def test_nobody_rests_while_lists_cannot_be_read() -> None:
    seen = roster(("a", "ep-1"), ("b", "ep-2"))
    assert sorted(seen.blind()) == ["a", "b"]
    assert not seen.join("a", "ep-1", "RUNNING", at=75, now=76)
    seen.note({}, at=130)
    assert seen.join("a", "ep-1", "RUNNING", at=135, now=136)


def test_only_endpoints_of_members_matter() -> None:
    seen = roster(("a", "ep-1"), ("b", "ep-1"))
    seen.leave("a")
    assert "ep-1" in seen.wanted
    seen.leave("b")
    assert "ep-1" not in seen.wanted
    assert not seen


@given(st.text(), st.integers())
def test_a_stranger_is_never_confirmed(uid: str, since: int) -> None:
    seen = roster()
    seen.leave(uid)
    assert seen.confirmed(uid, since) is None
    assert seen.shown_at(uid) is None


UIDS = st.sampled_from(["a", "b", "c"])
ENDPOINTS = st.sampled_from(["ep-1", "ep-2"])
STATES = st.sampled_from(["RUNNING", "UPDATING", "SLEEPING"])


class Truth(RuleBasedStateMachine):
    """Endpoints that change, looks and lists that show the truth of their moment, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.roster = Roster()
        self.now = 0.0
        self.truth = {"ep-1": "RUNNING", "ep-2": "RUNNING"}
        self.since = dict.fromkeys(self.truth, 0.0)
        self.looking: dict[str, tuple[str, str, float]] = {}
        self.resting: dict[str, tuple[str, str]] = {}

    def pass_time(self) -> float:
        self.now += 1
        return self.now

    def woken(self, uids: list[str]) -> None:
        for uid in uids:
            del self.resting[uid]

    @rule(endpoint_id=ENDPOINTS, state=STATES)
    def changes(self, endpoint_id: str, state: str) -> None:
        if self.truth[endpoint_id] != state:
            self.truth[endpoint_id] = state
            self.since[endpoint_id] = self.pass_time()

    @rule(uid=UIDS, endpoint_id=ENDPOINTS)
    def begins_to_look(self, uid: str, endpoint_id: str) -> None:
        self.looking[uid] = (endpoint_id, self.truth[endpoint_id], self.pass_time())

    @precondition(lambda self: self.looking)
    @rule(data=st.data())
    def has_looked(self, data: st.DataObject) -> None:
        self.joins(data.draw(st.sampled_from(sorted(self.looking))))

    def joins(self, uid: str) -> None:
        endpoint_id, state, begun = self.looking.pop(uid)
        self.resting.pop(uid, None)
        if self.roster.join(uid, endpoint_id, state, begun, now=self.pass_time()):
            self.resting[uid] = (endpoint_id, state)

    @rule(uid=UIDS)
    def leaves(self, uid: str) -> None:
        self.resting.pop(uid, None)
        self.roster.leave(uid)

    @rule(named=st.sets(ENDPOINTS), meanwhile=st.sets(UIDS))
    def lists(self, named: set[str], meanwhile: set[str]) -> None:
        begun = self.pass_time()
        wanted = {each for each in named if each in self.roster.wanted}
        self.woken(self.roster.note({each: self.truth[each] for each in wanted}, begun))
        joined = meanwhile & self.looking.keys()
        for uid in sorted(joined):
            self.joins(uid)
        self.woken(self.roster.complete(begun))
        for uid, (endpoint_id, state) in self.resting.items():
            if uid in joined:
                continue
            assert endpoint_id in named, f"{uid} rests, and the list has not named its endpoint"
            assert state == self.truth[endpoint_id], f"{uid} rests, and its endpoint has moved"

    @precondition(lambda self: self.resting)
    @rule()
    def fails_to_list(self) -> None:
        self.woken(self.roster.blind())
        assert not self.resting

    @invariant()
    def what_is_confirmed_was_true_then(self) -> None:
        for uid, (endpoint_id, state) in self.resting.items():
            shown_at = self.roster.shown_at(uid)
            assert shown_at is not None
            assert self.roster.confirmed(uid, shown_at) == state
            if shown_at > self.since[endpoint_id]:
                assert state == self.truth[endpoint_id]


TestTruth = Truth.TestCase
