"""Users of the local control plane: their tokens, and the kubeconfig files that carry them."""

import base64
import csv
import os
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import yaml


@dataclass(frozen=True)
class User:
    """Somebody the API server knows by a bearer token.

    Attributes:
        name: The name that RBAC rules and the audit log show.
        groups: The groups that RBAC rules may name; `system:masters` may do everything.
        token: Random; lives as long as the control plane.
    """

    name: str
    groups: tuple[str, ...]
    token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)


def write_tokens(path: Path, users: Iterable[User]) -> None:
    """Write the file for `--token-auth-file`: token, name, uid and the groups in one column."""
    with _private(path) as file:
        csv.writer(file).writerows((user.token, user.name, user.name, ",".join(user.groups)) for user in users)


def write_kubeconfig(path: Path, *, url: str, ca_file: Path, user: User) -> None:
    """Write a self-contained kubeconfig with one context, readable for its owner alone."""
    authority = base64.b64encode(ca_file.read_bytes()).decode()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "playground", "cluster": {"server": url, "certificate-authority-data": authority}}],
        "users": [{"name": user.name, "user": {"token": user.token}}],
        "contexts": [{"name": "playground", "context": {"cluster": "playground", "user": user.name}}],
        "current-context": "playground",
    }
    with _private(path) as file:
        yaml.safe_dump(config, file)


def _private(path: Path) -> TextIO:
    return open(path, "w", encoding="utf-8", newline="", opener=lambda name, flags: os.open(name, flags, 0o600))
