"""Which Lease belongs to which scope: processes compete for one Lease only if they would do the same work.

Two shards, or two operators for different namespaces, may keep their Leases in one namespace. If those had one name,
only one of them would ever be active.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Final

NAME: Final = "inference-operator"

_SUFFIX_LENGTH: Final = 8


def lease_name(namespaces: Iterable[str], label_selector: str | None) -> str:
    """The name of the Lease for a scope: plain where everything is in scope, else with a suffix made of the scope.

    Args:
        namespaces: Those that are worked in; none means all. Their order does not matter.
        label_selector: As in `kubectl -l`; None for all. Neither order nor spacing matters.
    """
    scope = (",".join(sorted(set(namespaces))), _canonical(label_selector or ""))
    if scope == ("", ""):
        return NAME
    return f"{NAME}-{hashlib.sha256(';'.join(scope).encode()).hexdigest()[:_SUFFIX_LENGTH]}"


def _canonical(selector: str) -> str:
    requirements = re.split(r",(?![^(]*\))", selector)  # not at the commas of a set of values
    return ",".join(sorted({_requirement(each) for each in requirements} - {""}))


def _requirement(text: str) -> str:
    text = re.sub(r"\s*(!=|==|=|!)\s*", lambda sign: sign[1].replace("==", "="), text)
    text = re.sub(r"\s*\(([^)]*)\)", lambda values: f" ({_sorted(values[1])})", text)
    return " ".join(text.split())


def _sorted(values: str) -> str:
    return ",".join(sorted({value.strip() for value in values.split(",")}))
