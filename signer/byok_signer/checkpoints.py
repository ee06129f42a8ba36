"""Signs the head of the audit chain now and then, with a KMS key of its own.

When the signer starts, every so many minutes while records are written, and when it ends: an intent, `kms:Sign` over
that intent's place and hash, the checkpoint. Where an answer gets lost, KMS is not asked for the same again: another
intent settles that one, and is signed in its place, once. A key that cannot be used when the signer starts is a mistake
to be mended; later on a checkpoint that fails is recorded, counted and tried again, and never stops signing.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import NoReturn

from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_der_public_key

from byok_api.algorithms import SigningAlgorithm
from byok_api.audit import Attempt, AuditEvent, Head, Kind, checkpoint, checkpoint_intent, statement
from byok_api.errors import Reason, Refusal
from byok_api.references import KeyArn, ObjectName
from byok_api.signatures import SignatureError, spki_sha256_of_der, verify
from byok_signer.audit import AuditSink
from byok_signer.entries import ReservedKey
from byok_signer.kms.errors import OUTAGE_REASONS, KmsError, failure_of
from byok_signer.kms.port import KeyHandle, Kms, SignAnswer, external_id_for

_LOG = logging.getLogger(__name__)
_NAME = ObjectName("-", "checkpoint")
"""Stands for the key where a ByokKey's name would; no namespace is called so."""
_TIMEOUT = 5.0
"""Seconds for one call of KMS."""
_LAST_TIMEOUT = 2.0
"""Seconds for one when the signer ends: its last checkpoint must not hold it up."""
_FIRST_PAUSE = 15.0
"""Seconds after which a checkpoint that failed is tried again; doubled each time, up to the usual period."""


def checkpoint_handle(arn: KeyArn, installation: str) -> KeyHandle:
    """Say how the checkpoint key is reached; a role, with the external id `byok:INSTALLATION:-/checkpoint`."""
    return KeyHandle(name=_NAME, arn=arn, external_id=external_id_for(installation, _NAME))


@dataclass(frozen=True)
class _Key:
    handle: KeyHandle
    algorithm: SigningAlgorithm
    spki: bytes
    public_key: PublicKeyTypes


class _BegunAnewError(Exception):
    """An answer got lost; the intent that settles the one before is there to be signed."""

    def __init__(self, intent: AuditEvent, head: Head) -> None:
        super().__init__()
        self.intent = intent
        self.head = head


@dataclass(eq=False, kw_only=True)
class Checkpointer:
    """Makes checkpoints from `start` to `close`."""

    kms: Kms
    audit: AuditSink
    handle: KeyHandle
    period: float
    """Seconds between two checkpoints."""
    ended: Callable[[str], None]
    """Told what each try came to: `ok`, or a Reason's name."""
    _key: _Key | None = field(default=None, init=False)
    _covered: int = field(default=-1, init=False)
    """Records of this sink that were there after the last checkpoint, it and its intents included."""
    _stopping: asyncio.Event = field(default_factory=asyncio.Event, init=False)
    _running: "asyncio.Task[None] | None" = field(default=None, init=False)

    @property
    def reserved(self) -> ReservedKey:
        """What no ByokKey may name, as far as it is known now."""
        key = self._key
        if key is None:
            return ReservedKey(frozenset({self.handle.arn}), None)
        return ReservedKey(frozenset({self.handle.arn, key.handle.signing_arn}), spki_sha256_of_der(key.spki))

    @property
    def _timeout(self) -> float:
        return _LAST_TIMEOUT if self._stopping.is_set() else _TIMEOUT

    async def start(self) -> None:
        """Make the first checkpoint, which vouches for what an earlier signer has left, and go on in the background.

        Refusal if the key cannot be used, unless KMS cannot be asked at the moment.
        """
        failures = 0
        try:
            await self._make()
        except Refusal as refusal:
            if refusal.reason not in OUTAGE_REASONS:
                raise
            failures = 1
        self._running = asyncio.create_task(self._run(failures))

    async def close(self) -> None:
        """Make a last checkpoint, if records were written since the one before."""
        self._stopping.set()
        if self._running is not None:
            await self._running
            await self._try()

    async def _run(self, failures: int) -> None:
        while not await self._stopped_within(pause_after(failures, self.period)):
            failures = 0 if await self._try() else failures + 1

    async def _stopped_within(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._stopping.wait(), seconds)
        return self._stopping.is_set()

    async def _try(self) -> bool:
        if self.audit.counts().records <= self._covered:
            return True
        try:
            await self._make()
        except Refusal:
            return False
        except Exception:  # noqa: BLE001 - a bug here must not end the signer; it is logged and counted as Internal
            _LOG.exception("a checkpoint ended in a bug")
            return False
        return True

    async def _make(self) -> None:
        outcome = Reason.Internal.name
        try:
            key = self._key = self._key or await self._look()
            before = self.audit.counts().records
            self._covered = before + await self._sign(key)
            outcome = "ok"
        except Refusal as refusal:
            outcome = refusal.reason.name
            _LOG.warning("no checkpoint", extra={"reason": outcome, "found": refusal.message})
            raise
        finally:
            self.ended(outcome)

    async def _look(self) -> _Key:
        answer = await self.kms.get_public_key(self.handle, timeout=self._timeout)
        if answer.key_usage != "SIGN_VERIFY" or not answer.algorithms:
            raise Refusal(
                Reason.KeyUsageInvalid,
                f"{answer.key_arn} is a key of spec {answer.key_spec} for {answer.key_usage}: a checkpoint key has the "
                "usage SIGN_VERIFY and a spec that C2PA allows, such as ECC_NIST_P256",
            )
        try:
            public_key = load_der_public_key(answer.spki)
        except ValueError:
            raise Refusal(Reason.KmsAnswerInvalid, f"the public key of {answer.key_arn} is malformed") from None
        return _Key(replace(self.handle, resolved_arn=answer.key_arn), answer.algorithms[0], answer.spki, public_key)

    async def _sign(self, key: _Key) -> int:
        """Make a checkpoint, and return how many records that took."""
        time, timeout = asyncio.get_running_loop().time, self._timeout
        due = time() + timeout
        intent = checkpoint_intent(key.handle.signing_arn.text, key.algorithm)
        head = await self.audit.append_head(intent)
        try:
            await self._settle(key, intent, head, timeout)
        except _BegunAnewError as anew:
            await self._settle(key, anew.intent, anew.head, due - time())
            return 3
        return 2

    async def _settle(self, key: _Key, intent: AuditEvent, head: Head, timeout: float) -> None:  # noqa: ASYNC109 - KMS's
        try:
            answer = await self._ask(key, intent, head, timeout)
        except _BegunAnewError:
            raise
        except Exception as error:
            failure = failure_of(error, lost=bool(intent.attempts))
            await self.audit.append(replace(intent, kind=Kind.CHECKPOINT, intent=head.sequence, **failure))
            raise
        signed = checkpoint(intent, head, spki=key.spki, signature=answer.signature, attempts=answer.attempts)
        await self.audit.append(signed)

    async def _begin_anew(self, intent: AuditEvent, head: Head, attempts: tuple[Attempt, ...]) -> NoReturn:
        """Announce another checkpoint in the place of one whose answer got lost, unless that was such a one itself."""
        if intent.attempts:
            raise Refusal(Reason.KmsUnavailable, f"KMS's answers for a checkpoint by {intent.key_arn} get lost")
        again = replace(intent, intent=head.sequence, attempts=attempts)
        raise _BegunAnewError(again, await self.audit.append_head(again))

    async def _ask(self, key: _Key, intent: AuditEvent, head: Head, timeout: float) -> SignAnswer:  # noqa: ASYNC109 - KMS's
        message, on_lost = statement(head), partial(self._begin_anew, intent, head)
        answer = await self.kms.sign(key.handle, key.algorithm, message=message, timeout=timeout, on_lost=on_lost)
        try:
            verify(key.public_key, key.algorithm, answer.signature, message=message)
        except SignatureError as error:
            raise _invalid(answer, str(error)) from None
        if answer.key_arn != key.handle.signing_arn:
            raise _invalid(answer, "it is from another key than the one that was asked")
        return answer


def _invalid(answer: SignAnswer, found: str) -> KmsError:
    message = f"{answer.key_arn}: what KMS returned for a checkpoint is refused: {found}"
    return KmsError(Reason.KmsAnswerInvalid, message, attempts=answer.attempts)


def pause_after(failures: int, period: float) -> float:
    """Tell how many seconds there are to the next checkpoint, after so many that failed one after the other."""
    return min(period, _FIRST_PAUSE * 2.0 ** min(failures - 1, 20)) if failures else period
