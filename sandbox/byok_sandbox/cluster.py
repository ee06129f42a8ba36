"""`python -m byok_sandbox.cluster`: the sandbox's AWS as a pod, in a cluster whose operator and signer are real.

The emulated KMS is served with TLS, since the signer sends its session token nowhere else. What the signer needs goes
into the Secret `byok-sandbox`, what whoever tries it out needs into the ConfigMap of that name; both must be there.
Keys and all that was told of them are kept in that Secret, so that a new pod goes on with them; what else somebody did
to the emulated KMS, such as to make keys of their own, is gone with the pod.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import logging
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType
from typing import NoReturn
from urllib.parse import urlsplit

from byok_sandbox import shipped
from byok_sandbox.ca import LEAF_VALIDITY
from byok_sandbox.filling import fill
from byok_sandbox.kept import Kept, KeptError
from byok_sandbox.kms.client import ControlClient, ControlError
from byok_sandbox.owner import AwsAccess, KeyOwner
from byok_sandbox.parts import SIGNER_ROLE, administrator, start_kms, start_stamping
from byok_sandbox.processes import Child, ChildError
from byok_sandbox.tls_front import tls_front
from byok_service.kubernetes import (
    NOT_FOUND,
    ApiError,
    ApiUnavailable,
    JsonObject,
    KubernetesApi,
    Resource,
    SourceError,
)
from byok_service.setting_types import IN_CLUSTER

STATE = "state.json"
"""What is kept, in the Secret."""
NAME = "byok-sandbox"
"""Of the Secret and the ConfigMap, and of the field manager that writes them."""
SECRETS, CONFIG_MAPS = Resource("", "v1", "secrets"), Resource("", "v1", "configmaps")
KMS_PORT, TSA_PORT = 8443, 3161

_LOG = logging.getLogger(__name__)
_LOOK = 1.0
_HIGHEST_PORT = 65_535


@dataclass(frozen=True)
class Account:
    """The emulated AWS, running, and what others are told of it."""

    address: tuple[str, int]
    """Of the emulated KMS: plaintext, on the loopback."""
    secret: Mapping[str, str] = field(repr=False)
    config: Mapping[str, str]
    children: tuple[Child, ...]


@dataclass(frozen=True)
class Place:
    """Where the sandbox is reached."""

    folder: Path
    host: str
    kms_port: int
    tsa_port: int


@contextlib.contextmanager
def running_account(place: Place, kept: Kept) -> Iterator[Account]:
    """Start the emulated KMS with the keys that are kept, and a time-stamp authority; ChildError, ControlError."""
    for part in ("logs", "tsa"):
        (place.folder / part).mkdir()
    with contextlib.ExitStack() as stack:
        kms = start_kms(place.folder)
        stack.callback(kms.stop)
        listen = ("0.0.0.0", place.tsa_port)  # noqa: S104 - other pods call it
        tsa = start_stamping(place.folder, kept.stamping, listen=listen)
        stack.callback(tsa.stop)
        announced = kms.wait_for(kms.output, {})
        stamping = urlsplit(tsa.wait_for(tsa.output, {})["address"]).port
        control = ControlClient(announced["address"], announced["controlToken"])
        access = administrator(announced)
        _restore(kept, control, KeyOwner(access, SIGNER_ROLE))
        keys = {algorithm: key.certified for algorithm, key in kept.keys.items()}
        filled = fill(shipped.examples(), keys, timestamp_url=f"http://{place.host}:{stamping}/")
        told = {**filled.files, "trust-anchors.pem": kept.signing.trust_anchor_pem}
        address = urlsplit(announced["address"])
        secret = _secret(place, kept, control, access)
        yield Account((address.hostname or "", address.port or 0), secret, told, (kms, tsa))


def _restore(kept: Kept, control: ControlClient, owner: KeyOwner) -> None:
    control.put_identity(SIGNER_ROLE)
    # Credentials that stay, and so have no session token: nobody renews what is in a Secret.
    control.put_access_key(
        SIGNER_ROLE,
        access_key_id=kept.access_key_id,
        secret_access_key=kept.secret_access_key,
        session_name="byok-signer",
    )
    for algorithm, key in kept.keys.items():
        control.put_key(str(key.certified.arn), key.material.pem.decode())
        owner.grant(key.certified.arn, algorithm)


def _secret(place: Place, kept: Kept, control: ControlClient, access: AwsAccess) -> dict[str, str]:
    profile = {
        "aws_access_key_id": kept.access_key_id,
        "aws_secret_access_key": kept.secret_access_key,
    }
    owner = {
        "endpoint": f"https://{place.host}:{place.kms_port}",
        "region": access.region,
        "accessKeyId": access.access_key_id,
        "secretAccessKey": access.secret_access_key,
        "controlToken": control.token,
        "signerRole": SIGNER_ROLE,
    }
    return {
        STATE: kept.dump(),
        "ca.crt": kept.tls.trust_anchor_pem,
        # As the AWS SDKs' shared credentials file.
        "credentials": "".join(("[default]\n", *(f"{name} = {value}\n" for name, value in profile.items()))),
        "administrator.json": json.dumps(owner),
    }


def documents(account: Account, namespace: str) -> tuple[tuple[Resource, JsonObject], ...]:
    """Write the Secret and the ConfigMap as they are applied."""
    metadata = {"name": NAME, "namespace": namespace}
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": dict(account.secret)}
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": dict(account.config)}
    return (SECRETS, secret), (CONFIG_MAPS, config)


async def recall(source: str, namespace: str) -> Kept | None:
    """Read what the pod before has kept; tries until the API server answers. KeptError, SourceError."""
    api = await KubernetesApi.connect(source)
    try:
        data = await _read(api, namespace)
    finally:
        await api.close()
    kept = Kept.load(base64.b64decode(data[STATE]).decode(errors="replace")) if STATE in data else None
    if kept is not None and not kept.lasts(datetime.now(UTC)):
        _LOG.warning("what the Secret %s keeps is about to expire: keys are made anew, apply their manifests", NAME)
        return None
    return kept


async def _read(api: KubernetesApi, namespace: str) -> Mapping[str, str]:
    while True:
        try:
            found: Mapping[str, str] | None = (await api.get(SECRETS, namespace, NAME)).get("data")
        except (ApiError, ApiUnavailable) as error:
            if isinstance(error, ApiError) and error.status == NOT_FOUND:
                return {}
            # Not to know is no reason to replace keys that are in use.
            _LOG.warning("the Secret %s is not read yet: %s", NAME, error)
            await asyncio.sleep(_LOOK)
        else:
            return found or {}


async def tell(source: str, account: Account, namespace: str) -> None:
    """Apply Secret and ConfigMap; tries until the API server takes them. SourceError if there are no credentials."""
    api = await KubernetesApi.connect(source)
    try:
        for resource, body in documents(account, namespace):
            await _apply(api, resource, body)
    finally:
        await api.close()


async def _apply(api: KubernetesApi, resource: Resource, body: JsonObject) -> None:
    while True:
        try:
            await api.apply(resource, body, field_manager=NAME)
        except (ApiError, ApiUnavailable) as error:
            _LOG.warning("%s %s is not written yet: %s", resource, NAME, error)
            await asyncio.sleep(_LOOK)
        else:
            _LOG.info("%s %s is written", resource, NAME)
            return


async def serve(options: argparse.Namespace, place: Place, kept: Kept, account: Account) -> None:
    """Serve until SIGTERM or SIGINT; ChildError if a part of the account ends before."""
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    certificate = kept.tls.issue(now=datetime.now(UTC), names=(place.host, "localhost"), validity=LEAF_VALIDITY)
    listen = ("0.0.0.0", place.kms_port)  # noqa: S104 - other pods call it
    async with tls_front(certificate, listen, account.address, place.folder):
        telling = asyncio.create_task(tell(options.kubernetes, account, options.namespace))
        try:
            while not stopped.is_set():
                for child in account.children:
                    if not child.is_running():
                        raise ChildError(f"{child.name} has ended")
                if telling.done():
                    telling.result()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(stopped.wait(), _LOOK)
        finally:
            telling.cancel()


def main(arguments: list[str] | None = None) -> int:
    """Run until SIGTERM or SIGINT; exit status 0 then, 1 if a part ends or does not start, 2 for wrong arguments."""
    options = _parser().parse_args(arguments)
    # Until serving begins, so that what was started is ended all the same.
    signal.signal(signal.SIGTERM, _end)
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    with tempfile.TemporaryDirectory(prefix="byok-sandbox-") as folder:
        place = Place(Path(folder), options.host, options.kms_port, options.tsa_port)
        try:
            recalled = asyncio.run(recall(options.kubernetes, options.namespace))
            kept = recalled or Kept.create(now=datetime.now(UTC))
            with running_account(place, kept) as account:
                asyncio.run(serve(options, place, kept, account))
        except KeptError as error:
            sys.stderr.write(f"byok_sandbox.cluster: Secret {NAME}, {STATE}: {error}; delete it to begin anew\n")
            return 1
        except (ChildError, ControlError, OSError, SourceError) as error:
            sys.stderr.write(f"byok_sandbox.cluster: {error}\n")
            return 1
    return 0


def _end(number: int, _frame: FrameType | None) -> NoReturn:
    # The status that a shell reports of a process that a signal ended.
    sys.exit(128 + number)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m byok_sandbox.cluster",
        description="An emulated AWS KMS with certified keys and a time-stamp authority, for a signer in a cluster. "
        f"Fills in the Secret and the ConfigMap {NAME}. Not for production: that Secret holds the keys.",
    )
    parser.add_argument("--namespace", required=True, help="namespace of Secret and ConfigMap")
    parser.add_argument("--host", required=True, help="name under which others reach this")
    parser.add_argument("--kubernetes", default=IN_CLUSTER, help="in-cluster (default), or a kubeconfig file")
    parser.add_argument("--kms-port", type=_port, default=KMS_PORT, help="of the KMS, TLS (default: %(default)s)")
    parser.add_argument("--tsa-port", type=_port, default=TSA_PORT, help="of time stamps (default: %(default)s)")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) <= _HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


if __name__ == "__main__":
    sys.exit(main())
