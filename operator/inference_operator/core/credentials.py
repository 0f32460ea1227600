"""What may be a provider key, decided before any HTTP library sees it."""

from __future__ import annotations

import re

from pydantic import SecretStr

from inference_operator.core.model import Credentials
from inference_operator.errors import CredentialsRejected

MAX_TOKEN = 4096
"""Longest key in characters; servers refuse longer headers anyway."""


def credentials_from(secret: bytes) -> Credentials:
    """The key out of a Secret's value, without the white space that people leave around it.

    Raises:
        CredentialsRejected: It cannot be a key. The message tells nothing of the content; the caller adds
            the names of the Secret and its key.
    """
    value = secret.strip()
    if not value:
        raise CredentialsRejected("the value is empty; write the API key")
    if len(value) > MAX_TOKEN:
        raise CredentialsRejected(f"the value is longer than {MAX_TOKEN} characters; write the API key alone")
    if re.match(rb"(authorization\s*:\s*)?bearer\s", value, re.IGNORECASE):
        raise CredentialsRejected('the value begins with "Bearer"; write the API key alone, without that word')
    if not re.fullmatch(rb"[!-~]+", value):
        raise CredentialsRejected(
            "the value holds white space or characters that are not printable ASCII; write the API key alone"
        )
    return Credentials(SecretStr(value.decode("ascii")))
