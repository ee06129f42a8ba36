"""Where the API server is asked about callers: 16 questions at once, fairly shared, none in vain while it is away."""

import asyncio
import logging
import math
from collections.abc import Callable, Mapping
from typing import Any

from byok_api.errors import Reason, Refusal
from byok_service.kubernetes import (
    SUBJECT_ACCESS_REVIEWS,
    Answer,
    ApiError,
    ApiUnavailable,
    KubernetesApi,
    KubernetesError,
    Resource,
)
from byok_signer.review_turns import NoTurnError, ReviewTurns

PATIENCE = 3.0
"""Seconds for an answer; one takes some milliseconds."""
TURN_PATIENCE = 5.0
"""Seconds for a turn to come."""
TRIAL_SECONDS = 1.0
"""Between two trials whether the API server is back."""
AWAY_SECONDS = 2 * TRIAL_SECONDS + PATIENCE
"""The API server counts as away for so long after a failure, unless it has answered since; trials fail meanwhile."""

STARTING_SECONDS = 60.0
"""For so long after it gave no answer at all an API server may be starting; then its denials count, ready or not."""

_AT_ONCE_AGAIN = 0.5
"""Seconds: what fails faster is tried once more at once, since a kept connection may have gone, or one of several API
servers."""
_LONGEST_WAIT = 10.0
_NOT_ASKED = (401, 403, 404)
"""Statuses of an API server that lets the signer ask nothing; any other no is about the one question."""
_ANY_REVIEW = {
    "apiVersion": SUBJECT_ACCESS_REVIEWS.api_version,
    "kind": "SubjectAccessReview",
    "spec": {"user": "system:anonymous", "nonResourceAttributes": {"path": "/readyz", "verb": "get"}},
}
_LOG = logging.getLogger(__name__)

Observe = Callable[[str, str, float], None]
"""Told of each question: its kind, `allowed`, `denied` or `unanswered`, and seconds."""


class UnansweredError(Exception):
    """The API server could not be asked, or did not say."""


class ReviewDesk:
    """Asks one API server. `clock` gives seconds that never go back. Must be used from one event loop."""

    def __init__(self, api: KubernetesApi, *, clock: Callable[[], float], observe: Observe) -> None:
        self._api = api
        self.clock = clock
        self.observe = observe
        self._turns = ReviewTurns()
        self._failed_at = self._silent_at = self._answered_at = -math.inf
        self._try_at = -math.inf
        self._starting = False
        self._looking: asyncio.Task[bool] | None = None
        self._tasks: set[asyncio.Task[Any]] = set()

    @property
    def away(self) -> bool:
        """Whether there is no word that counts: the last answer failed to come, a moment ago, or it is starting."""
        if self._starting:
            return self.recovering
        return self._answered_at < self._failed_at and self.clock() < self._failed_at + AWAY_SECONDS

    @property
    def recovering(self) -> bool:
        """Whether the API server may have just started: within the last minute it gave no answer at all."""
        return self.clock() < self._silent_at + STARTING_SECONDS

    @property
    def retry_after(self) -> float:
        """Seconds until it is tried again."""
        return max(TRIAL_SECONDS, self._try_at - self.clock())

    def spawn(self, coroutine: Any) -> "asyncio.Task[Any]":  # noqa: ANN401 - any coroutine and its task
        """Run something beside the calls, until `close` at the latest."""
        task = asyncio.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Give up everything that is under way."""
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    async def ask(self, resource: Resource, body: Mapping[str, Any], *, source: str, known: bool) -> Answer:
        """Have a review decided; UnansweredError."""
        try:
            async with asyncio.timeout(TURN_PATIENCE) as patience, self._turns.turn(source, known=known):
                patience.reschedule(None)
                if self.away:
                    # Since the question came.
                    raise UnansweredError("the API server is away")
                return await self._ask(resource, body)
        except (NoTurnError, TimeoutError):
            raise UnansweredError("it was not the question's turn in time") from None

    async def ready(self) -> None:
        """Make sure that an API server that is `recovering` knows all that it decides by; UnansweredError if not.

        One that has just started serves before it has read all roles and accounts, and then denies what they allow.
        Only such a one: while it shuts down, or its etcd is slow, it says that it is not ready too, and decides well.
        """
        if not await asyncio.shield(self._looking or self._look()):
            raise UnansweredError("the API server is not ready")

    def try_again(self) -> None:
        """Find out, beside the calls, whether the API server is back; at most every second."""
        if self._looking is None and self.clock() >= self._try_at:
            self._look()

    def _look(self) -> "asyncio.Task[bool]":
        self._looking = self.spawn(self._is_ready())
        return self._looking

    async def _is_ready(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE):
                ready = await self._says_ready()
                if not ready:
                    # What matters is whether it decides.
                    await self._api.create(SUBJECT_ACCESS_REVIEWS, _ANY_REVIEW)
        except (KubernetesError, TimeoutError) as error:
            self._failed(error)
            return False
        finally:
            self._looking = None
        self._starting = not ready and self.recovering
        if self._starting:
            self._try_at = self.clock() + TRIAL_SECONDS
        else:
            self._answered()
        return not self._starting

    async def _says_ready(self) -> bool:
        try:
            async with asyncio.timeout(PATIENCE / 2):
                await self._api.get_raw("/readyz")
        except (ApiUnavailable, TimeoutError):
            return False
        except ApiError:
            # It answers, and does not let the signer see more.
            pass
        return True

    async def _ask(self, resource: Resource, body: Mapping[str, Any]) -> Answer:
        began = self.clock()
        try:
            async with asyncio.timeout(PATIENCE):
                try:
                    answer = await self._api.create(resource, body)
                except ApiUnavailable as error:
                    if error.retry_after or self.clock() - began > _AT_ONCE_AGAIN:
                        raise
                    answer = await self._api.create(resource, body)
        except (KubernetesError, TimeoutError) as error:
            if not isinstance(error, ApiError) or error.status in _NOT_ASKED:
                self._failed(error)
            raise UnansweredError(str(error)) from None
        self._answered()
        return answer

    def _answered(self) -> None:
        if self._answered_at < self._failed_at:
            _LOG.info("the API server answers again")
        self._answered_at = self.clock()

    def _failed(self, error: Exception) -> None:
        if self._failed_at <= self._answered_at:
            # Once for an outage. ApiError: the signer's own rights are missing, or the API server is starting.
            cause = str(error) or "it did not answer in time"
            _LOG.warning("the API server cannot be asked about callers", extra={"cause": cause})
        now = self.clock()
        self._failed_at = now
        self._starting = False
        if _is_silence(error):
            self._silent_at = now
        wait = error.retry_after if isinstance(error, ApiUnavailable) and error.retry_after else TRIAL_SECONDS
        self._try_at = now + min(max(wait, TRIAL_SECONDS), _LONGEST_WAIT)


def _is_silence(error: Exception) -> bool:
    """Tell no answer at all from one that says no: only the former's ApiUnavailable has a cause, the connection's."""
    return isinstance(error, TimeoutError) or (isinstance(error, ApiUnavailable) and error.__cause__ is not None)


def unanswered(whom: str, *, retry_after: float) -> Refusal:
    """Refuse because the API server could not be asked about a caller that is not known well enough."""
    return Refusal(
        Reason.ClusterUnavailable,
        f"the API server could not be asked about {whom}; call again in a moment",
        retry_after=retry_after,
    )
