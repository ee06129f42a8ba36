"""Key policies and trust policies: read, and evaluated for one request; pure.

Source: IAM user guide, "IAM JSON policy elements reference" and "Policy evaluation logic". What this module cannot
evaluate it refuses when the policy is stored, or, for a condition key that it does not know, takes to be against the
caller: such an Allow never applies, such a Deny always does.
"""

import json
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from byok_sandbox.kms.arns import is_principal_arn
from byok_sandbox.kms.conditions import Condition, ConditionError, Context, like, parse_conditions

POLICY_LIMIT = 32_768
"""Characters of a key policy (AWS KMS API reference, PutKeyPolicy)."""

_STATEMENT_LIMIT = 500
_VERSIONS = frozenset({"2012-10-17", "2008-10-17"})
_ELEMENTS = frozenset({"Sid", "Effect", "Principal", "Action", "NotAction", "Resource", "Condition"})
_ACCOUNT = re.compile(r"(?:arn:aws[a-z-]*:iam::(?P<root>[0-9]{12}):root|(?P<number>[0-9]{12}))")


class PolicyError(ValueError):
    """A policy is malformed, or uses what this module does not evaluate; the message says what and where."""


@dataclass(frozen=True)
class Request:
    """What a policy decides about."""

    action: str
    """`service:Operation`."""
    resource: str
    """ARN of the key or role."""
    account: str
    """The caller's account."""
    principals: frozenset[str]
    """ARNs by which a statement may name the caller: role or user, and session."""
    context: Context


@dataclass(frozen=True)
class Verdict:
    """What a policy says of one request; the caller's identity policy has to be weighed in by whoever asks."""

    denied: bool
    direct: bool
    """An Allow names the caller, or everybody."""
    delegated: bool
    """An Allow names the caller's account, which leaves the decision to identity policies there."""


@dataclass(frozen=True)
class Statement:
    """One statement, checked."""

    effect: Literal["Allow", "Deny"]
    principals: tuple[str, ...]
    actions: tuple[str, ...]
    inverted: bool
    """Whether `actions` are those that it does not apply to (NotAction)."""
    resources: tuple[str, ...]
    conditions: tuple[Condition, ...]

    def applies_to(self, request: Request) -> bool:
        """Decide whether action, resource and conditions match, whoever calls."""
        named = any(like(pattern.lower(), request.action.lower()) for pattern in self.actions)
        return (
            named is not self.inverted
            and any(like(pattern, request.resource) for pattern in self.resources)
            and all(condition.holds(request.context, unknown=self.effect == "Deny") for condition in self.conditions)
        )

    def names(self, request: Request) -> bool:
        """Decide whether a principal of this statement is the caller, or everybody."""
        return "*" in self.principals or not request.principals.isdisjoint(self.principals)

    def names_account(self, request: Request) -> bool:
        """Decide whether a principal of this statement is the caller's account."""
        found = [_ACCOUNT.fullmatch(name) for name in self.principals]
        return any(match and (match["root"] or match["number"]) == request.account for match in found)


@dataclass(frozen=True)
class Policy:
    """A resource-based policy."""

    statements: tuple[Statement, ...]

    def evaluate(self, request: Request) -> Verdict:
        """Weigh every statement; an explicit Deny wins over all else."""
        denied = direct = delegated = False
        for statement in self.statements:
            caller, account = statement.names(request), statement.names_account(request)
            if not (caller or account) or not statement.applies_to(request):
                continue
            if statement.effect == "Deny":
                denied = True
            else:
                direct, delegated = direct or caller, delegated or account
        return Verdict(denied, direct, delegated)


def allows(verdict: Verdict, *, same_account: bool, identity_allows: bool) -> bool:
    """Weigh a resource-based policy and the caller's identity policy as IAM does.

    Within an account a statement that names the caller suffices, and one that names the account hands the decision to
    the identity policy; across accounts both policies have to allow.
    """
    if verdict.denied:
        return False
    if same_account:
        return verdict.direct or (verdict.delegated and identity_allows)
    return (verdict.direct or verdict.delegated) and identity_allows


@lru_cache(maxsize=1024)
def parse_policy(text: str) -> Policy:
    """Read a policy document; PolicyError says what is wrong with it."""
    if len(text) > POLICY_LIMIT:
        raise PolicyError(f"the policy has {len(text)} characters, {POLICY_LIMIT} are allowed")
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PolicyError("the policy is not JSON") from error
    if not isinstance(document, dict) or not document.keys() <= {"Version", "Id", "Statement"}:
        raise PolicyError("the policy must be an object of Version, Id and Statement")
    if document.get("Version", "2008-10-17") not in _VERSIONS:
        raise PolicyError("Version must be 2012-10-17")
    statements = document.get("Statement")
    statements = [statements] if isinstance(statements, dict) else statements
    if not isinstance(statements, list) or not 0 < len(statements) <= _STATEMENT_LIMIT:
        raise PolicyError(f"Statement must hold 1 to {_STATEMENT_LIMIT} statements")
    return Policy(tuple(_statement(index, statement) for index, statement in enumerate(statements)))


def _statement(index: int, document: object) -> Statement:
    where = f"Statement[{index}]"
    if not isinstance(document, dict):
        raise PolicyError(f"{where} must be an object")
    unknown = document.keys() - _ELEMENTS
    if unknown:
        raise PolicyError(f"{where}: the sandbox does not evaluate {min(unknown)}")
    effect = document.get("Effect")
    if effect not in {"Allow", "Deny"}:
        raise PolicyError(f"{where}: Effect must be Allow or Deny")
    if ("Action" in document) == ("NotAction" in document):
        raise PolicyError(f"{where}: exactly one of Action and NotAction is needed")
    inverted = "NotAction" in document
    actions = _strings(document["NotAction" if inverted else "Action"], f"{where}.Action")
    resources = _strings(document.get("Resource", "*"), f"{where}.Resource")
    try:
        conditions = parse_conditions(document.get("Condition", {}))
    except ConditionError as error:
        raise PolicyError(f"{where}.Condition: {error}") from error
    principals = _principals(document.get("Principal"), where)
    return Statement("Deny" if effect == "Deny" else "Allow", principals, actions, inverted, resources, conditions)


def _principals(document: object, where: str) -> tuple[str, ...]:
    if document == "*":
        return ("*",)
    if not isinstance(document, dict) or not document or not document.keys() <= {"AWS", "Service", "Federated"}:
        raise PolicyError(f"{where}: Principal must be * or an object with AWS, Service or Federated")
    # Neither services nor federated users ever call the sandbox: their statements apply to nobody here.
    names = _strings(document["AWS"], f"{where}.Principal.AWS") if "AWS" in document else ()
    for name in names:
        if name != "*" and not _ACCOUNT.fullmatch(name) and not is_principal_arn(name):
            raise PolicyError(f"{where}: {name[:120]!r} is no valid principal")
    return names


def _strings(value: object, where: str) -> tuple[str, ...]:
    values = [value] if isinstance(value, str) else value
    if not isinstance(values, list) or not values or not all(isinstance(item, str) for item in values):
        raise PolicyError(f"{where} must be a string or a list of strings")
    return tuple(values)
