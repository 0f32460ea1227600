"""What any provider must do, whoever wrote its driver; see `core.port` for the contract in words."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from typing import Any

import pytest

from inference_operator.core.compare import differences
from inference_operator.core.model import EndpointRef, Look, SecretData, SecretValues, State, canonical_json
from inference_operator.errors import Ambiguous, CredentialsRejected, InvalidSpec, NotFound
from provider_subjects import ENDPOINT, ENV_SECRET, SUBJECTS, TOKEN, WHOLE_LOOK, Subject, a_spec

LOOKS = [Look(), Look(history=True), Look(history=True, base=0), Look(limits=True), WHOLE_LOOK]


@pytest.fixture(params=sorted(SUBJECTS))
async def subject(request: pytest.FixtureRequest) -> AsyncIterator[Subject]:
    async with SUBJECTS[request.param]() as made:
        yield made


def turned(value: Any) -> Any:
    """The same value with every list backwards."""
    if isinstance(value, Mapping):
        return {key: turned(each) for key, each in value.items()}
    return [turned(each) for each in reversed(value)] if isinstance(value, list) else value


class TestTheSpec:
    def test_is_understood_the_same_way_every_time(self, subject: Subject) -> None:
        assert subject.desired() == subject.desired()
        assert list(subject.desired().fields) == list(subject.desired(turned(subject.spec)).fields)

    def test_means_the_same_with_lists_turned_and_another_comment(self, subject: Subject) -> None:
        assert subject.desired(turned(subject.spec)).hash == subject.desired().hash
        assert subject.desired({**subject.spec, "versionComment": "other"}).hash == subject.desired().hash

    def test_means_something_else_with_any_field_left_out(self, subject: Subject) -> None:
        whole, block = subject.desired(), subject.spec[subject.driver.name]
        for name in block:
            less = {key: value for key, value in block.items() if key != name}
            assert subject.desired({**subject.spec, subject.driver.name: less}).hash != whole.hash, name

    def test_is_known_by_the_paths_that_users_write(self, subject: Subject) -> None:
        for path in subject.desired().fields:
            assert path.partition(".")[0] in {"gpu", "scaling", subject.driver.name}, path

    def test_names_its_endpoint(self, subject: Subject) -> None:
        assert subject.desired().ref == subject.ref
        with pytest.raises(InvalidSpec, match="endpointId"):
            subject.desired({**subject.spec, "endpointId": None})

    def test_declares_the_secrets_that_it_needs(self, subject: Subject) -> None:
        options = subject.driver.options.model_validate(subject.spec[subject.driver.name])
        assert subject.desired().secrets.keys() == subject.driver.secret_names(options)

    def test_may_be_empty(self, subject: Subject) -> None:
        nothing = subject.desired(a_spec(subject.driver.name, {}))
        assert (dict(nothing.fields), nothing.owned) == ({}, frozenset())


class TestALook:
    @pytest.mark.parametrize("look", LOOKS, ids=repr)
    async def test_changes_nothing(self, subject: Subject, look: Look) -> None:
        before = subject.books.kept()
        await subject.look(look)
        assert subject.books.kept() == before
        assert subject.books.updates() == 0

    @pytest.mark.parametrize("look", LOOKS, ids=repr)
    async def test_at_an_unknown_endpoint_says_so(self, subject: Subject, look: Look) -> None:
        with pytest.raises(NotFound):
            await subject.connection.observe(EndpointRef(subject.driver.name, "ep-none"), look)

    async def test_with_a_refused_key_is_not_taken_for_an_absent_endpoint(self, subject: Subject) -> None:
        subject.books.refuse_key()
        with pytest.raises(CredentialsRejected):
            await subject.look(Look(history=True))

    async def test_shows_canonical_values(self, subject: Subject) -> None:
        live = (await subject.look()).live
        assert canonical_json(dict(live.values)) == canonical_json(dict((await subject.look()).live.values))
        assert all(subject.driver.agrees(path, value, value) for path, value in live.values.items())

    async def test_shows_every_readable_field_of_a_whole_spec_to_differ(self, subject: Subject) -> None:
        wanted = subject.desired()
        found = differences(wanted, (await subject.look()).live, subject.driver.agrees)
        assert {each.path for each in found} >= wanted.readable.keys()

    async def test_asks_nothing_of_an_empty_spec(self, subject: Subject) -> None:
        nothing = subject.desired(a_spec(subject.driver.name, {}))
        assert differences(nothing, (await subject.look()).live, subject.driver.agrees) == ()

    async def test_does_not_guess_an_unknown_state(self, subject: Subject) -> None:
        assert (await subject.look()).state in {State.RUNNING, State.SLEEPING}
        await subject.books.say("HIBERNATING")
        seen = await subject.look()
        assert (seen.state, seen.failure) == (State.UNKNOWN, None)
        assert "HIBERNATING" in seen.provider_state

    async def test_reads_numbers_in_text(self, subject: Subject) -> None:
        plain = await subject.look()
        await subject.books.tell_numbers_as_text()
        text = await subject.look()
        assert text.live == plain.live
        assert (text.minimum, text.replicas, text.history) == (plain.minimum, plain.replicas, plain.history)

    async def test_carries_a_history_where_there_is_one_and_it_was_asked_for(self, subject: Subject) -> None:
        assert (await subject.look(Look())).history is None
        history = (await subject.look(Look(history=True))).history
        assert (history is not None) == subject.driver.capabilities.history


class TestAList:
    async def listed(self, subject: Subject, *wanted: str) -> dict[str, Any]:
        entries: dict[str, Any] = {}
        cursor, cursors = None, set[str]()
        while True:
            page = await subject.connection.page(cursor, wanted or {ENDPOINT})
            entries |= page.entries
            cursor = page.cursor
            if cursor is None:
                return entries
            assert cursor not in cursors
            cursors.add(cursor)

    async def test_shows_of_an_endpoint_what_a_look_does(self, subject: Subject) -> None:
        for look in (Look(), WHOLE_LOOK):
            seen = await subject.look(look)
            assert seen.listed is not None
            assert await self.listed(subject) == {ENDPOINT: seen.listed}

    async def test_shows_nothing_that_was_not_asked_for(self, subject: Subject) -> None:
        assert await self.listed(subject, "ep-none") == {}

    async def test_shows_that_an_endpoint_was_updated(self, subject: Subject) -> None:
        before = await self.listed(subject)
        await subject.update()
        assert await self.listed(subject) != before

    async def test_shows_that_an_endpoint_has_changed_its_state(self, subject: Subject) -> None:
        before = await subject.look()
        subject.books.fall_asleep()
        assert (await self.listed(subject))[ENDPOINT] != before.listed
        assert (await self.listed(subject))[ENDPOINT] == (await subject.look()).listed

    async def test_spares_a_look_what_it_has_confirmed(self, subject: Subject) -> None:
        seen = await subject.look()
        assert await subject.look(replace(WHOLE_LOOK, listed=seen.listed)) == seen

    async def test_has_all_of_its_pages(self, subject: Subject) -> None:
        more = {f"ep-more-{number}" for number in range(250)}
        subject.books.add(more)
        assert (await self.listed(subject, ENDPOINT, *more)).keys() == {ENDPOINT, *more}

    async def test_with_a_refused_key_is_refused(self, subject: Subject) -> None:
        subject.books.refuse_list()
        with pytest.raises(CredentialsRejected):
            await self.listed(subject)


class TestAnUpdate:
    async def test_arrives_once_and_reads_back_as_wished(self, subject: Subject) -> None:
        await subject.update()
        assert subject.books.updates() == 1
        assert differences(subject.desired(), (await subject.look()).live, subject.driver.agrees) == ()

    async def test_acknowledges_what_then_reads_back(self, subject: Subject) -> None:
        body = subject.driver.render(subject.desired(), await subject.look(), "")
        acknowledged = await subject.connection.update(subject.ref, body)
        taken_over = await subject.look(replace(WHOLE_LOOK, document=acknowledged))
        assert taken_over == await subject.look()

    async def test_sent_twice_sends_the_same(self, subject: Subject) -> None:
        await subject.update()
        kept = subject.driver.render(subject.desired(), await subject.look(), "")
        await subject.update()
        assert subject.driver.render(subject.desired(), await subject.look(), "") == kept

    async def test_of_one_field_leaves_the_others(self, subject: Subject) -> None:
        before = (await subject.look()).live.values
        await subject.update(a_spec(subject.driver.name, {"name": "renamed"}))
        after = (await subject.look()).live.values
        assert after == {**before, f"{subject.driver.name}.name": "renamed"}

    async def test_of_nothing_leaves_everything(self, subject: Subject) -> None:
        before = (await subject.look()).live
        await subject.update(a_spec(subject.driver.name, {}))
        assert (await subject.look()).live == before

    @pytest.mark.parametrize("replicas", [1, 3])
    async def test_of_a_fixed_count_reads_back_as_one(self, subject: Subject, replicas: int) -> None:
        spec = a_spec(subject.driver.name, {}, scaling={"replicas": replicas})
        await subject.update(spec)
        seen = await subject.look()
        assert differences(subject.desired(spec), seen.live, subject.driver.agrees) == ()
        assert (seen.minimum, seen.replicas.desired) == (replicas, replicas)

    @pytest.mark.parametrize("commit", [True, False])
    async def test_without_an_answer_is_ambiguous_and_never_repeated(
        self,
        subject: Subject,
        commit: bool,  # noqa: FBT001 - both sides of the table
    ) -> None:
        subject.books.lose_answer(commit=commit)
        with pytest.raises(Ambiguous):
            await subject.update()
        assert subject.books.updates() == 1
        left = differences(subject.desired(), (await subject.look()).live, subject.driver.agrees)
        assert (left == ()) is commit

    async def test_that_is_refused_changes_nothing(self, subject: Subject) -> None:
        before = subject.books.kept()
        subject.books.refuse_update()
        with pytest.raises(InvalidSpec):
            await subject.update()
        assert subject.books.kept() == before

    async def test_counts_up_versions_by_number(self, subject: Subject) -> None:
        for number in range(1, 12):
            await subject.update(a_spec(subject.driver.name, {"name": f"name-{number}"}))
        since, newest = [(await subject.look(Look(history=True, base=base))).history for base in (9, None)]
        if not subject.driver.capabilities.history:
            assert (since, newest) == (None, None)
            return
        assert since is not None
        assert newest is not None
        assert since.newest == newest.newest == 11
        name = f"{subject.driver.name}.name"
        named = [(9, "name-9"), (10, "name-10"), (11, "name-11")]
        assert [(each.number, each.snapshot.values[name]) for each in since.entries] == named
        assert [each.number for each in newest.entries] == [11]


class TestSecrets:
    async def test_are_in_no_repr(self, subject: Subject) -> None:
        wanted = subject.desired()
        await subject.update()
        seen = await subject.look()
        shown = [
            wanted,
            wanted.fields,
            seen,
            seen.live,
            seen.document,
            seen.history,
            subject.connection,
            subject.secrets,
        ]
        text = " ".join(f"{each!r} {each!s}" for each in shown)
        assert TOKEN not in text
        assert ENV_SECRET not in text

    async def test_are_in_no_error(self, subject: Subject) -> None:
        subject.books.refuse_update()
        with pytest.raises(InvalidSpec) as raised:
            await subject.update()
        text = f"{raised.value!r} {raised.value} {raised.value.message}"
        assert "swordfish" not in text
        assert "marmalade" not in text

    async def test_are_hashed_nowhere(self, subject: Subject) -> None:
        before = subject.desired().hash
        subject.secrets = SecretValues({"hf": SecretData("2", {"token": b"another"})})
        assert subject.desired().hash == before

    async def test_stand_in_confidential_fields_only(self, subject: Subject) -> None:
        for path, declared in subject.desired().fields.items():
            assert subject.driver.confidential(path) or ENV_SECRET not in str(declared.value)
