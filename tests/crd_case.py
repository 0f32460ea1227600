"""The form of a resource that must be refused: a valid one, of which a case changes what it is about."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import yaml

from inference_operator.api.names import API_VERSION, KIND

GONE = object()
"""As the value of an edit: the field is taken away."""

_BLOCKS: dict[str, dict[str, Any]] = {
    "friendli": {"hfModelRepo": "meta-llama/Llama-3.1-8B-Instruct"},
    "novita": {"port": 8080},
}


def resource(provider: str = "friendli", edits: dict[str, Any] | None = None) -> dict[str, Any]:
    """A valid resource of a provider, with some fields written differently (dotted path to value)."""
    document: dict[str, Any] = {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": "case"},
        "spec": {
            "provider": provider,
            "endpointId": "ep-1",
            "credentialsSecretRef": {"name": "key"},
            provider: deepcopy(_BLOCKS[provider]),
        },
    }
    for path, value in (edits or {}).items():
        *parents, last = path.split(".")
        node = document
        for step in parents:
            node = node.setdefault(step, {})
        if value is GONE:
            del node[last]
        else:
            node[last] = value
    return document


@dataclass(frozen=True)
class Bad:
    """A resource that is refused.

    Attributes:
        name: What is wrong with it.
        provider: Of the valid resource that it was made from.
        edits: What makes it wrong.
        path: Where the verdict points at.
        message: Words that the verdict must contain.
        by_rule: Whether a CEL rule refuses it, so that the API server says the same words.
    """

    name: str
    provider: str
    edits: dict[str, Any]
    path: str
    message: str
    by_rule: bool = False

    @property
    def text(self) -> str:
        """The manifest."""
        return yaml.safe_dump(resource(self.provider, self.edits), sort_keys=False)

    @property
    def served(self) -> str:
        """Words that the API server's answer must contain: the rule's, else the name of the field."""
        fields = [field for field in self.path.split(".") if "/" not in field and field != "inference-operator"]
        return self.message if self.by_rule else fields[-1].split("[")[0]


def schema(name: str, provider: str, edits: dict[str, Any], path: str, message: str) -> Bad:
    """A case for the schema."""
    return Bad(name, provider, edits, path, message)


def rule(name: str, provider: str, edits: dict[str, Any], path: str, message: str) -> Bad:
    """A case for a CEL rule."""
    return Bad(name, provider, edits, path, message, by_rule=True)
