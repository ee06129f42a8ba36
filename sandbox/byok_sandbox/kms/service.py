"""A KMS call from its parameters to its answer, as an ordered list of small steps; each refuses by raising."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from byok_sandbox.kms.arns import parse_key_arn, parse_key_reference
from byok_sandbox.kms.authorization import authorize, deny_across_accounts
from byok_sandbox.kms.calls import KmsCall, KmsRequest
from byok_sandbox.kms.faults import AwsFaultError
from byok_sandbox.kms.granting import check_tokens, dry_run_fault
from byok_sandbox.kms.keys import SoftwareKey
from byok_sandbox.kms.operations import OPERATIONS, RETIRE_GRANT
from byok_sandbox.kms.store import KeyStore, StoredKey

Step = Callable[[KmsCall], Awaitable[None]]


class KmsService:
    """The emulated KMS behind its front."""

    def __init__(self) -> None:
        self._store = KeyStore()
        self._steps: tuple[Step, ...] = (
            self._check_parameters,
            self._find_keys,
            self._authorize,
            self._check_state,
            self._check_request,
            self._check_dry_run,
        )

    def adopt(self, arn: str, material: SoftwareKey) -> None:
        """Add a signing key that was made before, under its ARN; AwsFaultError if that is no key's, or is taken."""
        self._store.adopt(parse_key_arn(arn), material)

    def open(self, request: KmsRequest) -> KmsCall:
        """Begin a call; AwsFaultError UnknownOperationException if KMS has no such operation."""
        operation = OPERATIONS.get(request.operation)
        if operation is None:
            raise AwsFaultError("UnknownOperationException", f"KMS has no operation {request.operation[:60]!r}.")
        return KmsCall(request, operation)

    def key_of(self, call: KmsCall) -> StoredKey | None:
        """Find the key that a call names by KeyId, if there is one."""
        try:
            return self._find_key(call, "KeyId") if call.text("KeyId") else None
        except AwsFaultError:
            return None

    async def answer(self, call: KmsCall) -> Mapping[str, Any]:
        """Do what was asked for; AwsFaultError as KMS refuses."""
        for step in self._steps:
            await step(call)
        return await call.operation.perform(self._store, call)

    async def _check_parameters(self, call: KmsCall) -> None:
        call.operation.check_parameters(call)

    async def _find_keys(self, call: KmsCall) -> None:
        for name in call.operation.keys:
            if name in call.parameters:
                call.keys.append(self._find_key(call, name))

    async def _authorize(self, call: KmsCall) -> None:
        check_tokens(self._store, call)
        if call.operation is not RETIRE_GRANT:
            call.grant = authorize(call)

    async def _check_state(self, call: KmsCall) -> None:
        for key in call.keys:
            if key.state not in call.operation.states:
                raise _wrong_state(key, call.operation.states)

    async def _check_request(self, call: KmsCall) -> None:
        if call.operation.check is not None:
            call.operation.check(call)

    async def _check_dry_run(self, call: KmsCall) -> None:
        if call.operation.dry_run and call.flag("DryRun"):
            raise dry_run_fault()

    def _find_key(self, call: KmsCall, parameter: str) -> StoredKey:
        reference = parse_key_reference(call.text(parameter), call.caller.account, call.region)
        if reference.alias and parameter != "AliasName" and not call.operation.by_alias:
            raise AwsFaultError("NotFoundException", f"Invalid keyId {reference.alias}")
        foreign = reference.account != call.caller.account
        key = None if foreign and not call.operation.cross_account else self._store.find(reference)
        if key is not None:
            return key
        if foreign:
            raise deny_across_accounts(call)
        if reference.alias:
            raise AwsFaultError("NotFoundException", f"Alias {reference.arn} is not found.")
        raise AwsFaultError("NotFoundException", f"Key '{reference.arn}' does not exist")


def _wrong_state(key: StoredKey, allowed: frozenset[str]) -> AwsFaultError:
    if allowed == {"PendingDeletion"}:
        return AwsFaultError("KMSInvalidStateException", f"{key.arn} is not pending deletion.")
    if key.state == "Disabled":
        return AwsFaultError("DisabledException", f"{key.arn} is disabled.")
    words = {"PendingDeletion": "pending deletion", "PendingImport": "pending import"}[key.state]
    return AwsFaultError("KMSInvalidStateException", f"{key.arn} is {words}.")
