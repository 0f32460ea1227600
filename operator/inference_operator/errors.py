"""The error tree: what may go wrong outside, by who must act and whether a write may have arrived.

    EndpointError
    ├── InvalidSpec           the user must edit the resource
    ├── CredentialsRejected   the key is malformed or refused
    ├── SecretMissing         a Secret, or a key in it, does not exist (yet)
    ├── CapacityUnavailable   quota, stock or balance: only time or the account's owner helps
    ├── NotFound              the provider does not know the endpoint, or this key cannot see it
    ├── Throttled             too fast; says how long to be silent
    ├── Unavailable           certainly nothing was changed
    └── Ambiguous             a write may have arrived

All but `Ambiguous` prove that a write was not carried out. Messages are safe to show to anyone who may
read the resource: no header, token or raw body is ever in one. Raise them `from None` wherever the cause
comes from an HTTP library, whose texts may hold header values.
"""

from __future__ import annotations


class EndpointError(Exception):
    """Anything that keeps a pass from reaching its goal, with a message fit for status and Events."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidSpec(EndpointError):  # noqa: N818 - the names of the tree are conditions, not exceptions
    """The user must edit the resource.

    Attributes:
        maybe_busy: The refusal (HTTP 400 or 409) may also mean that the endpoint is in transition;
            the caller decides by a look at its state.
    """

    def __init__(self, message: str, *, maybe_busy: bool = False) -> None:
        super().__init__(message)
        self.maybe_busy = maybe_busy


class CredentialsRejected(EndpointError):  # noqa: N818
    """The key is malformed (found before any request) or refused (HTTP 401, 403)."""


class SecretMissing(EndpointError):  # noqa: N818
    """A Secret or a key in it does not exist.

    Attributes:
        credentials: True for `spec.credentialsSecretRef`, False for a Secret behind `valueFrom`.
    """

    def __init__(self, message: str, *, credentials: bool) -> None:
        super().__init__(message)
        self.credentials = credentials


class CapacityUnavailable(EndpointError):  # noqa: N818
    """Quota, stock or balance; the provider's reason is in the message."""


class NotFound(EndpointError):  # noqa: N818
    """The provider does not know the endpoint, or this key cannot see it."""


class Throttled(EndpointError):  # noqa: N818
    """Too fast.

    Attributes:
        retry_after: Seconds of silence that are kept with the key: what the provider asked for, or the least there is.
    """

    def __init__(self, message: str, *, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class Unavailable(EndpointError):  # noqa: N818
    """Certainly nothing was changed: the connection was never made, or the failure was that of a read."""


class Ambiguous(EndpointError):  # noqa: N818
    """A write may have arrived: its answer was lost, unreadable, or a server error."""
