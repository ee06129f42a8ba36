"""One operation on a key, tried again and on replicas while KMS is out, within one deadline."""
# ruff: noqa: ASYNC109 - the timeout is spent over retries and replicas

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from byok_api.audit import ATTEMPTS_LIMIT, Attempt, Outcome
from byok_api.errors import Reason, Refusal
from byok_api.references import KeyArn
from byok_signer.kms import answers
from byok_signer.kms.client import Identity, Request, SignedClient
from byok_signer.kms.config import KmsConfig
from byok_signer.kms.endpoints import Endpoints
from byok_signer.kms.errors import Action, KmsError, Verdict, told_of_attempts
from byok_signer.kms.http1 import HttpAnswer
from byok_signer.kms.port import KeyHandle, OnLost

T = TypeVar("T")

_PAUSE = 0.05
_LEAST = 0.025
"""Seconds: with less left, a retry would at best leave a signature behind that nobody waits for."""
_ATTEMPTS = ATTEMPTS_LIMIT - 4
"""A target can take four more: answers lost, on a kept and on a fresh connection, with old and new credentials."""
_DRY_RUN_DONE = frozenset({"DryRunOperationException"})
_NO_CODES: frozenset[str] = frozenset()
_OUT_OF_TIME = Verdict(Reason.KmsDeadlineExceeded, Outcome.UNKNOWN)

Read = Callable[[Action, KeyArn, HttpAnswer, str], T]
"""Makes the result of a good answer and its request id; KmsError if it is not what KMS would say."""


@dataclass(slots=True)  # not frozen: one is made for every signature, and freezing doubles the cost
class Call(Generic[T]):
    """An operation, the key, and where else it is if its Region fails."""

    key: KeyHandle
    operation: str
    targets: tuple[KeyArn, ...]
    members: str
    """Those of the JSON object that is sent, after KeyId: `,"name":value...` or nothing."""
    read: Read[T]
    identity: Callable[[KeyArn], Identity]
    """Whose call it is, given where it goes."""
    dry_run: bool = False
    """Whether KMS is only asked if it would."""
    on_lost: OnLost | None = None
    """Of what signs."""

    def action(self, arn: KeyArn) -> Action:
        """Name the call to one of the targets."""
        return Action(self.key.name, f"kms:{self.operation}", arn.text)


@dataclass(frozen=True)
class Caller:
    """Makes calls of KMS."""

    client: SignedClient
    endpoints: Endpoints
    config: KmsConfig

    async def run(self, call: Call[T], *, timeout: float) -> tuple[T, tuple[Attempt, ...]]:
        """Answer the result and every request made; the last refusal if it is no outage, or tries or time run out.

        Requests that `call.on_lost` was told of are not among them.
        """
        time = asyncio.get_running_loop().time
        deadline = time() + timeout
        attempts: list[Attempt] = []
        refusal: KmsError | None = None
        for number in range(len(call.targets) * (self.config.retries + 1)):
            turn, place = divmod(number, len(call.targets))
            if turn and not place:
                # Jitter, so that those who failed together do not come back together.
                pause = _PAUSE * 2**turn * random.uniform(0.5, 1)  # noqa: S311 - no secret
                if time() + pause > deadline - _LEAST:
                    break
                await asyncio.sleep(pause)
            left = deadline - time()
            if left <= (_LEAST if number else 0) or len(attempts) > _ATTEMPTS:
                break
            arn = call.targets[place]
            try:
                result = await self._try(call, arn, attempts, min(left, self.config.attempt_timeout))
            except Refusal as error:
                told = told_of_attempts(error, tuple(attempts))
                if _is_final(error, of_replica=place > 0):
                    raise told from error
                # What a replica refuses does not hide that the key's own Region is out, which passes.
                if refusal is None or error.reason is Reason.KmsUnavailable:
                    refusal = told
            else:
                return result, tuple(attempts)
        if refusal is None or time() >= deadline:
            late = call.action(call.targets[0]).refused(_OUT_OF_TIME, f"{timeout:.1f} s have passed")
            raise told_of_attempts(late, tuple(attempts)) from refusal
        raise told_of_attempts(refusal, tuple(attempts)) from refusal

    async def _try(self, call: Call[T], arn: KeyArn, attempts: list[Attempt], timeout: float) -> T:
        request = Request(
            call.action(arn),
            self.endpoints.kms(call.key, arn, call.operation),
            f'{{"KeyId":"{arn.text}"{call.members}}}'.encode(),
            answers.error_of,
            call.operation == "Sign",
            _DRY_RUN_DONE if call.dry_run else _NO_CODES,
            attempts,
            call.on_lost,
        )
        answer = await self.client.post(request, call.identity(arn), timeout=timeout)
        try:
            if answer.request_id is None:
                raise request.action.answer_invalid("the answer has no request id, by which CloudTrail would know it")
            result = call.read(request.action, arn, answer, answer.request_id)
        except KmsError:
            request.record(answer.request_id, Outcome.UNKNOWN)
            raise
        request.record(answer.request_id, Outcome.FAILED if call.dry_run else Outcome.SIGNED)
        return result


def _is_final(error: Refusal, *, of_replica: bool) -> bool:
    if not isinstance(error, KmsError):
        return True  # `on_lost` refuses: KMS must not be asked again
    if of_replica:
        return error.reason is Reason.KmsAnswerInvalid
    return error.reason is not Reason.KmsUnavailable
