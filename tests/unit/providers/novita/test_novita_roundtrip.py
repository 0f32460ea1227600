"""Properties of reading, rendering and reading back, over documents and specs of every shape that Novita may show."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from inference_operator.core.compare import differences
from inference_operator.providers.novita import translate
from inference_operator.providers.novita.wire import without_nulls
from novita_cases import DOCUMENT, SCHEMAS, SECRETS, a_spec, desired, observed, shown

BODY = Draft202012Validator({"$ref": "#/$defs/UpdateBody", "$defs": SCHEMAS})

numbers = st.integers(0, 2**31 - 1)
shown_numbers = numbers | numbers.map(str)
texts = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=12)
names = st.text("abcXYZ_019", min_size=1, max_size=4)
ports = st.sampled_from([1, 80, 8080, 65535])
paths = names.map("/".__add__)
nothing = st.none() | st.just("")
MISSING = object()


@st.composite
def documents(draw: st.DrawFn, *, extras: bool = False) -> dict[str, Any]:
    """An endpoint as get may show it; `extras` adds fields that no reference page names."""

    def maybe(strategy: st.SearchStrategy[Any]) -> Any:
        return draw(strategy | st.none() | st.just(MISSING))

    low = draw(st.integers(0, 3))
    local = st.fixed_dictionaries({"type": st.just("local"), "size": st.sampled_from([30, "30", 0, None])})
    network = st.fixed_dictionaries({"type": st.just("network"), "id": names, "size": shown_numbers})
    mounts = st.dictionaries(paths, local | network, max_size=3).map(
        lambda found: [{**mount, "mountPath": path} for path, mount in found.items()]
    )
    document = {
        **deepcopy(DOCUMENT),
        "name": maybe(texts),
        "clusterID": maybe(texts),
        "workerConfig": {
            "minNum": draw(st.sampled_from([low, str(low)])),
            "maxNum": low + draw(st.integers(0, 3)),
            "freeTimeout": draw(shown_numbers),
            "maxConcurrent": draw(shown_numbers),
            "gpuNum": draw(shown_numbers),
            "requestTimeout": draw(shown_numbers),
        },
        "ports": [{"port": draw(ports | ports.map(str))}],
        "policy": {"type": draw(st.sampled_from(["queue", "concurrency"])), "value": draw(shown_numbers)},
        "image": {"image": draw(names), "authId": maybe(texts), "command": maybe(texts)},
        "volumeMounts": maybe(mounts),
        "envs": maybe(st.dictionaries(names, texts, max_size=4).map(listed("key"))),
        "healthy": maybe(st.fixed_dictionaries({"path": paths, "period": numbers})),
    }
    document["image"] = {key: value for key, value in document["image"].items() if value is not MISSING}
    if extras:
        for each in (document, document["workerConfig"], document["ports"][0], document["image"]):
            each["zone"] = draw(st.sampled_from([None, 1, "a", {"b": None, "c": [1, None]}]))
    return {key: value for key, value in document.items() if value is not MISSING}


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """A spec that declares some of the fields."""

    def some(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
        return st.fixed_dictionaries({}, optional=fields)

    counts, positive = st.integers(0, 9), st.integers(1, 99)
    secret = st.sampled_from([("hf", "token"), ("hf", "other"), ("wb", "token")])
    value_from = secret.map(lambda ref: {"valueFrom": {"secretKeyRef": {"name": ref[0], "key": ref[1]}}})
    envs = st.dictionaries(names, texts.map(lambda value: {"value": value}) | value_from, max_size=4)
    local: st.SearchStrategy[Any] = st.sampled_from([{"type": "local"}, {"type": "local", "size": 30}])
    network = names.map(lambda name: {"type": "network", "id": name})
    mounts = st.dictionaries(paths, local | network, max_size=3)
    block = some(
        name=names,
        clusterID=texts,
        workerConfig=some(maxConcurrent=positive, requestTimeout=positive),
        port=ports,
        policy=st.fixed_dictionaries({"type": st.sampled_from(["queue", "concurrency"]), "value": counts}),
        image=some(image=names, authId=texts, command=texts),
        healthy=st.fixed_dictionaries({"path": paths}),
        envs=envs.map(lambda found: [{"name": name, **env} for name, env in found.items()]),
        volumeMounts=mounts.map(lambda found: [{"mountPath": path, **mount} for path, mount in found.items()]),
    )
    bounds = st.fixed_dictionaries({"minReplicas": counts, "maxReplicas": counts}, optional={"cooldownSeconds": counts})
    scaling = some(replicas=counts, cooldownSeconds=counts) | bounds
    return a_spec(scaling=draw(scaling), gpu=draw(some(count=positive)), **draw(block))


def listed(key: str) -> Any:
    return lambda found: [{key: name, "value": value} for name, value in found.items()]


def has_null(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return value is None or any(has_null(item) for item in items)


def as_text(value: Any) -> Any:
    """The same document with every number as text."""
    if isinstance(value, dict):
        return {key: as_text(each) for key, each in value.items()}
    if isinstance(value, list):
        return [as_text(each) for each in value]
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else value


@given(documents(), specs())
def test_every_body_is_one_that_the_documentation_allows(document: Any, spec: Any) -> None:
    BODY.validate(translate.render(desired(spec), observed(document)))


@given(documents(extras=True), specs())
def test_no_null_is_ever_sent(document: Any, spec: Any) -> None:
    assert not has_null(translate.render(desired(spec), observed(document)))


@given(documents(), specs())
def test_what_was_sent_reads_back_as_wished(document: Any, spec: Any) -> None:
    wanted = desired(spec)
    after = observed(shown(translate.render(wanted, observed(document)))).live
    assert differences(wanted, after, translate.agrees) == ()


@given(documents(), specs())
def test_what_is_not_declared_stays_as_it_was(document: Any, spec: Any) -> None:
    wanted, before = desired(spec), observed(document)
    after = observed(shown(translate.render(wanted, before))).live.values
    derived = {"scaling.replicas", "scaling.minReplicas", "scaling.maxReplicas"} if "scaling" in spec else set()
    for path, value in before.live.values.items():
        if path not in wanted.fields.keys() | derived and path.partition("[")[0] not in wanted.owned:
            assert after[path] == value


@given(documents(), specs())
def test_sending_once_more_sends_the_same(document: Any, spec: Any) -> None:
    wanted = desired(spec)
    first = observed(shown(translate.render(wanted, observed(document))))
    second = observed(shown(translate.render(wanted, first)))
    assert translate.render(wanted, first) == translate.render(wanted, second)


@pytest.mark.covers("C13")
@given(documents(), specs())
def test_numbers_as_text_make_no_difference(document: Any, spec: Any) -> None:
    plain, text = observed(document), observed(as_text(document))
    assert plain.live == text.live
    assert translate.render(desired(spec), plain) == translate.render(desired(spec), text)


@pytest.mark.covers("C13")
@given(documents(extras=True), specs())
def test_fields_that_nobody_knows_survive(document: Any, spec: Any) -> None:
    body = translate.render(desired(spec), observed(document))
    for part in ("workerConfig", "image"):
        assert body[part].get("zone") == without_nulls(document[part]["zone"])
    assert body.get("zone") == without_nulls(document["zone"])
    assert body["ports"][0].get("zone") == without_nulls(document["ports"][0]["zone"])


@given(specs(), st.randoms(use_true_random=False))
def test_the_order_of_lists_and_the_comment_mean_nothing(spec: Any, random: Any) -> None:
    shuffled = deepcopy(spec) | {"versionComment": "other"}
    for items in shuffled["novita"].values():
        if isinstance(items, list):
            random.shuffle(items)
    one, other = desired(spec), desired(shuffled)
    assert one.hash == other.hash
    assert list(one.fields) == list(other.fields)


@given(documents(), specs())
def test_no_repr_tells_an_environment_variable(document: Any, spec: Any) -> None:
    for secret in SECRETS.secrets.values():
        for value in secret.data.values():
            assert value.decode() not in f"{desired(spec)!r}{observed(document)!r}{SECRETS!r}"
