"""CreateGrant, ListGrants, RevokeGrant, RetireGrant: grants count from the next call on."""

from collections.abc import Mapping
from typing import Any

from byok_sandbox.kms.calls import KmsCall
from byok_sandbox.kms.faults import AwsFaultError
from byok_sandbox.kms.grants import GRANT_LIMIT, Grant, read_terms
from byok_sandbox.kms.store import KeyStore, StoredKey


def check_terms(call: KmsCall) -> None:
    """Check what is to be granted; what a grant allows its grantee to grant on is no more than it allows."""
    terms = read_terms(call.parameters, call.key.usage)
    if call.grant is not None and not terms.operations <= call.grant.terms.operations:
        raise AwsFaultError(
            "AccessDeniedException",
            f"User: {call.caller.arn} may only grant operations that its own grant on {call.key.arn} allows",
        )
    if len(call.key.grants) >= GRANT_LIMIT:
        raise AwsFaultError("LimitExceededException", f"{call.key.arn} has {GRANT_LIMIT} grants, the most it may have.")


def check_grant_id(call: KmsCall) -> None:
    """Refuse a grant id that no grant on the key has."""
    if call.text("GrantId") not in call.key.grants:
        raise AwsFaultError("NotFoundException", f"Grant ID {call.text('GrantId')[:80]} not found")


async def create_grant(_: KeyStore, call: KmsCall) -> Mapping[str, Any]:
    """Make a grant; the same named grant asked for again is the one that is there."""
    terms = read_terms(call.parameters, call.key.usage)
    for grant in call.key.grants.values():
        if terms.name is not None and grant.terms == terms:
            return {"GrantId": grant.grant_id, "GrantToken": grant.token}
    made = Grant(call.key.arn, terms, call.caller.account, call.request.now)
    call.key.grants[made.grant_id] = made
    return {"GrantId": made.grant_id, "GrantToken": made.token}


async def list_grants(_: KeyStore, call: KmsCall) -> Mapping[str, Any]:
    """List the grants on a key, all on one page."""
    wanted = {"GrantId": call.text("GrantId"), "GranteePrincipal": call.text("GranteePrincipal")}
    entries = [grant.entry() for grant in call.key.grants.values()]
    found = [entry for entry in entries if all(not value or entry[name] == value for name, value in wanted.items())]
    return {"Grants": found, "Truncated": False}


async def revoke_grant(_: KeyStore, call: KmsCall) -> Mapping[str, Any]:
    """Take a grant back, as the key's owner."""
    call.key.grants.pop(call.text("GrantId"), None)
    return {}


async def retire_grant(store: KeyStore, call: KmsCall) -> Mapping[str, Any]:
    """Give a grant up, as the principal that it names for that, or its grantee if it may."""
    found = _find(store, call)
    if found is None:
        raise AwsFaultError("NotFoundException", "The grant was not found.")
    key, grant = found
    call.keys.append(key)
    if not grant.may_be_retired_by(call.caller):
        raise AwsFaultError(
            "AccessDeniedException",
            f"User: {call.caller.arn} is not authorized to perform: kms:RetireGrant on resource: {key.arn}",
        )
    if call.flag("DryRun"):
        raise dry_run_fault()
    del key.grants[grant.grant_id]
    return {}


def check_tokens(store: KeyStore, call: KmsCall) -> None:
    """Refuse grant tokens that KMS never gave out; grants count at once here, so that nothing else hangs on a token."""
    tokens = call.parameters.get("GrantTokens") or []
    known = {grant.token for _, grant in store.grants()} if tokens else set()
    if not all(isinstance(token, str) and token in known for token in tokens):
        raise AwsFaultError("InvalidGrantTokenException", "Invalid grant token.")


def dry_run_fault() -> AwsFaultError:
    """Make the error with which KMS says that a call would have been done."""
    message = "The request would have succeeded, but the DryRun option is set."
    return AwsFaultError("DryRunOperationException", message)


def _find(store: KeyStore, call: KmsCall) -> tuple[StoredKey, Grant] | None:
    token, grant_id, key_arn = call.text("GrantToken"), call.text("GrantId"), call.text("KeyId")
    for key, grant in store.grants():
        if (token and grant.token == token) or (not token and (grant.grant_id, key.arn) == (grant_id, key_arn)):
            return key, grant
    return None
