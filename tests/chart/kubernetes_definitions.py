"""JSON Schemas of the parts of a pod and of a network policy that values may hold, closed against typing errors."""

from typing import Any

Schema = dict[str, Any]


def closed(properties: Schema, *required: str) -> Schema:
    """Describe an object that has these properties and no others."""
    schema: Schema = {"type": "object", "additionalProperties": False, "properties": properties}
    return {**schema, "required": list(required)} if required else schema


def array(items: Schema) -> Schema:
    """Describe a list."""
    return {"type": "array", "items": items}


def mapping(values: Schema) -> Schema:
    """Describe an object with any names."""
    return {"type": "object", "additionalProperties": values}


TEXT: Schema = {"type": "string"}
SOME_TEXT: Schema = {"type": "string", "minLength": 1}
FLAG: Schema = {"type": "boolean"}
COUNT: Schema = {"type": "integer", "minimum": 0}
NUMBER: Schema = {"type": "integer"}
PORT: Schema = {"type": "integer", "minimum": 1, "maximum": 65535}
LABELS = mapping({"type": "string", "maxLength": 63})
CIDR: Schema = {"type": "string", "pattern": "^[0-9A-Fa-f.:]+/[0-9]{1,3}$"}
_QUANTITY: Schema = {"type": ["string", "number"]}
_MODE: Schema = {"type": "integer", "minimum": 0, "maximum": 511}

_EXPRESSION = closed({"key": SOME_TEXT, "operator": SOME_TEXT, "values": array(TEXT)}, "key", "operator")
_SELECTOR = closed({"matchLabels": LABELS, "matchExpressions": array(_EXPRESSION)})

# -- environment --
_KEY_OF = closed({"name": SOME_TEXT, "key": SOME_TEXT, "optional": FLAG}, "name", "key")
_FIELD = closed({"apiVersion": TEXT, "fieldPath": SOME_TEXT}, "fieldPath")
_RESOURCE_FIELD = closed({"containerName": TEXT, "resource": SOME_TEXT, "divisor": _QUANTITY}, "resource")
ENV = array(
    closed(
        {
            "name": SOME_TEXT,
            "value": TEXT,
            "valueFrom": closed(
                {
                    "configMapKeyRef": _KEY_OF,
                    "secretKeyRef": _KEY_OF,
                    "fieldRef": _FIELD,
                    "resourceFieldRef": _RESOURCE_FIELD,
                }
            ),
        },
        "name",
    )
)

_AMOUNTS = mapping(_QUANTITY)
RESOURCES = closed({"requests": _AMOUNTS, "limits": _AMOUNTS})

# -- scheduling --
TOLERATIONS = array(
    closed(
        {
            "key": TEXT,
            "operator": {"enum": ["Exists", "Equal"]},
            "value": TEXT,
            "effect": {"enum": ["NoSchedule", "PreferNoSchedule", "NoExecute"]},
            "tolerationSeconds": NUMBER,
        }
    )
)
TOPOLOGY_SPREAD = array(
    closed(
        {
            "topologyKey": SOME_TEXT,
            "maxSkew": {"type": "integer", "minimum": 1},
            "whenUnsatisfiable": {"enum": ["DoNotSchedule", "ScheduleAnyway"]},
        },
        "topologyKey",
        "maxSkew",
        "whenUnsatisfiable",
    )
)
_WEIGHT: Schema = {"type": "integer", "minimum": 1, "maximum": 100}
_NODE_TERM = closed({"matchExpressions": array(_EXPRESSION), "matchFields": array(_EXPRESSION)})
_POD_TERM = closed(
    {
        "labelSelector": _SELECTOR,
        "namespaceSelector": _SELECTOR,
        "namespaces": array(SOME_TEXT),
        "topologyKey": SOME_TEXT,
        "matchLabelKeys": array(SOME_TEXT),
        "mismatchLabelKeys": array(SOME_TEXT),
    },
    "topologyKey",
)
_REQUIRED, _PREFERRED = (
    "requiredDuringSchedulingIgnoredDuringExecution",
    "preferredDuringSchedulingIgnoredDuringExecution",
)
_POD_AFFINITY = closed(
    {
        _REQUIRED: array(_POD_TERM),
        _PREFERRED: array(closed({"weight": _WEIGHT, "podAffinityTerm": _POD_TERM}, "weight", "podAffinityTerm")),
    }
)
AFFINITY = closed(
    {
        "nodeAffinity": closed(
            {
                _REQUIRED: closed({"nodeSelectorTerms": array(_NODE_TERM)}, "nodeSelectorTerms"),
                _PREFERRED: array(closed({"weight": _WEIGHT, "preference": _NODE_TERM}, "weight", "preference")),
            }
        ),
        "podAffinity": _POD_AFFINITY,
        "podAntiAffinity": _POD_AFFINITY,
    }
)

# -- volumes: the kinds that Pod Security's "Restricted" allows (Kubernetes, Pod Security Standards) --
_ITEMS = array(closed({"key": SOME_TEXT, "path": SOME_TEXT, "mode": _MODE}, "key", "path"))
_DOWNWARD_ITEMS = array(
    closed({"path": SOME_TEXT, "mode": _MODE, "fieldRef": _FIELD, "resourceFieldRef": _RESOURCE_FIELD}, "path")
)
_NAMED_ITEMS = closed({"name": SOME_TEXT, "items": _ITEMS, "optional": FLAG}, "name")
_TOKEN = closed({"audience": SOME_TEXT, "expirationSeconds": {"type": "integer", "minimum": 600}, "path": TEXT}, "path")
_CSI = closed(
    {
        "driver": SOME_TEXT,
        "fsType": TEXT,
        "readOnly": FLAG,
        "volumeAttributes": mapping(TEXT),
        "nodePublishSecretRef": closed({"name": SOME_TEXT}, "name"),
    },
    "driver",
)
VOLUMES = array(
    closed(
        {
            "name": SOME_TEXT,
            "configMap": closed({"name": SOME_TEXT, "items": _ITEMS, "optional": FLAG, "defaultMode": _MODE}, "name"),
            "secret": closed(
                {"secretName": SOME_TEXT, "items": _ITEMS, "optional": FLAG, "defaultMode": _MODE}, "secretName"
            ),
            "emptyDir": closed({"medium": TEXT, "sizeLimit": _QUANTITY}),
            "persistentVolumeClaim": closed({"claimName": SOME_TEXT, "readOnly": FLAG}, "claimName"),
            "downwardAPI": closed({"items": _DOWNWARD_ITEMS, "defaultMode": _MODE}),
            "csi": _CSI,
            "projected": closed(
                {
                    "defaultMode": _MODE,
                    "sources": array(
                        closed(
                            {
                                "configMap": _NAMED_ITEMS,
                                "secret": _NAMED_ITEMS,
                                "downwardAPI": closed({"items": _DOWNWARD_ITEMS}),
                                "serviceAccountToken": _TOKEN,
                            }
                        )
                    ),
                },
                "sources",
            ),
        },
        "name",
    )
)
VOLUME_MOUNTS = array(
    closed(
        {"name": SOME_TEXT, "mountPath": SOME_TEXT, "subPath": TEXT, "subPathExpr": TEXT, "readOnly": FLAG},
        "name",
        "mountPath",
    )
)

# -- network policies --
_PEERS = array(
    closed(
        {
            "podSelector": _SELECTOR,
            "namespaceSelector": _SELECTOR,
            "ipBlock": closed({"cidr": CIDR, "except": array(CIDR)}, "cidr"),
        }
    )
)
_POLICY_PORTS = array(
    closed({"port": {"type": ["integer", "string"]}, "endPort": PORT, "protocol": {"enum": ["TCP", "UDP", "SCTP"]}})
)
INGRESS = array(closed({"from": _PEERS, "ports": _POLICY_PORTS}))
EGRESS = array(closed({"to": _PEERS, "ports": _POLICY_PORTS}))
