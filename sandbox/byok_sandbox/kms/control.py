"""What the sandbox needs and AWS has not: identities and keys made by a call, the event log at once, faults on order.

Everything under `/_sandbox/` wants `Authorization: Bearer <control token>`.
"""

import hmac
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from byok_sandbox.kms.faults import AwsFaultError
from byok_sandbox.kms.front import State
from byok_sandbox.kms.identities import AccessKey, Identity
from byok_sandbox.kms.injection import FaultRule
from byok_sandbox.kms.keys import KeyMaterialError, SoftwareKey
from byok_sandbox.kms.policies import parse_policy

PREFIX = "/_sandbox"

_ARN_LIMIT = 2048
_PEM_LIMIT = 16 * 1024
_COUNT_DIGITS = 12


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class IdentityDocument(_Document):
    """A role or user to be known: body of `PUT /_sandbox/identities`."""

    arn: str = Field(max_length=_ARN_LIMIT)
    actions: tuple[str, ...] = ()
    tags: dict[str, str] = Field(default_factory=dict)
    trust_policy: str | None = Field(default=None, alias="trustPolicy")
    max_session_seconds: int = Field(default=3600, alias="maxSessionSeconds", ge=3600, le=43_200)


class AccessKeyDocument(_Document):
    """Credentials to be made: body of `POST /_sandbox/access-keys`."""

    arn: str = Field(max_length=_ARN_LIMIT)
    session_name: str = Field(default="sandbox", alias="sessionName", pattern=r"^[A-Za-z0-9_+=,.@-]{2,64}$")
    expires_in: float | None = Field(default=None, alias="expiresIn")
    """Seconds from now; None for credentials that stay."""


class KnownAccessKeyDocument(_Document):
    """Credentials that were issued before: body of `PUT /_sandbox/access-keys`."""

    arn: str = Field(max_length=_ARN_LIMIT)
    session_name: str = Field(default="sandbox", alias="sessionName", pattern=r"^[A-Za-z0-9_+=,.@-]{2,64}$")
    access_key_id: str = Field(alias="accessKeyId", pattern=r"^AKIA[A-Z2-7]{16}$")
    secret_access_key: str = Field(alias="secretAccessKey", min_length=16, max_length=128, repr=False)


class KnownKeyDocument(_Document):
    """A signing key that was made before: body of `PUT /_sandbox/keys`."""

    arn: str = Field(max_length=_ARN_LIMIT)
    private_key: str = Field(alias="privateKey", max_length=_PEM_LIMIT, repr=False)
    """PEM, unencrypted."""


DocumentType = TypeVar("DocumentType", bound=BaseModel)


Adopt = Callable[[str, SoftwareKey], Awaitable[None]]
"""Adds a key by its ARN; AwsFaultError."""


class Control:
    """The handlers under `/_sandbox/`."""

    def __init__(self, token: str, state: State, adopt: Adopt) -> None:
        self._token = token
        self._state = state
        self._adopt = adopt

    def add_to(self, router: web.UrlDispatcher) -> None:
        """Register the handlers."""
        router.add_put(f"{PREFIX}/identities", self._put_identity)
        router.add_post(f"{PREFIX}/access-keys", self._issue)
        router.add_put(f"{PREFIX}/access-keys", self._put_access_key)
        router.add_put(f"{PREFIX}/keys", self._put_key)
        router.add_get(f"{PREFIX}/events", self._list_events)
        router.add_post(f"{PREFIX}/faults", self._add_fault)
        router.add_get(f"{PREFIX}/faults", self._list_faults)
        router.add_delete(f"{PREFIX}/faults", self._clear_faults)
        router.add_delete(f"{PREFIX}/faults/{{id}}", self._clear_faults)

    async def _put_identity(self, request: web.Request) -> web.Response:
        document = await self._read(request, IdentityDocument)
        try:
            self._state.directory.put(_identity(document))
        except ValueError as error:
            raise _bad_request(str(error)) from error
        return web.json_response({"arn": document.arn})

    async def _issue(self, request: web.Request) -> web.Response:
        document = await self._read(request, AccessKeyDocument)
        expires_at = None if document.expires_in is None else self._state.clock() + document.expires_in
        try:
            key = self._state.directory.issue(document.arn, session_name=document.session_name, expires_at=expires_at)
        except KeyError as error:
            raise _unknown(document.arn) from error
        except ValueError as error:
            raise _bad_request(str(error)) from error
        return web.json_response(credentials_of(key))

    async def _put_access_key(self, request: web.Request) -> web.Response:
        known = await self._read(request, KnownAccessKeyDocument)
        try:
            self._state.directory.put_access_key(
                known.arn, known.access_key_id, known.secret_access_key, session_name=known.session_name
            )
        except KeyError as error:
            raise _unknown(known.arn) from error
        except ValueError as error:
            raise _bad_request(str(error)) from error
        return web.json_response({"accessKeyId": known.access_key_id})

    async def _put_key(self, request: web.Request) -> web.Response:
        document = await self._read(request, KnownKeyDocument)
        try:
            await self._adopt(document.arn, SoftwareKey.load(document.private_key.encode()))
        except (KeyMaterialError, AwsFaultError) as error:
            raise _bad_request(str(error)) from error
        return web.json_response({"arn": document.arn})

    async def _list_events(self, request: web.Request) -> web.Response:
        self._authorize(request)
        since = request.query.get("since", "0")
        if not since.isdecimal() or len(since) > _COUNT_DIGITS:
            raise _bad_request("'since' must be a count of events")
        return web.json_response({"events": self._state.events.since(int(since))})

    async def _add_fault(self, request: web.Request) -> web.Response:
        rule = await self._read(request, FaultRule)
        try:
            return web.json_response({"id": self._state.faults.add(rule)})
        except ValueError as error:
            raise _bad_request(str(error)) from error

    async def _list_faults(self, request: web.Request) -> web.Response:
        self._authorize(request)
        rules = self._state.faults.rules().items()
        return web.json_response({"faults": [{"id": number, **document_of(rule)} for number, rule in rules]})

    async def _clear_faults(self, request: web.Request) -> web.Response:
        self._authorize(request)
        return web.json_response({"cleared": self._state.faults.clear(request.match_info.get("id"))})

    async def _read(self, request: web.Request, model: type[DocumentType]) -> DocumentType:
        self._authorize(request)
        try:
            return model.model_validate_json(await request.read())
        except ValidationError as error:
            first = error.errors(include_input=False, include_url=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "body"
            raise _bad_request(f"{where}: {first['msg']}") from error

    def _authorize(self, request: web.Request) -> None:
        given = request.headers.get("Authorization", "").encode()
        if not hmac.compare_digest(given, f"Bearer {self._token}".encode()):
            raise web.HTTPUnauthorized(text="the control token is missing or wrong")


def credentials_of(key: AccessKey) -> dict[str, Any]:
    """Write an access key as the control answers it; secret."""
    return {
        "arn": key.caller.arn,
        "accessKeyId": key.access_key_id,
        "secretAccessKey": key.secret_access_key,
        "sessionToken": key.session_token,
        "expiresAt": key.expires_at,
    }


def document_of(rule: FaultRule) -> dict[str, Any]:
    """Write a rule as the control takes and lists it."""
    return rule.model_dump(mode="json", by_alias=True, exclude_none=True)


def _identity(document: IdentityDocument) -> Identity:
    return Identity(
        document.arn,
        actions=document.actions,
        tags=document.tags,
        trust_policy=None if document.trust_policy is None else parse_policy(document.trust_policy),
        max_session_seconds=document.max_session_seconds,
    )


def _unknown(arn: str) -> web.HTTPBadRequest:
    return _bad_request(f"{arn} is unknown: PUT it to {PREFIX}/identities first")


def _bad_request(text: str) -> web.HTTPBadRequest:
    return web.HTTPBadRequest(text=text)
