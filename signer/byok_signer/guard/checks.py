"""What a check is: a name, and a small pure function that finds nothing or says what is wrong."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Generic, NamedTuple, TypeVar

from byok_api.errors import ClaimRefusal, Reason
from byok_signer.guard.policy import ClaimPolicy

Subject = TypeVar("Subject")

_SHOWN = 80


class Finding(NamedTuple):
    """Why a check refuses: a few words each, with nothing of the input in them that `shown` has not cut and escaped."""

    found: str
    expected: str


@dataclass(frozen=True)
class Check(Generic[Subject]):
    """One rule of the guard."""

    name: str
    """What refusals, metrics and audit records call it."""
    test: Callable[[Subject, ClaimPolicy], Finding | None]
    reason: Reason = Reason.ClaimRefused


def run(checks: Iterable[Check[Subject]], subject: Subject, policy: ClaimPolicy) -> None:
    """Apply checks in their order; the first finding is raised as ClaimRefusal."""
    for check in checks:
        finding = check.test(subject, policy)
        if finding is not None:
            raise ClaimRefusal(check.reason, check.name, found=finding.found, expected=finding.expected)


def shown(value: object) -> str:
    """Describe a value from the input: texts cut and in escaped ASCII, anything but texts and numbers by its type."""
    match value:
        case None | bool():
            return repr(value)
        case str():
            return ascii(value if len(value) <= _SHOWN else value[:_SHOWN] + "...")
        case int() | float():
            return f"the number {value}"
        case bytes():
            return f"a byte string of {len(value)} bytes"
        case list():
            return f"an array of {len(value)}"
        case _:
            return "a map"
