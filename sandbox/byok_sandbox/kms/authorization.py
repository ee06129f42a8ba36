"""Whether a caller may do an operation on a key: key policy, the caller's identity policy, and grants, together.

Source: AWS KMS developer guide, "KMS key access and permissions" and "Condition keys for AWS KMS".
"""

from collections.abc import Iterable

from byok_sandbox.kms.calls import KmsCall
from byok_sandbox.kms.conditions import Context
from byok_sandbox.kms.faults import AwsFaultError
from byok_sandbox.kms.grants import Grant
from byok_sandbox.kms.policies import Policy, Request, Verdict, allows, parse_policy
from byok_sandbox.kms.store import StoredKey


def authorize(call: KmsCall) -> Grant | None:
    """Check the call on each of its keys; AwsFaultError AccessDeniedException if it may not be done.

    Returns the grant that allows it on the first key if the key policy does not.
    """
    action = f"kms:{call.operation.name}"
    if not call.keys and not call.caller.may(action):
        raise _denied(call, "because no identity-based policy allows the {action} action")
    return next((grant for grant in [_authorize_on(call, key, action) for key in call.keys] if grant), None)


def check_lockout(call: KmsCall, policy: Policy, key_arn: str) -> None:
    """Refuse a key policy with which the caller could never change it again, unless they insist."""
    if call.flag("BypassPolicyLockoutSafetyCheck"):
        return
    context = {**call.caller.context, "aws:requestedregion": (call.region,)}
    action = "kms:PutKeyPolicy"
    verdict = policy.evaluate(Request(action, key_arn, call.caller.account, call.caller.principals, context))
    if not allows(verdict, same_account=True, identity_allows=call.caller.may(action)):
        raise AwsFaultError(
            "MalformedPolicyDocumentException",
            "The new key policy will not allow you to update the key policy in the future.",
        )


def deny_across_accounts(call: KmsCall) -> AwsFaultError:
    """Make the error by which KMS tells another account nothing, not even whether a key exists."""
    return _denied(call, _CROSS_ACCOUNT)


_CROSS_ACCOUNT = (
    "on this resource because the resource does not exist in this Region, no resource-based policies allow access, "
    "or a resource-based policy explicitly denies access"
)


def _authorize_on(call: KmsCall, key: StoredKey, action: str) -> Grant | None:
    caller = call.caller
    same_account = key.account == caller.account
    verdict = _verdict(call, key, action)
    if allows(verdict, same_account=same_account, identity_allows=caller.may(action)):
        return None
    grant = None if verdict.denied else _find_grant(call, key)
    if grant is not None:
        return grant
    if not same_account:
        raise _denied(call, _CROSS_ACCOUNT)
    reason = (
        "with an explicit deny in a resource-based policy"
        if verdict.denied
        else "because no resource-based policy allows the {action} action"
    )
    raise _denied(call, f"on resource: {key.arn} {reason}")


def _verdict(call: KmsCall, key: StoredKey, action: str) -> Verdict:
    policy = parse_policy(key.policy)
    context = {**call.caller.context, **_context(call, key)}
    return policy.evaluate(Request(action, key.arn, call.caller.account, call.caller.principals, context))


def _find_grant(call: KmsCall, key: StoredKey) -> Grant | None:
    return next((grant for grant in key.grants.values() if grant.permits(call.operation.name, call.caller)), None)


def _context(call: KmsCall, key: StoredKey) -> Context:
    """Say what the request and the key add to the caller's condition keys."""
    context: dict[str, tuple[str, ...]] = {
        "aws:requestedregion": (call.region,),
        "kms:keyorigin": (str(key.moto.origin),),
        "kms:keyspec": (key.spec,),
        "kms:keyusage": (key.usage,),
        "kms:multiregion": (str(bool(key.moto.multi_region)).lower(),),
        "kms:resourcealiases": key.aliases,
        **{f"aws:resourcetag/{name.lower()}": (value,) for name, value in key.tags.items()},
    }
    _, separator, alias = call.text("KeyId").rpartition("alias/")
    if separator:
        context["kms:requestalias"] = (f"alias/{alias}",)
    if call.operation.name in {"Sign", "Verify"}:
        context["kms:signingalgorithm"] = (call.text("SigningAlgorithm"),)
        context["kms:messagetype"] = (call.text("MessageType", "RAW"),)
    if call.operation.name == "CreateGrant":
        context["kms:granteeprincipal"] = (call.text("GranteePrincipal"),)
        context["kms:grantoperations"] = tuple(_texts(call.parameters.get("Operations", ())))
    return context


def _texts(values: Iterable[object]) -> Iterable[str]:
    return (value for value in values if isinstance(value, str))


def _denied(call: KmsCall, reason: str) -> AwsFaultError:
    action = f"kms:{call.operation.name}"
    return AwsFaultError(
        "AccessDeniedException",
        f"User: {call.caller.arn} is not authorized to perform: {action} {reason.format(action=action)}",
    )
