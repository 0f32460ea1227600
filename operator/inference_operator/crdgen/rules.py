"""The rules of the spec that hold for every provider, as CEL that the API server evaluates.

A message says what to write instead. A provider's own rules stand beside its options model.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

from inference_operator.api.spec import DEFAULT_CONNECTION_KEYS
from inference_operator.core.port import Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from inference_operator.api.base import ApiModel


class ProviderBlock(Protocol):
    """The part of a driver that the custom resource is made of (`core.port.Driver`)."""

    @property
    def name(self) -> str:
        """The value of `spec.provider`, and the name of the block."""

    @property
    def options(self) -> type[ApiModel]:
        """The model of the block."""

    @property
    def rules(self) -> Sequence[Rule]:
        """What the API server checks for this provider."""


_PROVIDER, _ENDPOINT_ID, _URL = (
    f"(has(self.{field}) ? self.{field} : '{default}')"
    for field, default in zip(("provider", "endpointId", "url"), DEFAULT_CONNECTION_KEYS, strict=True)
)

_ENDPOINT_STAYS = (
    "endpointId cannot be changed or removed once it is set; write the old id, or create another resource for the other"
    " endpoint"
)

SHARED: Final = ("", "gpu", "scaling")
"""Where rules of a driver may hang, besides its own block: at the spec, and at its parts for all providers."""

_OTHERS = ", ".join(filter(None, SHARED))

NEUTRAL: tuple[Rule, ...] = (
    Rule(
        path="provider",
        rule="self == oldSelf",
        message="provider cannot be changed; delete this resource and create one for the other provider",
    ),
    Rule(rule="!has(oldSelf.endpointId) || has(self.endpointId)", message=_ENDPOINT_STAYS),
    Rule(path="endpointId", rule="self == oldSelf", message=_ENDPOINT_STAYS),
    Rule(
        path="scaling",
        rule="!has(self.replicas) || (!has(self.minReplicas) && !has(self.maxReplicas))",
        message="scaling has either replicas, or minReplicas and maxReplicas; remove one of the two. What an earlier"
        " change left in the cluster goes with kubectl patch inferenceendpoint NAME --type=json -p"
        """ '[{"op":"remove","path":"/spec/scaling"}]', then apply again""",
    ),
    Rule(
        path="scaling",
        rule="has(self.minReplicas) == has(self.maxReplicas)",
        message="minReplicas and maxReplicas go together; write both, or replicas for a fixed number",
    ),
    Rule(
        path="scaling",
        rule="!has(self.minReplicas) || !has(self.maxReplicas) || self.minReplicas <= self.maxReplicas",
        message="minReplicas is greater than maxReplicas; write minReplicas: 0 to let the endpoint sleep when idle,"
        " or a greater maxReplicas",
    ),
    Rule(
        path="writeConnectionTo.keys",
        rule=f"{_PROVIDER} != {_ENDPOINT_ID} && {_PROVIDER} != {_URL} && {_ENDPOINT_ID} != {_URL}",
        message="two values cannot have one key; write a different key for each of provider, endpointId and url",
    ),
)


def spec_rules(drivers: Iterable[ProviderBlock]) -> list[Rule]:
    """All rules of a spec that may name one of these drivers."""
    rules = list(NEUTRAL)
    for driver in drivers:
        rules += [*_block_rules(driver.name), *(_confined(rule, driver.name) for rule in driver.rules)]
    return rules


def _block_rules(name: str) -> tuple[Rule, Rule]:
    return (
        Rule(
            rule=f"self.provider != '{name}' || has(self.{name})",
            message=f"provider is {name}, and its block is missing; add {name}: and its fields,"
            f" or {name}: {{}} to manage none of them",
        ),
        Rule(
            rule=f"self.provider == '{name}' || !has(self.{name})",
            message=f"the block {name} belongs to another provider; remove it, or write provider: {name}",
        ),
    )


def _confined(rule: Rule, name: str) -> Rule:
    """The rule of a driver, kept from speaking about resources of others.

    A rule about a part of the spec that all providers share hangs at the spec, which tells the provider.

    Raises:
        ValueError: The rule hangs elsewhere.
    """
    if rule.path.split(".")[0] == name:
        return rule
    if rule.path not in SHARED:
        raise ValueError(f"a rule of {name} hangs at {rule.path}; it may hang at the spec, {_OTHERS}, or below {name}")
    speaks = _about(rule.path, rule.rule) if rule.path else rule.rule
    return Rule(rule=f"self.provider != '{name}' || ({speaks})", message=rule.message)


def _about(part: str, rule: str) -> str:
    """A rule about a part of the spec as one about the spec.

    It takes the part out once: of each field that a rule names, the API server makes a list of all that are declared
    beside it, at each write, and the spec has many.
    """
    about = re.sub(r"\bself\b", part, rule)
    return f"!has(self.{part}) || [self.{part}].all({part}, {about})"
