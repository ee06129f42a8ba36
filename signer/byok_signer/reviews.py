"""Who is calling, in a cluster: what a token says, and then whether the API server still stands by it (TokenReview).

A token outlives the pod and the ServiceAccount that it was made for; only the API server knows that they are gone.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from byok_api.errors import Reason, Refusal
from byok_service.kubernetes import TOKEN_REVIEWS
from byok_signer.authentication import Caller, JwtAuthenticator
from byok_signer.review_desk import ReviewDesk, UnansweredError
from byok_signer.verdicts import Verdicts

LIMIT = 20.0
"""Seconds for which an answer counts; a kube-apiserver itself remembers tokens for 10 s, which makes 30."""
AHEAD = 12.0
"""Seconds after which a token in use is asked about again, beside the calls."""


@dataclass(frozen=True, slots=True)
class _Identified:
    """What the API server said of a token: whom it names; None if it does not take it."""

    caller: Caller | None
    at: float

    @property
    def allowed(self) -> bool:
        return self.caller is not None


@dataclass(frozen=True, slots=True)
class _Question:
    token: str = field(repr=False)
    """Not kept: only its hash is a key."""
    caller: Caller


class ReviewedAuthenticator:
    """Accepts what JwtAuthenticator accepts, if the API server does too."""

    def __init__(self, local: JwtAuthenticator, desk: ReviewDesk, *, audience: str) -> None:
        self._local = local
        self._desk = desk
        self._audience = audience
        self._verdicts: Verdicts[bytes, _Question, _Identified] = Verdicts(
            desk, self._ask, kind="TokenReview", limit=LIMIT, ahead=AHEAD
        )

    async def authenticate(self, token: str | None) -> Caller:
        """Name the caller, once token and API server agree on who it is."""
        caller = await self._local.authenticate(token)
        if token is None:
            raise AssertionError("no token, no caller")
        identified = await self._verdicts.find(
            caller.credential, _Question(token, caller), source=caller.namespace, whom=caller.username
        )
        return identified.caller or _refuse()

    def recall(self, caller: Caller) -> Caller | None:
        """Give what the API server said last, unless that is too old; Refusal TokenInvalid if it said no."""
        identified = self._verdicts.recall(caller.credential)
        return None if identified is None else identified.caller or _refuse()

    async def _ask(self, question: _Question, known: bool) -> _Identified:  # noqa: FBT001 - as Verdicts asks
        caller, at = question.caller, self._desk.clock()
        spec = {"token": question.token, "audiences": [self._audience]}
        body = {"apiVersion": TOKEN_REVIEWS.api_version, "kind": "TokenReview", "spec": spec}
        answer = await self._desk.ask(TOKEN_REVIEWS, body, source=caller.namespace, known=known)
        return _Identified(_confirmed(caller, answer.body.get("status"), self._audience, at), at)


def _confirmed(caller: Caller, status: object, audience: str, at: float) -> Caller | None:
    """Compare what the API server says with what the token says; UnansweredError for what is no TokenReview."""
    if not isinstance(status, dict):
        raise UnansweredError("the TokenReview came back without status")
    if status.get("authenticated") is not True:
        return None
    # An API server that knows nothing of audiences leaves them out, and has not looked at ours.
    if audience not in _texts(status.get("audiences")):
        return None
    user = status.get("user")
    if not isinstance(user, dict) or (user.get("username"), user.get("uid")) != (caller.username, caller.uid):
        return None
    extra: Any = user.get("extra") or {}
    if not isinstance(extra, dict):
        raise UnansweredError("the TokenReview's user is malformed")
    return replace(
        caller,
        groups=_texts(user.get("groups")),
        extra=tuple(sorted((str(name), _texts(values)) for name, values in extra.items())),
        confirmed_at=at,
    )


def _texts(found: object) -> tuple[str, ...]:
    values = found or []
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise UnansweredError("the TokenReview's status is malformed")
    return tuple(values)


def _refuse() -> Caller:
    raise Refusal(
        Reason.TokenInvalid,
        "the bearer token is refused: the API server no longer takes it; its pod or ServiceAccount was deleted, or it "
        "was made for another audience; use the token of a running pod",
    )
