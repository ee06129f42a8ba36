"""AssumeRole and GetCallerIdentity, in STS's query protocol (AWS STS API reference)."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from urllib.parse import parse_qsl
from xml.sax.saxutils import escape

from byok_sandbox.kms.arns import account_of
from byok_sandbox.kms.conditions import Context
from byok_sandbox.kms.faults import AwsFaultError
from byok_sandbox.kms.identities import Caller, Directory, Identity, new_session
from byok_sandbox.kms.policies import Policy, Request, allows

VERSION = "2011-06-15"
NAMESPACE = f"https://sts.amazonaws.com/doc/{VERSION}/"

_FIELD_LIMIT = 300
_SESSION_NAME = re.compile(r"[\w+=,.@-]{2,64}", re.ASCII)
_EXTERNAL_ID = re.compile(r"[\w+=,.@:/-]{2,1224}", re.ASCII)
_TAG_KEY = re.compile(r"[\w\s+=.:/@-]{1,128}")
_TAG_VALUE = re.compile(r"[\w\s+=.:/@-]{0,256}")
_TAG_LIMIT = 50
_MIN_SECONDS = 900
_CHAINED_SECONDS = 3600
_UNPRINTABLE = re.compile(r"[^\x20-\x7e]")
_KNOWN = re.compile(
    r"Action|Version|RoleArn|RoleSessionName|ExternalId|DurationSeconds|Tags\.member\.[0-9]{1,2}\.(?:Key|Value)",
)


@dataclass(frozen=True)
class StsCall:
    """A call of an authenticated caller."""

    caller: Caller
    action: str
    parameters: Mapping[str, str]
    now: float
    """Seconds since the epoch."""


def read_parameters(body: bytes) -> dict[str, str]:
    """Read a query protocol body; AwsFaultError if it is none."""
    try:
        pairs = parse_qsl(body.decode("ascii"), keep_blank_values=True, max_num_fields=_FIELD_LIMIT)
    except ValueError as error:
        raise AwsFaultError("MalformedInput", f"The body must be a form of at most {_FIELD_LIMIT} fields.") from error
    return dict(pairs)


class StsService:
    """The part of STS that callers of KMS need."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._actions = MappingProxyType({"AssumeRole": self._assume_role, "GetCallerIdentity": self._caller_identity})

    def answer(self, call: StsCall) -> str:
        """Answer the XML inside `<...Result>`; AwsFaultError as STS refuses."""
        action = self._actions.get(call.action)
        if action is None:
            raise AwsFaultError("UnknownOperationException", f"The sandbox does not emulate {call.action[:60]!r}.")
        return action(call)

    def _caller_identity(self, call: StsCall) -> str:
        caller = call.caller
        user_id = caller.identity.unique_id + (f":{caller.session_name}" if caller.session_name else "")
        return xml("Arn", caller.arn) + xml("UserId", user_id) + xml("Account", caller.account)

    def _assume_role(self, call: StsCall) -> str:
        unknown = next((name for name in call.parameters if not _KNOWN.fullmatch(name)), None)
        if unknown:
            # Leaving one out silently could make a session that may more than was asked for.
            raise AwsFaultError("ValidationException", f"The sandbox does not emulate the parameter {unknown[:60]!r}.")
        session_name = _pattern(call, "RoleSessionName", _SESSION_NAME)
        if "ExternalId" in call.parameters:
            _pattern(call, "ExternalId", _EXTERNAL_ID)
        tags = _session_tags(call.parameters)
        role = self._directory.role(call.parameters.get("RoleArn", ""))
        if role is None or role.trust_policy is None or not _trusted(call, role, role.trust_policy, tags):
            raise AwsFaultError(
                "AccessDeniedException",
                f"User: {call.caller.arn} is not authorized to perform: sts:AssumeRole on resource: "
                f"{call.parameters.get('RoleArn', '')[:2048]}",
            )
        expires_at = float(int(call.now) + _duration(call, role))
        session = new_session(role, session_name, tags)
        key = self._directory.open_session(session, expires_at=expires_at)
        expiration = datetime.fromtimestamp(expires_at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        credentials = (
            xml("AccessKeyId", key.access_key_id)
            + xml("SecretAccessKey", key.secret_access_key)
            + xml("SessionToken", key.session_token or "")
            + xml("Expiration", expiration)
        )
        user = xml("AssumedRoleId", f"{role.unique_id}:{session_name}") + xml("Arn", session.arn)
        return f"<Credentials>{credentials}</Credentials><AssumedRoleUser>{user}</AssumedRoleUser>"


def xml(name: str, text: str) -> str:
    """Write one XML element with text in it; what XML cannot hold becomes a question mark."""
    return f"<{name}>{escape(_UNPRINTABLE.sub('?', text))}</{name}>"


def _pattern(call: StsCall, name: str, pattern: re.Pattern[str]) -> str:
    value = call.parameters.get(name, "")
    if not pattern.fullmatch(value):
        member = name[0].lower() + name[1:]
        raise AwsFaultError(
            "ValidationException",
            f"1 validation error detected: Value at '{member}' failed to satisfy constraint: "
            f"Member must satisfy regular expression pattern: {pattern.pattern}",
        )
    return value


def _session_tags(parameters: Mapping[str, str]) -> dict[str, str]:
    tags: dict[str, str] = {}
    for key, value in _tag_pairs(parameters):
        if not _TAG_KEY.fullmatch(key) or not _TAG_VALUE.fullmatch(value) or key.lower().startswith("aws:"):
            raise AwsFaultError("ValidationException", f"The session tag {key[:60]!r} is not valid.")
        if key.lower() in {known.lower() for known in tags}:
            raise AwsFaultError("InvalidParameterValue", f"Duplicate tag keys found: {key[:60]!r}.")
        tags[key] = value
    if len(tags) > _TAG_LIMIT:
        raise AwsFaultError("ValidationException", f"A session has at most {_TAG_LIMIT} tags.")
    return tags


def _tag_pairs(parameters: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, key in parameters.items():
        if name.endswith(".Key"):
            yield key, parameters.get(name.removesuffix("Key") + "Value", "")


def _trusted(call: StsCall, role: Identity, policy: Policy, tags: Mapping[str, str]) -> bool:
    caller, context = call.caller, _context(call, tags)
    same_account = account_of(role.arn) == caller.account
    # Session tags need a permission of their own.
    for action in ("sts:AssumeRole", "sts:TagSession") if tags else ("sts:AssumeRole",):
        verdict = policy.evaluate(Request(action, role.arn, caller.account, caller.principals, context))
        if not allows(verdict, same_account=same_account, identity_allows=caller.may(action)):
            return False
    return True


def _context(call: StsCall, tags: Mapping[str, str]) -> Context:
    context = dict(call.caller.context)
    context["sts:rolesessionname"] = (call.parameters["RoleSessionName"],)
    if "ExternalId" in call.parameters:
        context["sts:externalid"] = (call.parameters["ExternalId"],)
    if tags:
        context["aws:tagkeys"] = tuple(tags)
        context |= {f"aws:requesttag/{key.lower()}": (value,) for key, value in tags.items()}
    return context


def _duration(call: StsCall, role: Identity) -> int:
    text = call.parameters.get("DurationSeconds", "3600")
    seconds = int(text) if re.fullmatch(r"[0-9]{1,6}", text) else 0
    if seconds < _MIN_SECONDS:
        raise AwsFaultError("ValidationException", f"'durationSeconds' must be at least {_MIN_SECONDS}.")
    if call.caller.chained and seconds > _CHAINED_SECONDS:
        message = "The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining"
        raise AwsFaultError("ValidationException", message)
    if seconds > role.max_session_seconds:
        message = "The requested DurationSeconds exceeds the MaxSessionDuration set for this role."
        raise AwsFaultError("ValidationException", message)
    return seconds
