"""From a resource and its Secrets to what is wished and a connection to ask for it; calls no provider."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from pydantic import ValidationError

from inference_operator.api.base import ApiModel
from inference_operator.api.names import REAPPLY_ANNOTATION, SUSPEND_ANNOTATION
from inference_operator.api.spec import InferenceEndpointSpec
from inference_operator.core.credentials import credentials_from
from inference_operator.core.model import Credentials, Desired, Resource, SecretData, SecretValues
from inference_operator.core.port import Connection, Connector, Driver, SecretReader
from inference_operator.core.situation import Inputs
from inference_operator.errors import CredentialsRejected, InvalidSpec, SecretMissing


@dataclass(frozen=True, slots=True)
class Declared:
    """A spec that could be read, with its driver; Secrets are not read yet."""

    spec: InferenceEndpointSpec
    driver: Driver
    options: ApiModel

    @property
    def unsupported(self) -> str | None:
        """What this version cannot do yet, as a sentence; None for nothing."""
        if self.spec.endpoint_id is None:
            return "Creating endpoints is not supported yet: set spec.endpointId to the id of an existing one."
        if self.spec.deletion_policy == "Delete":
            return "deletionPolicy Delete is not supported yet: use Retain, and delete the endpoint at the provider."
        return None


@dataclass(frozen=True, slots=True)
class Resolved:
    """Everything that one pass needs before it may look.

    Attributes:
        declared: The spec and its driver.
        desired: What the spec asks of the endpoint.
        connection: Speaks to the provider with the resource's key.
        account: Tells accounts apart; nothing can be derived from it.
        inputs: What wakes a refused write: generation, Secret versions, reapply request.
        secrets: Versions of all Secrets that were read for this, by name.
    """

    declared: Declared
    desired: Desired
    connection: Connection = field(repr=False)
    account: int
    inputs: Inputs
    secrets: Mapping[str, str]


def declared(resource: Resource, drivers: Mapping[str, Driver]) -> Declared:
    """Read the spec.

    Raises:
        InvalidSpec: It does not fit the models, which the API server's schema should have prevented.
    """
    try:
        spec = InferenceEndpointSpec.model_validate(resource.spec)
        driver = drivers[spec.provider]
        options = driver.options.model_validate(resource.spec.get(spec.provider) or {})
    except KeyError:
        message = f"spec.provider must be one of {', '.join(sorted(drivers))}; the installed CRD may be a newer one."
        raise InvalidSpec(message) from None
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        raise InvalidSpec(f"spec.{place}: {first['msg']}.") from None
    return Declared(spec, driver, options)


def is_suspended(resource: Resource) -> bool:
    """Whether the spec or the annotation suspends the resource."""
    return resource.spec.get("suspend") is True or resource.annotations.get(SUSPEND_ANNOTATION) == "true"


async def render(resource: Resource, wanted: Declared, secrets: SecretReader, *, fresh: bool = False) -> Desired:
    """What the spec asks for, with the Secrets behind `valueFrom`.

    Raises:
        SecretMissing: A Secret behind `valueFrom`, or a key in it, does not exist.
        InvalidSpec: The provider cannot do what the spec asks.
        Unavailable: The API server did not answer.
    """
    names = sorted(wanted.driver.secret_names(wanted.options))
    read = {name: await secrets.read(resource.namespace, name, fresh=fresh) for name in names}
    existing = {name: secret for name, secret in read.items() if secret is not None}
    return wanted.driver.desired(wanted.spec, wanted.options, SecretValues(existing))


async def resolve(
    resource: Resource, wanted: Declared, secrets: SecretReader, connector: Connector, *, fresh: bool = False
) -> Resolved:
    """Read the Secrets, render the spec, and make the connection.

    Args:
        resource: The resource.
        wanted: Its spec.
        secrets: Reads Secrets of the resource's namespace.
        connector: Makes the connection.
        fresh: Read the Secrets anew, as before a write.

    Raises:
        SecretMissing: A Secret, or a key in it, does not exist.
        CredentialsRejected: The key is malformed.
        InvalidSpec: The provider cannot do what the spec asks.
        Unavailable: The API server did not answer.
    """
    reference = wanted.spec.credentials_secret_ref
    secret = await secrets.read(resource.namespace, reference.name, fresh=fresh)
    credentials = _credentials(secret, reference.name, reference.effective_key)
    desired = await render(resource, wanted, secrets, fresh=fresh)
    connection = connector.connect(wanted.driver.name, credentials, desired.ref.team)
    version = secret.resource_version if secret else ""
    versions = (version, *sorted(desired.secrets.items()))
    reapply = resource.annotations.get(REAPPLY_ANNOTATION, "")
    account = hash((wanted.driver.name, credentials.token.get_secret_value(), desired.ref.team))
    secret_versions = {**desired.secrets, reference.name: version}
    return Resolved(wanted, desired, connection, account, (resource.generation, *versions, reapply), secret_versions)


def _credentials(secret: SecretData | None, name: str, key: str) -> Credentials:
    if secret is None:
        message = f'Secret "{name}" does not exist in this namespace; create it with the provider\'s key in "{key}".'
        raise SecretMissing(message, credentials=True)
    if key not in secret.data:
        message = f'Secret "{name}" has no key "{key}"; add it, or name another in credentialsSecretRef.key.'
        raise SecretMissing(message, credentials=True)
    try:
        return credentials_from(secret.data[key])
    except CredentialsRejected as rejected:
        raise CredentialsRejected(f'Secret "{name}", key {json.dumps(key)}: {rejected.message}') from None
