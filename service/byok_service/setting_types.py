"""What a setting can be: addresses, files, URLs, names; each type checks its text and says what it expects."""

import ipaddress
import os
import re
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, NoReturn
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator
from pydantic_core import PydanticCustomError

from byok_api.references import NAMESPACE_PATTERN, ROLE_ARN_PATTERN, KeyArn, ObjectName

_HIGHEST_PORT = 0xFFFF
IN_CLUSTER = "in-cluster"
"""The API server of the cluster that a pod runs in, with the pod's own ServiceAccount."""


class LogLevel(StrEnum):
    """How much is logged."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True)
class TcpAddress:
    """A TCP address to listen on; port 0 means any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class UnixSocket:
    """A unix socket to listen on: the one place where plaintext is allowed."""

    path: Path

    def __str__(self) -> str:
        return f"unix:{self.path}"


@dataclass(frozen=True)
class Stdout:
    """Standard output as the place of audit records."""

    def __str__(self) -> str:
        return "stdout"


@dataclass(frozen=True)
class Setting:
    """What `--help` says of a setting beside its names and default."""

    form: str
    meaning: str
    also: tuple[str, ...] = ()
    """Variables of other programs' that say the same; the first that is set counts where nothing of ours does."""
    is_secret: bool = False
    """Whether it can hold a password, so that what was given is never repeated."""


def refuse(expected: str) -> NoReturn:
    """Refuse a value; `expected` says what would be accepted."""
    raise PydanticCustomError("setting", "{expected}", {"expected": f"expected {expected}"})


def _is_folder(path: Path) -> bool:
    # pathlib raises where a folder above may not be searched (Path.is_dir, Path.is_file).
    try:
        return path.is_dir()
    except PermissionError:
        return False


def _folder(path: Path) -> Path:
    if not _is_folder(path) or not os.access(path, os.R_OK | os.X_OK):
        refuse("a folder that exists and can be read")
    return path


def _file(path: Path) -> Path:
    # What cannot be reached is not readable either, and access() does not raise.
    if not os.access(path, os.R_OK) or not path.is_file():
        refuse("a file that exists and can be read")
    return path


def _later_file(path: Path) -> Path:
    if not _holds_files(path.parent) or _is_folder(path):
        refuse("a file, which need not exist yet, in a folder that exists and can be searched")
    return path


def _holds_files(folder: Path) -> bool:
    return _is_folder(folder) and os.access(folder, os.X_OK)


def _tcp_address(value: object) -> TcpAddress:
    if isinstance(value, TcpAddress):
        return value
    if not isinstance(value, str):
        refuse("HOST:PORT")
    host, separator, port = value.rpartition(":")
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else host
    if not separator or not bare or not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > _HIGHEST_PORT:
        refuse("HOST:PORT with a port from 0 to 65535")
    if ":" in bare and bare == host:
        refuse("an IPv6 address in brackets: [ADDRESS]:PORT")
    return TcpAddress(bare, int(port))


def _listen_address(value: object) -> TcpAddress | UnixSocket:
    if isinstance(value, UnixSocket):
        return value
    if isinstance(value, str) and value.startswith("unix:"):
        path = Path(value.removeprefix("unix:"))
        if not path.is_absolute() or not _is_folder(path.parent):
            refuse("unix:/PATH in a folder that exists")
        return UnixSocket(path)
    return _tcp_address(value)


def _audit(value: object) -> Path | Stdout:
    if isinstance(value, Stdout):
        return value
    if value == "stdout":
        return Stdout()
    path = Path(value) if isinstance(value, str | Path) else None
    if path is None or not path.is_absolute() or not _holds_files(path.parent) or _is_folder(path):
        refuse("'stdout' or the absolute path of a file in a folder that exists and can be searched")
    return path


def _object_name(value: object) -> ObjectName:
    if isinstance(value, ObjectName):
        return value
    try:
        return ObjectName.parse(value if isinstance(value, str) else "")
    except ValueError:
        refuse("NAMESPACE/NAME")


def _cluster(value: str) -> str:
    path = Path(value)
    if value != IN_CLUSTER and not (os.access(path, os.R_OK) and path.is_file()):
        refuse(f"{IN_CLUSTER!r} or a kubeconfig file that exists and can be read")
    return value


def _key_arn(value: object) -> KeyArn:
    if isinstance(value, KeyArn):
        return value
    try:
        return KeyArn(value if isinstance(value, str) else "")
    except ValueError:
        refuse("the ARN of a KMS key or alias")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        refuse("an https URL")
    if not host or parts.username is not None or parts.query or parts.fragment:
        refuse("an https URL with a host, without user, query or fragment")
    # Plaintext beyond this machine would let anyone on the way answer in the issuer's or KMS's name.
    if parts.scheme != "https" and not (parts.scheme == "http" and _is_loopback(host)):
        refuse("an https URL (http only for a loopback address)")
    return value


def _comma_separated(value: object) -> object:
    return tuple(item.strip() for item in value.split(",") if item.strip()) if isinstance(value, str) else value


def _matching(pattern: str | re.Pattern[str], expected: str) -> AfterValidator:
    compiled = re.compile(pattern)

    def check(value: str) -> str:
        if compiled.fullmatch(value) is None:
            refuse(expected)
        return value

    return AfterValidator(check)


Folder = Annotated[Path, AfterValidator(_folder)]
File = Annotated[Path, AfterValidator(_file)]
LaterFile = Annotated[Path, AfterValidator(_later_file)]
"""A file that may come after the start: a Secret can be mounted before anybody, such as the operator, has filled it."""
Url = Annotated[str, AfterValidator(_url)]
Namespace = Annotated[str, _matching(NAMESPACE_PATTERN, "a namespace: a DNS label")]
Name = Annotated[ObjectName, BeforeValidator(_object_name)]
Audit = Annotated[Path | Stdout, BeforeValidator(_audit)]
HttpAddress = Annotated[TcpAddress, BeforeValidator(_tcp_address)]
ListenAddress = Annotated[TcpAddress | UnixSocket, BeforeValidator(_listen_address)]
Cluster = Annotated[str, AfterValidator(_cluster)]
Urls = Annotated[tuple[Url, ...], BeforeValidator(_comma_separated)]
CheckpointKey = Annotated[KeyArn, BeforeValidator(_key_arn)]
# RFC 1123, section 2.1.
Host = Annotated[
    str,
    _matching(
        r"[A-Za-z0-9][A-Za-z0-9-]{0,62}(?:\.[A-Za-z0-9][A-Za-z0-9-]{0,62}){0,15}\.?",
        "a host name, such as SERVICE.NAMESPACE.svc",
    ),
]
RoleArn = Annotated[str, _matching(ROLE_ARN_PATTERN, "the ARN of an IAM role")]
# As acknowledgement.terms of a ByokKey is (byok_api.fields.Identifier).
Terms = Annotated[
    str, _matching(r"[A-Za-z0-9](?:[A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?", "1 to 63 letters, digits or _.-, as a name")
]
Sha256 = Annotated[str, _matching(r"[0-9a-f]{64}", "a SHA-256: 64 lower-case hexadecimal digits")]
# AWS STS API reference, AssumeRole: what both an ExternalId, whose parts a colon separates, and a session tag take.
Installation = Annotated[
    str,
    _matching(r"[A-Za-z0-9][A-Za-z0-9+=.@_-]{0,62}", "1 to 63 letters, digits or +=.@_-, a letter or digit first"),
]
