"""All objects of a cluster, of whatever kind: a list in which nothing can be forgotten, since the cluster makes it."""

from typing import NamedTuple

from tests.testenv.kubectl import Kubectl

# They come and go by themselves, and belong to nobody.
_PASSING = frozenset({"events", "events.events.k8s.io", "componentstatuses"})
_FIELDS = '{.kind}{"\\t"}{.metadata.namespace}{"\\t"}{.metadata.name}{"\\n"}'


class Known(NamedTuple):
    """An object by what names it."""

    kind: str
    namespace: str
    """Empty for what is in none."""
    name: str


Inventory = frozenset[Known]


def inventory(kubectl: Kubectl) -> Inventory:
    """List everything that can be listed, in all namespaces; KubectlError if a kind cannot be."""
    listable = kubectl("api-resources", "--verbs=list", "--output=name", "--cached=false").split()
    kinds = ",".join(kind for kind in listable if kind not in _PASSING)
    printed = kubectl("get", kinds, "--all-namespaces", f"--output=jsonpath={{range .items[*]}}{_FIELDS}{{end}}")
    return frozenset(Known(*line.split("\t")) for line in printed.splitlines())
