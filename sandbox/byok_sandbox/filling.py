"""The example manifests, filled in with real keys: ARN, algorithm and certificate. Pure but for reading and writing."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from byok_api.algorithms import SigningAlgorithm
from byok_api.certificates import CertificateChain
from byok_api.fields import API_VERSION
from byok_api.manifests import load_documents
from byok_api.references import KeyArn, ObjectName
from byok_sandbox.ca import pem_of

STAMPED = ObjectName("media", "photo-v1-stamped")
"""A photo recipe whose signatures carry an RFC 3161 time stamp."""
FIRST = SigningAlgorithm.ES256
"""The algorithm of the key that the examples name as they stand; each other one gets a key and recipes of its own."""


@dataclass(frozen=True)
class CertifiedKey:
    """A KMS key and the chain that certifies it."""

    arn: KeyArn
    algorithm: SigningAlgorithm
    chain: CertificateChain


@dataclass(frozen=True)
class Filled:
    """Manifests that can be applied, by file name, and what they hold."""

    files: Mapping[str, str]
    keys: Mapping[SigningAlgorithm, ObjectName]
    recipes: Mapping[SigningAlgorithm, Mapping[str, ObjectName]]
    """Recipes by the name that they extend or have in the examples."""

    @property
    def count(self) -> int:
        """How many recipes can sign: those above, and the one with a time stamp."""
        return 1 + sum(map(len, self.recipes.values()))


def fill(examples: Path, keys: Mapping[SigningAlgorithm, CertifiedKey], *, timestamp_url: str) -> Filled:
    """Fill in the examples, copy what is neither ByokKey nor SigningRecipe, and add a recipe with a time stamp."""
    files: dict[str, str] = {}
    names: dict[SigningAlgorithm, ObjectName] = {}
    recipes: dict[SigningAlgorithm, dict[str, ObjectName]] = {algorithm: {} for algorithm in keys}
    for path in sorted(examples.glob("*.yaml")):
        documents: list[dict[str, Any]] = []
        for document in load_documents(path.read_bytes(), str(path)):
            match document["kind"]:
                case "ByokKey":
                    for algorithm, key in keys.items():
                        documents.append(_key(document, key))
                        names[algorithm] = _name(documents[-1])
                case "SigningRecipe":
                    for algorithm in keys:
                        documents.append(_recipe(document, algorithm))
                        recipes[algorithm][document["metadata"]["name"]] = _name(documents[-1])
                case _:
                    documents.append(dict(document))
        files[path.name] = "---\n".join(yaml.safe_dump(document, sort_keys=False, width=120) for document in documents)
    files["4-stamped.yaml"] = yaml.safe_dump(_stamped(timestamp_url), sort_keys=False)
    return Filled(files, names, recipes)


def _stamped(url: str) -> dict[str, Any]:
    return {
        "apiVersion": API_VERSION,
        "kind": "SigningRecipe",
        "metadata": {"name": STAMPED.name, "namespace": STAMPED.namespace},
        "spec": {
            "version": 1,
            "extends": "photo-v1@1",
            "description": "Photos that stay valid when the signing certificate has expired.",
            "timestamp": {"url": url},
        },
    }


def _key(template: Mapping[str, Any], key: CertifiedKey) -> dict[str, Any]:
    document = _copy(template, key.algorithm)
    document["spec"]["aws"]["keyArn"] = str(key.arn)
    document["spec"]["signingAlgorithm"] = str(key.algorithm)
    document["spec"]["certificate"] = {"pem": pem_of(key.chain.certificates)}
    return document


def _recipe(template: Mapping[str, Any], algorithm: SigningAlgorithm) -> dict[str, Any]:
    document = _copy(template, algorithm)
    if algorithm is not FIRST:
        # The same recipe under another key: all that a child has to say.
        spec = template["spec"]
        key = spec["keyRef"]
        document["spec"] = {
            "version": 1,
            "extends": f"{template['metadata']['name']}@{spec['version']}",
            "keyRef": {**key, "name": key["name"] + _suffix(algorithm)},
        }
    return document


def _copy(template: Mapping[str, Any], algorithm: SigningAlgorithm) -> dict[str, Any]:
    document = deepcopy(dict(template))
    document["metadata"]["name"] += _suffix(algorithm)
    return document


def _suffix(algorithm: SigningAlgorithm) -> str:
    return "" if algorithm is FIRST else f"-{algorithm.lower()}"


def _name(document: Mapping[str, Any]) -> ObjectName:
    return ObjectName(document["metadata"]["namespace"], document["metadata"]["name"])
