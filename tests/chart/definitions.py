"""What `@schema NAME` in values.yaml stands for; the parts that the code decides are taken from the code."""

from typing import Any

from annotated_types import Ge, Gt, Le, Lt
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from byok_api.crds import KINDS, crd
from byok_api.references import NAMESPACE_PATTERN
from byok_operator.settings import Settings as OperatorSettings
from byok_signer.settings import Settings as SignerSettings
from tests.chart.kubernetes_definitions import (
    AFFINITY,
    CIDR,
    EGRESS,
    ENV,
    INGRESS,
    LABELS,
    PORT,
    RESOURCES,
    SOME_TEXT,
    TEXT,
    TOLERATIONS,
    TOPOLOGY_SPREAD,
    VOLUME_MOUNTS,
    VOLUMES,
    Schema,
    array,
    closed,
    mapping,
)

# With a value of their own, or none that would make sense in a cluster.
_SIGNER_OWN = frozenset({"checkpoint_minutes", "drain_seconds", "quota_per_second", "replicas"})
_SHARED_OWN = frozenset({"require_external_id", "aws_use_fips", "aws_use_dualstack"})
_BOUNDS = ((Ge, "ge", "minimum"), (Gt, "gt", "exclusiveMinimum"), (Le, "le", "maximum"), (Lt, "lt", "exclusiveMaximum"))
# Those of templates/_helpers.tpl: a second one of a name would make two keys of one in YAML.
_OWN_LABELS = (
    *(f"app.kubernetes.io/{name}" for name in ("name", "instance", "component", "part-of", "version", "managed-by")),
    "helm.sh/chart",
)
_NUMBERS: dict[object, str] = {int: "integer", float: "number", bool: "boolean"}
_NAME = r"[a-z0-9](?:[-a-z0-9.]{0,251}[a-z0-9])?"
# byok_api.ownership.
_ARN_PATTERN = r"^arn:(aws[a-z-]*|\*):kms:[a-z0-9*-]{1,40}:[0-9*]{1,12}:(\*|(key|alias)/[A-Za-z0-9/_*-]{1,260})$"


def definitions() -> Schema:
    """Give all definitions by name."""
    namespace = {"type": "string", "pattern": f"^{NAMESPACE_PATTERN.strip('^$')}$"}
    name = {"type": "string", "pattern": f"^{_NAME}$"}
    key, recipe = (_spec_of(kind) for kind in ("ByokKey", "SigningRecipe"))
    return {
        "affinity": AFFINITY,
        "addedLabels": {**LABELS, "propertyNames": {"not": {"enum": list(_OWN_LABELS)}}},
        "annotations": mapping(TEXT),
        "cidrs": array(CIDR),
        "consumerNamespaces": array(
            closed(
                {"namespace": namespace, "serviceAccounts": {**array(name), "minItems": 1}},
                "namespace",
                "serviceAccounts",
            )
        ),
        "digest": {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"},
        "duration": {"type": "string", "pattern": "^([0-9]+h)?([0-9]+m)?([0-9]+s)?$", "minLength": 2},
        "egressRules": EGRESS,
        "env": ENV,
        "ingressRules": INGRESS,
        "keyOwnership": {
            **mapping(array({"type": "string", "pattern": _ARN_PATTERN})),
            "propertyNames": {"pattern": namespace["pattern"]},
        },
        "labels": LABELS,
        # The API server asks for what is missing; here an empty one means none.
        "managedKeySpec": {name: part for name, part in key.items() if name != "required"},
        "name": {"type": "string", "pattern": f"^({_NAME})?$"},
        "namespaces": array(namespace),
        "operatorSettings": _numbers_of(OperatorSettings, _SHARED_OWN),
        "podAnnotations": {**mapping(TEXT), "propertyNames": {"not": {"enum": ["checksum/config"]}}},
        "ports": {**array(PORT), "minItems": 1},
        "presets": {**mapping(recipe), "propertyNames": {"pattern": name["pattern"]}},
        "repository": {"type": "string", "pattern": "^[a-z0-9]([a-z0-9._/-]*[a-z0-9])?$"},
        "resources": RESOURCES,
        "secretNames": array(closed({"name": SOME_TEXT}, "name")),
        "signerSettings": _numbers_of(SignerSettings, _SHARED_OWN | _SIGNER_OWN),
        "tolerations": TOLERATIONS,
        "topologySpread": TOPOLOGY_SPREAD,
        "volumeMounts": VOLUME_MOUNTS,
        "volumes": VOLUMES,
    }


def _numbers_of(model: type[BaseModel], own: frozenset[str]) -> Schema:
    """Describe what is a number or a switch: paths and names are the chart's to write."""
    fields = {name: field for name, field in model.model_fields.items() if name not in own}
    return closed(
        {name.replace("_", "-"): _number(field) for name, field in fields.items() if field.annotation in _NUMBERS}
    )


def _number(field: FieldInfo) -> Schema:
    schema: Schema = {"type": _NUMBERS[field.annotation]}
    for bound in field.metadata:
        schema |= {word: getattr(bound, name) for kind, name, word in _BOUNDS if isinstance(bound, kind)}
    return schema


def _spec_of(kind_name: str) -> Schema:
    kind = next(kind for kind in KINDS if kind.name == kind_name)
    version = crd(kind)["spec"]["versions"][0]
    closed_spec: Schema = _closed(version["schema"]["openAPIV3Schema"]["properties"]["spec"])
    return closed_spec


def _closed(schema: Any) -> Any:  # noqa: ANN401 - any part of a schema
    """Leave out what only the API server knows, and refuse what a structural schema would prune."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {
        name: {inner: _closed(part) for inner, part in value.items()} if name == "properties" else _closed(value)
        for name, value in schema.items()
        if not name.startswith("x-kubernetes-") and name not in {"description", "format"}
    }
    return {**kept, "additionalProperties": False} if "properties" in schema else kept
