"""The `metadata` of objects, as far as this project reads it."""

from collections.abc import Mapping
from typing import Annotated

from pydantic import AwareDatetime, Field, StringConstraints

from byok_api.fields import Model
from byok_api.references import NAME_LIMIT, NAME_PATTERN, NAMESPACE_PATTERN

_LABEL_PART = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"

LabelKey = Annotated[str, StringConstraints(pattern=rf"^([a-z0-9.-]{{1,253}}/)?{_LABEL_PART}$", max_length=317)]
"""A label's key: an optional DNS prefix and a name (Kubernetes, Labels and Selectors)."""
LabelValue = Annotated[str, StringConstraints(pattern=rf"^({_LABEL_PART})?$", max_length=63)]

NAMESPACE_NAME_LABEL = "kubernetes.io/metadata.name"
"""Label that the API server puts on every namespace (Kubernetes, Automatic labelling)."""

UNREAD = frozenset(
    {
        "deletionGracePeriodSeconds",
        "finalizers",
        "generateName",
        "managedFields",
        "ownerReferences",
        "resourceVersion",
        "selfLink",
    },
)
"""What the API server adds to `metadata` and nothing here reads."""


class ObjectMeta(Model):
    """An object's identity (metav1.ObjectMeta, the part that is read here)."""

    name: Annotated[str, Field(pattern=f"^{NAME_PATTERN}$", max_length=NAME_LIMIT)]
    namespace: Annotated[str, Field(pattern=f"^({NAMESPACE_PATTERN})?$", max_length=63)] = ""
    """Empty only for a Namespace."""
    labels: Annotated[Mapping[str, str] | None, Field(max_length=256)] = None
    annotations: Annotated[Mapping[str, str] | None, Field(max_length=1024)] = None
    uid: Annotated[str | None, Field(max_length=128)] = None
    generation: Annotated[int | None, Field(ge=0)] = None
    """None for an object that no API server has seen."""
    creation_timestamp: AwareDatetime | None = None
    deletion_timestamp: AwareDatetime | None = None
    """Set once somebody has deleted the object: a finalizer may keep it for long after."""
