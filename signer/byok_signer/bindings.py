"""Which KMS key each ByokKey stands for, once KMS has shown that its public key is the registered certificate's.

An alias can move and a key can be replaced, so what was seen is looked at again after a while; in between, `Sign` goes
to the key ARN that was seen, and every signature is verified with the certificate's public key all the same.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import NamedTuple

from byok_api.errors import Reason, Refusal
from byok_api.references import ObjectName
from byok_api.signatures import spki_sha256_of_der
from byok_signer.breaker import Breaker
from byok_signer.entries import Pin
from byok_signer.fair_cache import FairCache
from byok_signer.health import HealthBoard
from byok_signer.kms.errors import OUTAGE_REASONS, KmsError
from byok_signer.kms.port import KeyHandle, Kms

LIMIT = 10_000
"""Keys remembered, those seen and those refused each; beyond that, the namespace that has most loses its oldest."""
_LOOK_TIMEOUT = 5.0
_PAUSE = 10.0
"""Seconds between two looks while KMS cannot be asked, or shows another key, so that not every call waits for one."""
_BRIEFLY = 1.0
"""Seconds between two looks for a key that was never seen."""


@dataclass(frozen=True)
class _Seen:
    pin: Pin
    resolved: KeyHandle
    at: float
    look_at: float
    """When KMS is asked again."""


class _Refused(NamedTuple):
    """A look that failed. Not the refusal itself, which holds on to the frames that it passed through."""

    pin: Pin
    reason: Reason
    message: str
    retry_after: float | None
    metadata: Mapping[str, str]


class KeyBindings:
    """Resolves pins through `kms:GetPublicKey`: one call at a time for a ByokKey, remembered for `recheck_after`."""

    def __init__(self, kms: Kms, *, clock: Callable[[], float], health: HealthBoard) -> None:
        self._kms = kms
        self._clock = clock
        self._health = health
        self._breaker = Breaker(clock)
        self._seen: FairCache[ObjectName, _Seen] = FairCache(LIMIT)
        self._refused: FairCache[ObjectName, tuple[float, _Refused]] = FairCache(LIMIT)
        """What the last look came to, until a time."""
        self._looking: dict[Pin, asyncio.Task[KeyHandle]] = {}

    async def resolve(self, pin: Pin, *, timeout: float) -> KeyHandle:  # noqa: ASYNC109 - the caller's own patience
        """Return the handle with its key ARN; Refusal CertificateMismatch, or KMS's own, if the pin does not hold."""
        seen = self._seen.get(pin.handle.name)
        if seen is not None and seen.pin != pin:
            seen = None
        if seen is not None and self._clock() < seen.look_at:
            return seen.resolved
        try:
            return await self._look_once(pin, timeout)
        except Refusal as refusal:
            now = self._clock()
            # An outage says nothing about the key: what was seen before stands until it is stale.
            if seen is None or refusal.reason not in OUTAGE_REASONS or now >= seen.at + pin.stale_after:
                raise
            if self._seen.get(pin.handle.name) is seen:
                self._remember(replace(seen, look_at=min(now + _PAUSE, seen.at + pin.stale_after)))
            return seen.resolved

    async def _look_once(self, pin: Pin, timeout: float) -> KeyHandle:  # noqa: ASYNC109 - the caller's own patience
        looking = self._looking.get(pin)
        if looking is None:
            looking = asyncio.create_task(self._look(pin))
            self._looking[pin] = looking
            looking.add_done_callback(lambda task: self._looked(pin, task))
        try:
            # One caller's deadline must not end the call for the others who wait for it.
            return await asyncio.wait_for(asyncio.shield(looking), timeout)
        except TimeoutError:
            raise Refusal(
                Reason.KmsDeadlineExceeded,
                f"key {pin.handle.name}: the caller's deadline passed while its public key was read from KMS",
            ) from None

    async def _look(self, pin: Pin) -> KeyHandle:
        self._check_not_refused(pin)
        self._breaker.enter(pin.handle)
        try:
            answer = await self._kms.get_public_key(pin.handle, timeout=_LOOK_TIMEOUT)
        except KmsError as refusal:
            self._breaker.failed(pin.handle, refusal)
            self._health.failed(pin, refusal)
            self._refuse_for(_BRIEFLY, pin, refusal)
            raise
        self._breaker.succeeded(pin.handle)
        if spki_sha256_of_der(answer.spki) != pin.spki_sha256:
            self._seen.pop(pin.handle.name.namespace, pin.handle.name)
            mismatch = Refusal(
                Reason.CertificateMismatch,
                f"key {pin.handle.name}: the public key of {answer.key_arn} is not that of the registered certificate; "
                "register this KMS key's certificate, or name the KMS key that the certificate is for",
                metadata={"key": str(pin.handle.name), "key_arn": str(answer.key_arn)},
            )
            self._health.failed(pin, mismatch)
            self._refuse_for(_PAUSE, pin, mismatch)
            raise mismatch
        resolved = replace(pin.handle, resolved_arn=answer.key_arn)
        now = self._clock()
        self._remember(_Seen(pin, resolved, now, now + pin.recheck_after))
        return resolved

    def _remember(self, seen: _Seen) -> None:
        name = seen.pin.handle.name
        self._seen.put(name.namespace, name, seen)

    def _refuse_for(self, seconds: float, pin: Pin, refusal: Refusal) -> None:
        words = _Refused(pin, refusal.reason, refusal.message, refusal.retry_after, refusal.metadata)
        name = pin.handle.name
        self._refused.put(name.namespace, name, (self._clock() + seconds, words))

    def _check_not_refused(self, pin: Pin) -> None:
        until, refused = self._refused.get(pin.handle.name) or (0.0, None)
        if refused is not None and refused.pin == pin and self._clock() < until:
            raise Refusal(refused.reason, refused.message, retry_after=refused.retry_after, metadata=refused.metadata)

    def _looked(self, pin: Pin, task: asyncio.Task[KeyHandle]) -> None:
        del self._looking[pin]
        if not task.cancelled():
            task.exception()  # retrieved here too, in case every waiting caller has gone
