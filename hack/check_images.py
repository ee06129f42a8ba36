#!/usr/bin/env python3
"""Runs the images that hack/build-images wrote, as a cluster would: user 65532, read-only root, no capabilities.

`.venv/bin/python hack/check_images.py [FOLDER]`, as root, with runc; FOLDER is where the archives are. What is checked:
each image's settings, files, SBOM and CA certificates; --help; that SIGTERM ends each at once, while it loads and
later, as process 1; and a signature made and verified by four containers. Nothing outside a new folder is written, and
every process that was started is ended.
"""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from byok_sandbox.kms.client import ControlClient
from byok_sandbox.parts import signer_credentials

CHECKOUT = Path(__file__).parent.parent
USER = 65532
LIMIT = 60.0
"""Seconds that anything may take; the machine may be busy."""
FORBIDDEN = {
    "operator": {"boto3", "botocore", "c2pa-python", "moto", "typer"},
    "signer": {"boto3", "c2pa-python", "kopf", "moto", "typer"},
    "cli": {"boto3", "botocore", "cbor2", "kopf", "moto"},
    "sandbox": {"kopf"},
}
"""Distributions that would be another part's, by image; installers are in none."""
HELP = {"operator": "usage: byok-operator", "signer": "usage: byok-signer", "cli": "byokctl", "sandbox": "byokctl"}
RUNC = shutil.which("runc") or "runc"
TMP = "/tmp"  # noqa: S108 - in every container, one folder that all of them share
STORES_CA = "import ssl; print(ssl.create_default_context().cert_store_stats()['x509_ca'])"


class CheckError(Exception):
    """An image is not as it should be; str() says which and how."""


@dataclass(frozen=True)
class Image:
    """An unpacked image."""

    name: str
    root: Path
    config: Mapping[str, Any]

    @property
    def entrypoint(self) -> list[str]:
        """What the runtime starts, without arguments."""
        return list(self.config["Entrypoint"])


@dataclass
class Container:
    """A container that runs, or has ended, with its standard output and error in one file."""

    id: str
    process: subprocess.Popen[bytes]
    log: Path

    def kill(self) -> None:
        """Send SIGTERM to process 1."""
        runc("kill", self.id, "TERM")

    def started(self) -> bool:
        """Whether process 1 runs."""
        state = runc("state", self.id)
        return state.returncode == 0 and json.loads(state.stdout)["status"] == "running"

    def ended(self) -> int:
        """Wait for the end and return process 1's status."""
        try:
            return self.process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            raise CheckError(f"{self.id} did not end within {LIMIT:.0f} s; its log: {self.text()}") from None

    def text(self) -> str:
        """Return all that it wrote."""
        return self.log.read_text(errors="replace")

    def logged(self, message: str) -> dict[str, Any] | None:
        """Find the last record of its log with this message."""
        records = [json.loads(line) for line in self.text().splitlines() if line.startswith("{") and line.endswith("}")]
        return next((record for record in reversed(records) if record.get("message") == message), None)

    def until(self, met: Callable[[], object], what: str) -> None:
        """Wait for a condition; CheckError when the container ends first, or takes too long."""
        deadline = time.monotonic() + LIMIT
        while not met():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise CheckError(f"{self.id}: {what} was not seen; its log: {self.text()[-2000:]}")
            time.sleep(0.02)


@dataclass
class Runtime:
    """Runs containers of one check, and ends them."""

    folder: Path
    containers: list[Container] = field(default_factory=list)

    def run(
        self,
        image: Image,
        arguments: Sequence[str],
        *,
        environ: Mapping[str, str] | None = None,
        command: Sequence[str] | None = None,
    ) -> Container:
        """Start a container on the machine's own network; /tmp is one folder that all of them share."""
        name = f"byok-check-{image.name}-{secrets.token_hex(4)}"
        bundle = self.folder / name
        bundle.mkdir()
        variables = [*image.config["Env"], *(f"{key}={value}" for key, value in (environ or {}).items())]
        spec = self._spec(image, [*(command or image.entrypoint), *arguments], variables)
        (bundle / "config.json").write_text(json.dumps(spec))
        log = bundle / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - a fixed program, arguments as a list
                [RUNC, "run", "--bundle", str(bundle), name], stdin=subprocess.DEVNULL, stdout=output, stderr=output
            )
        self.containers.append(Container(name, process, log))
        return self.containers[-1]

    def output(
        self,
        image: Image,
        arguments: Sequence[str],
        *,
        environ: Mapping[str, str] | None = None,
        command: Sequence[str] | None = None,
    ) -> str:
        """Run a container to its end and return what it wrote; CheckError for any status but 0."""
        container = self.run(image, arguments, environ=environ, command=command)
        if (status := container.ended()) != 0:
            raise CheckError(f"{image.name} {' '.join(arguments)}: status {status}: {container.text()}")
        return container.text()

    def close(self) -> None:
        """End what still runs."""
        for container in self.containers:
            if container.process.poll() is None:
                runc("delete", "--force", container.id)
                container.process.wait()

    def _spec(self, image: Image, arguments: Sequence[str], variables: Sequence[str]) -> dict[str, Any]:
        return {
            "ociVersion": "1.0.2",
            "process": {
                "user": {"uid": USER, "gid": USER},
                "args": list(arguments),
                "env": list(variables),
                "cwd": image.config.get("WorkingDir") or "/",
                "capabilities": {},
                "noNewPrivileges": True,
            },
            "root": {"path": str(image.root), "readonly": True},
            "mounts": [
                {"destination": "/proc", "type": "proc", "source": "proc"},
                {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755"]},
                {"destination": TMP, "type": "bind", "source": str(self.folder / "tmp"), "options": ["bind"]},
            ],
            "linux": {"namespaces": [{"type": kind} for kind in ("pid", "mount", "ipc", "uts")]},
        }


def main(arguments: list[str]) -> int:
    """Check all images; exit status 1 for what is wrong with one."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    archives = Path(arguments[0]) if arguments else cache / "byok-operator" / "images"
    with tempfile.TemporaryDirectory(prefix="byok-check-") as folder:
        runtime = Runtime(Path(folder))
        (runtime.folder / "tmp").mkdir()
        os.chown(runtime.folder / "tmp", USER, USER)
        # The user of the containers must get to what is mounted.
        runtime.folder.chmod(0o755)
        try:
            images = {name: unpacked(name, archives, runtime.folder) for name in FORBIDDEN}
            for image in images.values():
                check_settings(image)
                check_files(image)
                check_start_and_end(image, runtime)
            check_signature(images, runtime)
        except CheckError as error:
            say(f"FAILED: {error}")
            return 1
        finally:
            runtime.close()
    say("all is well")
    return 0


def runc(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command of runc."""
    return subprocess.run([RUNC, *arguments], check=False, capture_output=True)  # noqa: S603 - arguments as a list


def say(text: str) -> None:
    """Tell the user of one step."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


def fail(image: Image, text: str) -> NoReturn:
    """Raise CheckError for an image."""
    raise CheckError(f"{image.name}: {text}")


def unpacked(name: str, archives: Path, folder: Path) -> Image:
    """Unpack an archive as a runtime does, layer over layer."""
    root = folder / "roots" / name
    root.mkdir(parents=True)
    with tarfile.open(archives / f"{name}.tar") as archive:
        (manifest,) = json.loads(_member(archive, "manifest.json"))
        config = json.loads(_member(archive, manifest["Config"]))["config"]
        sizes = []
        for layer in manifest["Layers"]:
            sizes.append(archive.getmember(layer).size)
            content = archive.extractfile(layer)
            with tarfile.open(fileobj=content) as files:
                # As root, with owners; no image of ours deletes what is in a layer below.
                files.extractall(root, filter="tar")
    layers = " + ".join(f"{size / 1e6:.0f}" for size in sizes)
    say(f"{name}: {sum(sizes) / 1e6:.0f} MB ({layers}), compressed {_compressed(archives / f'{name}.tar') / 1e6:.0f}")
    return Image(name, root, config)


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise CheckError(f"{name} is no file")
    return file.read()


def _compressed(archive: Path) -> int:
    packer, size = zlib.compressobj(1), 0
    with archive.open("rb") as file:
        while block := file.read(1 << 20):
            size += len(packer.compress(block))
    return size + len(packer.flush())


def check_settings(image: Image) -> None:
    """Compare what the image says of itself with what a cluster demands."""
    if image.config["User"] != f"{USER}:{USER}":
        fail(image, f"runs as {image.config['User']!r}")
    variables = dict(entry.split("=", 1) for entry in image.config["Env"])
    wanted = {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONSAFEPATH": "1", "GRPC_VERBOSITY": "NONE"}
    if not wanted.items() <= variables.items() or any(name.startswith("PIP_") for name in variables):
        fail(image, f"has the environment {variables}")
    labels = image.config["Labels"]
    if not re.fullmatch(r"[0-9a-f]{40}(-dirty)?|unknown", labels["org.opencontainers.image.revision"]):
        fail(image, f"has the labels {labels}")


def check_files(image: Image) -> None:
    """Look at what was installed: the part's distributions and no installer, root's, written by nobody, compiled."""
    (packages,) = (image.root / "opt/byok/lib").glob("python3.*/site-packages")
    installed = {_normal(path.name.partition("-")[0]) for path in packages.glob("*.dist-info")}
    if found := installed & (FORBIDDEN[image.name] | {"pip", "setuptools", "uv"}):
        fail(image, f"holds {', '.join(sorted(found))}")
    check_sbom(image, installed)
    for path in [image.root / "opt/byok", *(image.root / "opt/byok").rglob("*")]:
        status = path.lstat()
        if status.st_uid != 0 or (not path.is_symlink() and status.st_mode & 0o022):
            fail(image, f"{path.relative_to(image.root)} can be written by others than root")
    sources = set(packages.glob("byok_*/**/*.py"))
    compiled = {path.parent.parent / f"{path.name.partition('.')[0]}.py" for path in packages.glob("byok_*/**/*.pyc")}
    if sources != compiled:
        fail(image, f"not compiled: {sorted(map(str, sources ^ compiled))[:3]}")
    secrets_left = [*image.root.glob("run/secrets/*"), *image.root.glob("build"), *image.root.glob("root/.cache")]
    if secrets_left:
        fail(image, f"the build left {secrets_left}")
    say(f"{image.name}: {len(installed)} distributions, as in the SBOM; nothing of /opt/byok can be written")


def check_sbom(image: Image, installed: AbstractSet[str]) -> None:
    """Compare the SBOM with the distributions that are installed, and with the base's packages."""
    bom = json.loads((image.root / "opt/byok/sbom.cdx.json").read_text())
    named = [bom["metadata"]["component"], *bom["components"]]
    of_base = [each for each in named if each.get("purl", "").startswith("pkg:deb/")]
    packages = {each["name"] for each in of_base}
    beside = {"operating-system", "platform"}
    distributions = {_normal(each["name"]) for each in named if each["type"] not in beside and each not in of_base}
    if bom["bomFormat"] != "CycloneDX" or distributions != installed:
        fail(image, f"the SBOM and what is installed differ: {sorted(distributions ^ installed)}")
    status = (image.root / "var/lib/dpkg/status").read_text()
    there = {
        found[1]
        for paragraph in status.split("\n\n")
        if "\nStatus: install ok installed\n" in paragraph and (found := re.match("Package: (.*)", paragraph))
    }
    if packages != there:
        fail(image, f"the SBOM and the base's packages differ: {sorted(packages ^ there)}")
    say(f"{image.name}: the SBOM names {len(installed)} distributions and {len(packages)} packages of the base")


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def check_start_and_end(image: Image, runtime: Runtime) -> None:
    """Start the programs, and end them while they load."""
    helped = ["byok_client.cli", "--help"] if image.name == "sandbox" else ["--help"]
    began = time.monotonic()
    if HELP[image.name] not in runtime.output(image, helped):
        fail(image, "--help says something else")
    took = time.monotonic() - began
    if int(runtime.output(image, ["-c", STORES_CA], command=["/opt/byok/bin/python"])) == 0:
        fail(image, "trusts no CA: no call to AWS would succeed")
    container = runtime.run(image, helped)
    container.until(container.started, "a start")
    began = time.monotonic()
    # Until Python itself is up, some 50 ms, no process 1 of ours can heed it.
    while container.process.poll() is None and time.monotonic() < began + LIMIT:
        container.kill()
        time.sleep(0.02)
    if (status := container.ended()) != 128 + signal.SIGTERM:
        fail(image, f"SIGTERM while it loads: status {status}: {container.text()}")
    say(f"{image.name}: --help in {took:.1f} s; SIGTERM while it loads: {status} in {time.monotonic() - began:.1f} s")


def check_signature(images: Mapping[str, Image], runtime: Runtime) -> None:
    """Let the cli sign with the signer, whose key is in the sandbox's KMS, and verify; then end all by SIGTERM."""
    tmp = runtime.folder / "tmp"
    sandbox = runtime.run(
        images["sandbox"], [*images["sandbox"].config["Cmd"], f"--folder={TMP}/sandbox", "-o", "json"]
    )
    sandbox.until(lambda: '"trustAnchors"' in sandbox.text() and sandbox.text().rstrip().endswith("}"), "its document")
    text = sandbox.text()
    document = json.loads(text[text.index("\n{") if "\n{" in text else text.index("{") :])
    control = json.loads((tmp / "sandbox/logs/kms.out").read_text().splitlines()[0])
    credentials = signer_credentials(ControlClient(control["address"], control["controlToken"]))
    shutil.copytree(CHECKOUT / "charts/byok-operator/presets", tmp / "presets")
    signer = runtime.run(images["signer"], list(signer_flags(control["address"])), environ=credentials)
    signer.until(lambda: signer.logged("serving"), "serving")
    port = (signer.logged("serving") or {})["port"]
    shutil.copy(CHECKOUT / "examples/media/landscape.jpg", tmp / "photo.jpg")
    client = {name: value for name, value in document["exports"].items() if name.startswith("BYOK_")}
    metadata = ["--recipe=photo-v1", "--metadata=digital_source_type=digitalCreation", f"--output={TMP}/signed.jpg"]
    began = time.monotonic()
    runtime.output(
        images["cli"],
        ["sign", f"{TMP}/photo.jpg", *metadata],
        environ=client | {"BYOK_SIGNER_ADDRESS": f"127.0.0.1:{port}"},
    )
    took = time.monotonic() - began
    verdict = runtime.output(
        images["cli"], ["verify", f"{TMP}/signed.jpg", f"--trust-anchors={document['trustAnchors']}"]
    )
    if "Trusted" not in verdict:
        raise CheckError(f"the signed photo: {verdict}")
    say(f"cli signed with signer and sandbox in {took:.1f} s, and the photo is Trusted")
    if '"kind":"outcome"' not in signer.text():
        raise CheckError("the signer wrote no audit record to standard output")
    for container in (signer, sandbox):
        began = time.monotonic()
        container.kill()
        status = container.ended()
        if status != 0:
            raise CheckError(f"{container.id}: SIGTERM ended it with status {status}: {container.text()[-2000:]}")
        say(f"{container.id.rpartition('-')[0]}: SIGTERM ended it with status 0 in {time.monotonic() - began:.1f} s")


def signer_flags(kms: str) -> Iterator[str]:
    """List the flags of a second signer beside the sandbox's own, on the same files."""
    folder = f"{TMP}/sandbox"
    yield from (f"--manifests={folder}/manifests", "--installation=sandbox", "--audit=stdout", f"--aws-endpoint={kms}")
    yield from (f"--tls-cert-file={folder}/signer/tls.crt", f"--tls-key-file={folder}/signer/tls.key")
    yield from ("--token-issuer=https://issuer.byok-sandbox.internal", f"--token-jwks-file={folder}/signer/jwks.json")
    yield from ("--listen=127.0.0.1:0", "--http-listen=127.0.0.1:0", f"--presets={TMP}/presets")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
