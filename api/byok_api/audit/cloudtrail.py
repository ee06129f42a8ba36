"""CloudTrail's side of a reconciliation: the events in its log files, one by one, and the signatures among them. Pure.

A log file is `{"Records":[...]}`, as long as it likes; one event to a line, several such documents in a row and a bare
list are read too. Source: AWS CloudTrail User Guide, "CloudTrail record contents" and "CloudTrail log file examples";
AWS KMS Developer Guide, "Sign" under "Examples of AWS KMS log entries".
"""

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

EVENT_LIMIT = 2 * 1024 * 1024
"""Bytes of one event; CloudTrail keeps its own under 1 MiB."""
_TEXT_LIMIT = 2048
_BOM = "\xef\xbb\xbf"
_RECORDS = re.compile(r'\{\s*"Records"\s*:\s*\[')
_LIST = re.compile(r"\[")
_SPACE = re.compile(r"\s*")
_SEPARATORS = re.compile(r"[\s,]*")
_STRUCTURE = re.compile(r'\\.|["{}\[\]]', re.DOTALL)
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d{1,9})?Z")
_KEY = re.compile(r"arn:[a-z-]+:kms:[a-z0-9-]+:\d{12}:key/[A-Za-z0-9-]{1,128}")
_NO_TIME = "eventTime is not a time in UTC"
_CUT_OFF = 16
"""Characters before the end within which a fault may be the end's: a literal or an escape that is cut off."""

Event = dict[str, Any]
Found = tuple[int, Event]
"""An event, and how many bytes into the file, unpacked, it begins."""


class SignEvent(NamedTuple):
    """One call of `kms:Sign`; in the caller's and in the key owner's account, if they differ, it is an event each."""

    request_id: str
    """As KMS told the caller too; empty if the event names none."""
    event_id: str
    account: str
    """Whose event this is (`recipientAccountId`)."""
    time: float
    """Seconds since the epoch, whole ones in CloudTrail; when the call was completed."""
    key_arn: str
    """Empty if the event does not tell."""
    error: str
    """Empty for a signature. A dry run carries `DryRunOperationException`."""
    principal: str
    """Who called, as people read it."""
    actor: str
    """Who called, without the session: the unique id of the role or user, the same in both accounts' events."""


@dataclass(frozen=True, slots=True)
class Damage:
    """A part of a log file that could not be read."""

    offset: int
    """Bytes into the file, unpacked."""
    message: str
    within: bool = False
    """Whether it is told where its event ends, so that reading goes on right behind it."""


class NotCloudTrailError(ValueError):
    """A JSON document is none of CloudTrail's log files."""


def parse_time(text: object) -> float:
    """Read an `eventTime` as seconds since the epoch; ValueError if it is none."""
    if type(text) is not str:
        raise ValueError(_NO_TIME)
    return _seconds(text)


# Events come in the order of their times, more or less.
@lru_cache(maxsize=1024)
def _seconds(text: str) -> float:
    try:
        if _TIME.fullmatch(text):
            return datetime.fromisoformat(text).timestamp()
    except ValueError:
        pass
    raise ValueError(_NO_TIME)


def key_family(key_arn: str) -> str:
    """Name a KMS key for comparison: the ARN, without the Region if the key has replicas in several (`mrk-`)."""
    if ":key/mrk-" not in key_arn:
        return key_arn
    head, _, key = key_arn.partition(":key/")
    partition, account = head.split(":")[1], head.rpartition(":")[2]
    return f"{partition}:{account}:{key}"


def plain(text: str | None) -> str:
    """Write a text in ASCII: what can be stored, compared and printed anywhere."""
    return "" if text is None else text if text.isascii() else text.encode("ascii", "backslashreplace").decode()


def sign_event(event: Event) -> SignEvent | None:
    """Read a call of `kms:Sign`; None for any other event, ValueError for one whose fields are malformed.

    Only management events count: one call leaves a second event of category NetworkActivity, with the same request id,
    where a trail logs VPC endpoints.
    """
    if event.get("eventName") != "Sign" or event.get("eventSource") != "kms.amazonaws.com":
        return None
    if event.get("eventCategory", "Management") != "Management":
        return None
    identity = event.get("userIdentity")
    identity = identity if type(identity) is dict else {}
    return SignEvent(
        request_id=_text(event, "requestID"),
        event_id=_event_id(event),
        account=_text(event, "recipientAccountId"),
        time=parse_time(event.get("eventTime")),
        key_arn=_key_arn(event, identity),
        error=_text(event, "errorCode"),
        principal=_principal(identity),
        actor=_text(identity, "principalId").partition(":")[0] or _text(identity, "arn"),
    )


def _principal(identity: Event) -> str:
    # In the key owner's account, a caller of another account has no ARN (AWS KMS Developer Guide, on log entries).
    names = (_text(identity, name) for name in ("type", "principalId", "accountId", "invokedBy"))
    return _text(identity, "arn") or " ".join(filter(None, names))


def _text(fields: Event, name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if type(value) is not str or len(value) > _TEXT_LIMIT:
        raise ValueError(f"{name} is not a text of at most {_TEXT_LIMIT} characters")
    return plain(value)


def _event_id(event: Event) -> str:
    # Without one an event could not be told from its own copy.
    if not (event_id := _text(event, "eventID")):
        raise ValueError("eventID is missing")
    return event_id


def _key_arn(event: Event, identity: Event) -> str:
    resources = event.get("resources")
    for resource in resources if type(resources) is list else ():
        arn = resource.get("ARN") if type(resource) is dict else None
        if type(arn) is str and _KEY.fullmatch(arn):
            return arn
    parameters = event.get("requestParameters")
    key = _text(parameters, "keyId") if type(parameters) is dict else ""
    if _KEY.fullmatch(key):
        return key
    # A bare key id names a key of the caller's own account and of the Region that was called (KMS API, Sign, KeyId).
    region, account = _text(event, "awsRegion"), _text(identity, "accountId")
    partition = "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
    arn = f"arn:{partition}:kms:{region}:{account}:key/{key}"
    return arn if _KEY.fullmatch(arn) else ""


def read_events(chunks: Iterable[bytes]) -> Iterator[Found | Damage]:
    """Read a log file, given unpacked and in pieces of any size; what cannot be read is told in its place.

    At most `EVENT_LIMIT` bytes and a piece are held. After an event that is too large, or that Python cannot
    represent, reading goes on; after broken JSON it goes on at the next line that begins with a brace. Raises
    NotCloudTrailError for a JSON document that holds no events.
    """
    text = _Text(chunks)
    text.skip_literally(_BOM)
    while text.skip(_SPACE):
        if text.accept(_RECORDS):
            yield from _list(text, closing="}")
        elif text.accept(_LIST):
            yield from _list(text, closing="")
        else:
            yield from _document(text)


class _Text:
    """The part of a file that is being looked at, one character to a byte: offsets are the file's, and ASCII is ASCII.

    What a field says beyond ASCII is not what it says in UTF-8; `SignEvent` has no such field that matters.
    """

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = iter(chunks)
        self._dropped = 0
        self.text = ""
        self.at = 0

    @property
    def offset(self) -> int:
        return self._dropped + self.at

    @property
    def held(self) -> int:
        return len(self.text) - self.at

    def more(self) -> bool:
        """Get the next piece; False at the end."""
        chunk = next(self._chunks, b"")
        self._dropped += self.at
        self.text, self.at = self.text[self.at :] + chunk.decode("latin-1"), 0
        return bool(chunk)

    def skip_literally(self, prefix: str) -> None:
        while self.held < len(prefix) and self.more():
            pass
        if self.text.startswith(prefix, self.at):
            self.at += len(prefix)

    def skip(self, pattern: re.Pattern[str]) -> bool:
        """Skip what there is of a pattern; False at the end of the file."""
        while True:
            match = pattern.match(self.text, self.at)
            self.at = match.end() if match else self.at
            if self.held:
                return True
            if not self.more():
                return False

    def accept(self, pattern: re.Pattern[str]) -> bool:
        """Skip a short pattern if it is there."""
        while self.held < 64 and self.more():  # noqa: PLR2004 - longer than any heading is written
            pass
        match = pattern.match(self.text, self.at)
        self.at = match.end() if match else self.at
        return match is not None

    def skip_value(self) -> bool:
        """Skip an object or list of any size, by its brackets; False if the file ends within it."""
        depth, quoted = 0, False
        while True:
            end = self.at
            for token in _STRUCTURE.finditer(self.text, self.at):
                end, mark = token.end(), token[0]
                if mark == '"':
                    quoted = not quoted
                elif not quoted and mark in "{[":
                    depth += 1
                elif not quoted and mark in "}]":
                    depth -= 1
                    if depth <= 0:
                        self.at = end
                        return True
            # A backslash at the end of the piece belongs to what the next one begins with.
            self.at = len(self.text) - (end < len(self.text) and self.text.endswith("\\"))
            if not self.more():
                return False

    def skip_line(self) -> None:
        """Go to the next line that begins with a brace, or to the end."""
        while True:
            found = self.text.find("\n{", self.at)
            if found >= 0:
                self.at = found + 1
                return
            self.at = max(self.at, len(self.text) - 1)
            if not self.more():
                self.at = len(self.text)
                return


_decode = json.JSONDecoder().raw_decode


def _value(text: _Text) -> object:
    """Decode the value that begins here, or return what is wrong with it, `text` then standing behind it."""
    start = text.offset
    while True:
        try:
            value, text.at = _decode(text.text, text.at)
        except json.JSONDecodeError as error:
            if error.pos < len(text.text) - _CUT_OFF and not error.msg.startswith("Unterminated string"):
                position = text.offset + error.pos - text.at
                text.skip_line()
                return Damage(position, f"no valid JSON: {error.msg}")
            if text.held > EVENT_LIMIT:
                return _skipped(text, start, f"an event is larger than {EVENT_LIMIT} bytes")
            if not text.more():
                text.at = len(text.text)
                return Damage(start, _ENDS)
        except (ValueError, RecursionError):
            return _skipped(text, start, "an event holds a number too long, or is nested too deep, to be read")
        else:
            return value


def _skipped(text: _Text, start: int, message: str) -> Damage:
    return Damage(start, message, within=True) if text.skip_value() else Damage(start, _ENDS)


_ENDS = "the file ends within an event or a list of events"


def _list(text: _Text, *, closing: str) -> Iterator[Found | Damage]:
    while text.skip(_SEPARATORS):
        if text.text[text.at] == "]":
            text.at += 1
            if text.skip(_SPACE) and closing and text.text[text.at] == closing:
                text.at += 1
            return
        offset = text.offset
        value = _value(text)
        yield _checked(value, offset)
        if isinstance(value, Damage) and not value.within:
            return
    yield Damage(text.offset, _ENDS)


def _checked(value: object, offset: int) -> Found | Damage:
    if type(value) is dict:
        return offset, value
    if isinstance(value, Damage):
        return value
    return Damage(offset, "an event is no JSON object")


def _document(text: _Text) -> Iterator[Found | Damage]:
    """Read one event, or a document that holds some."""
    offset = text.offset
    if text.text[text.at] != "{":
        text.skip_line()
        yield Damage(offset, "neither an event nor a list of events begins here")
        return
    value = _value(text)
    records = value.get("Records") if type(value) is dict else None
    if type(records) is list:
        yield from (_checked(record, offset) for record in records)
    elif type(value) is dict and "eventName" not in value:
        raise NotCloudTrailError("the document has neither Records nor an eventName")
    else:
        yield _checked(value, offset)
