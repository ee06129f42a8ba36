"""ByokKeys of the cluster, read as the models have them."""

from collections.abc import Mapping
from typing import Any

import typer

from byok_api.byokkey import ByokKey
from byok_api.errors import Reason, Refusal
from byok_api.manifests import ManifestError
from byok_api.objects import parse_object
from byok_api.references import ObjectName


def key_named(text: str) -> ObjectName:
    """Read the argument that names a key."""
    try:
        return ObjectName.parse(text)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="KEY") from None


def read_key(name: ObjectName) -> tuple[ByokKey, Mapping[str, Any]]:
    """Read a key and its status; Refusal if there is none, or it cannot be read."""
    from byok_client.cli.cluster import in_cluster  # noqa: PLC0415 - of the extra cli; files are read without
    from byok_service.kubernetes import BYOK_KEYS  # noqa: PLC0415 - same

    found = in_cluster(lambda cluster: cluster.get(BYOK_KEYS, name))
    try:
        key = parse_object(found, f"ByokKey {name}")
    except ManifestError as error:
        raise Refusal(error.reason, error.message) from None
    if not isinstance(key, ByokKey):
        raise Refusal(Reason.ClusterRefused, f"ByokKey {name}: the API server answered with a {key.kind}")
    return key, found.get("status") or {}
