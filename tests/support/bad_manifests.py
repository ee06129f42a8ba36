"""Specs that are wrong by one field each, by what is wrong with them: for the models and for a real API server."""

from typing import Any, Final

from tests.support.kinds import KEY_ARN

_ALIAS = "arn:aws:kms:eu-central-1:111122223333:alias/brand"
_MRK = "arn:aws:kms:eu-central-1:111122223333:key/mrk-0123456789abcdef0123456789abcdef"
_ACKNOWLEDGED = {"terms": "byok-2026", "acceptedBy": "admin", "acceptedAt": "2026-11-22T07:00:00Z"}


def _arn(text: str) -> dict[str, Any]:
    return {"aws": {"keyArn": text}}


def _aws(**parts: Any) -> dict[str, Any]:  # noqa: ANN401 - any part of a spec
    return {"aws": {"keyArn": KEY_ARN, **parts}}


def _selected(*values: str, **parts: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    expression = {"key": "team", "operator": "In", "values": list(values), **parts}
    return {"allowedConsumers": {"namespaceSelector": {"matchExpressions": [expression]}}}


def _acknowledged(**parts: Any) -> dict[str, Any]:  # noqa: ANN401 - as above
    given = {name: value for name, value in (_ACKNOWLEDGED | parts).items() if value is not ...}
    return {"acknowledgement": given}


BAD_KEYS: Final[dict[str, dict[str, Any]]] = {
    "no ARN": {"aws": {}},
    "ARN of a role": _arn("arn:aws:iam::111122223333:role/brand"),
    "key id instead of an ARN": _arn("1234abcd-12ab-34cd-56ef-1234567890ab"),
    "ARN without an account": _arn(KEY_ARN.replace("111122223333", "")),
    "account of eleven digits": _arn(KEY_ARN.replace("111122223333", "11112222333")),
    "Region with underscores": _arn(KEY_ARN.replace("eu-central-1", "eu_central_1")),
    "Region that is a host": _arn(KEY_ARN.replace("eu-central-1", "evil.example/")),
    "no Region": _arn(KEY_ARN.replace("eu-central-1", "")),
    "ARN with a line break": _arn(f"{KEY_ARN}\n"),
    "ARN with a space": _arn(f" {KEY_ARN}"),
    "ARN that is too long": _arn(f"{_ALIAS}{'x' * 400}"),
    "ARN that is a number": {"aws": {"keyArn": 111122223333}},
    "replica of one Region": _aws(replicas=[KEY_ARN.replace("eu-central-1", "eu-west-1")]),
    "nine replicas": {"aws": {"keyArn": _MRK, "replicas": [_MRK.replace("l-1", f"l-{n}") for n in range(2, 11)]}},
    "role without an ARN": _aws(assumeRole={}),
    "role that is a user": _aws(assumeRole={"arn": "arn:aws:iam::111122223333:user/signer"}),
    "endpoint over ftp": _aws(endpoint="ftp://kms.example"),
    "endpoint with a path": _aws(endpoint="https://kms.example/path"),
    "endpoint with a user": _aws(endpoint="https://user@kms.example"),
    "unknown provider": {"gcp": {"key": "x"}},
    "unknown part of aws": _aws(region="eu-central-1"),
    "state in lower case": {"state": "active"},
    "algorithm that C2PA forbids": {"signingAlgorithm": "RS256"},
    "empty certificate": {"certificate": {"pem": ""}},
    "certificate from a Secret": {"certificate": {"secretRef": {"name": "chain"}}},
    "certificate that is too long": {"certificate": {"pem": "x" * 32769}},
    "namespace in capitals": {"allowedConsumers": {"namespaces": ["Media"]}},
    "namespace with a wildcard": {"allowedConsumers": {"namespaces": ["media-*"]}},
    "257 namespaces": {"allowedConsumers": {"namespaces": [f"n{number}" for number in range(257)]}},
    "namespace that is none": {"allowedConsumers": {"namespaces": "media"}},
    "label that cannot be": {"allowedConsumers": {"namespaceSelector": {"matchLabels": {"team": "a b"}}}},
    "unknown operator": _selected("a", operator="Gt"),
    "expression without a key": {
        "allowedConsumers": {"namespaceSelector": {"matchExpressions": [{"operator": "Exists"}]}}
    },
    "required recipe without a version": {"requiredRecipe": "base"},
    "required recipe of version 0": {"requiredRecipe": "base@0"},
    "required recipe two namespaces deep": {"requiredRecipe": "a/b/c@1"},
    "time without a unit": {"verification": {"staleAfter": "24"}},
    "time in days": {"verification": {"staleAfter": "1d"}},
    "negative time": {"verification": {"interval": "-10m"}},
    "rate limit without a rate": {"rateLimit": {"burst": 10}},
    "rate of 0": {"rateLimit": {"signaturesPerSecond": 0}},
    "rate of a half": {"rateLimit": {"signaturesPerSecond": 0.5}},
    "rate in quotes": {"rateLimit": {"signaturesPerSecond": "10"}},
    "acknowledgement by nobody": _acknowledged(acceptedBy=...),
    "acknowledgement by an empty name": _acknowledged(acceptedBy=""),
    "acknowledgement of no terms": _acknowledged(terms=...),
    "acknowledgement on a day": _acknowledged(acceptedAt="2026-11-22"),
    "acknowledgement in no time zone": _acknowledged(acceptedAt="2026-11-22T07:00:00"),
    "acknowledgement at no time": _acknowledged(acceptedAt="yesterday"),
    "terms with a short hash": _acknowledged(termsSHA256="0" * 63),
    "bare digests as a boolean": {"bareDigests": True},
    "description that is too long": {"description": "x" * 257},
    "unknown field": {"keyArn": KEY_ARN},
    "spec of another kind": {"version": 1, "mediaType": "image"},
}
BAD_RECIPES: Final[dict[str, dict[str, Any]]] = {
    "version 0": {"version": 0},
    "version in quotes": {"version": "1"},
    "version of a half": {"version": 1.5},
    "version that is too large": {"version": 1_000_000_000},
    "version that is true": {"version": True},
    "parent without a version": {"extends": "base"},
    "parent of another namespace": {"extends": "other/base@1"},
    "parent in capitals": {"extends": "Base@1"},
    "parent with a leading zero": {"extends": "base@01"},
    "parent with a line break": {"extends": "base@1\n"},
    "unknown media type": {"mediaType": "photo"},
    "unknown assertion": {"c2pa": {"assertions": ["author"]}},
    "assertion twice": {"c2pa": {"assertions": ["creator", "creator"]}},
    "33 assertions": {"c2pa": {"assertions": ["creator"] * 33}},
    "label without a dot": {"c2pa": {"allowedLabels": ["review"]}},
    "default of an unknown assertion": {"c2pa": {"defaults": {"author": "x"}}},
    "default of another type": {"c2pa": {"defaults": {"ai_generated": "yes"}}},
    "ingredients in lower case": {"c2pa": {"ingredients": "forbid"}},
    "enabled in quotes": {"c2pa": {"enabled": "true"}},
    "unknown part of c2pa": {"c2pa": {"assertion": ["creator"]}},
    "unknown mode": {"kmsMode": "own"},
    "key without a name": {"keyRef": {}},
    "key in capitals": {"keyRef": {"name": "Brand"}},
    "key with its namespace in the name": {"keyRef": {"name": "keys/brand"}},
    "key by its ARN": {"keyRef": {"arn": KEY_ARN}},
    "unknown watermark": {"watermark": {"engine": "lsb"}},
    "soft binding twice": {"softBinding": {"methods": ["exact_watermark", "exact_watermark"]}},
    "retention of less than a day": {"retention": {"manifestDays": -1}},
    "more than certain": {"verification": {"minimumConfidence": 1.5}},
    "meter with a space": {"billing": {"meter": "per asset"}},
    "time stamps over ftp": {"timestamp": {"url": "ftp://tsa.example"}},
    "time stamps from nowhere": {"timestamp": {}},
    "description that is too long": {"description": "x" * 257},
    "unknown field": {"recipe": "x"},
    "spec of another kind": {"aws": {"keyArn": KEY_ARN}},
}
GOOD_KEYS: Final[dict[str, dict[str, Any]]] = {
    "alias": _arn(_ALIAS),
    "China": _arn(KEY_ARN.replace("aws:", "aws-cn:").replace("eu-central-1", "cn-north-1")),
    "GovCloud": _arn(KEY_ARN.replace("aws:", "aws-us-gov:").replace("eu-central-1", "us-gov-west-1")),
    "endpoint at an address of IPv6": _aws(endpoint="http://[::1]:4566/"),
    "role with a path": _aws(assumeRole={"arn": "arn:aws:iam::111122223333:role/byok/signer@eu"}),
    "no consumers": {"allowedConsumers": {}},
    "Ed25519": {"signingAlgorithm": "Ed25519"},
    "256 astral characters": {"description": "\U0001f5dd" * 256},
    "certificate as long as may be": {"certificate": {"pem": "x" * 32768}},
    "time in three parts": {"verification": {"interval": "1h1m1s", "staleAfter": "99999h"}},
    "acknowledgement with an offset": _acknowledged(acceptedAt="2026-11-22T07:00:00.5+01:00"),
    "required recipe of a namespace": {"requiredRecipe": "keys/base.v1@999999999"},
}
GOOD_RECIPES: Final[dict[str, dict[str, Any]]] = {
    "largest version": {"version": 999_999_999},
    "parent with dots": {"extends": "base.v1@12"},
    "empty parts": {"c2pa": {}, "watermark": {}, "retention": {}},
    "no labels beside the standard's": {"c2pa": {"allowedLabels": []}},
    "confidence of 1": {"verification": {"minimumConfidence": 1}},
    "defaults of every shape": {
        "c2pa": {"defaults": {"creator": "Example", "ai_generated": True, "exif": {"Make": "Example"}}}
    },
    "time stamps from a port": {"timestamp": {"url": "http://tsa.example:318/x?y=z"}},
}
