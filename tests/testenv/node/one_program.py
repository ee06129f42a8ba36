"""Images of one static program, or of a few files of this machine, as `docker save` would write them."""

import hashlib
import io
import json
import os
import platform
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

PAUSE = "localhost/pause:1"
"""Name of the image whose container holds the namespaces of a pod."""
VISITOR = "localhost/visitor:1"
"""Name of the image of what tests send into the cluster."""
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}


def write(name: str, program: Path, archive: Path) -> None:
    """Write an image that runs a static program."""
    write_files(name, {f"/{program.name}": program}, [f"/{program.name}"], archive)


def write_files(name: str, files: Mapping[str, Path], entrypoint: Sequence[str], archive: Path) -> None:
    """Write a docker-archive (Docker Image Specification v1.2, "Combined Image JSON"); it runs as 65532:65532.

    `files` are those of this machine by their paths in the image; each is readable, and executable if it is here.
    """
    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as content:
        for path, file in files.items():
            mode = 0o755 if os.access(file, os.X_OK) else 0o644
            _add(content, path.removeprefix("/"), file.read_bytes(), mode=mode)
    config = {
        "architecture": _MACHINES.get(platform.machine(), platform.machine()),
        "os": "linux",
        "config": {"Entrypoint": list(entrypoint), "User": "65532:65532"},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer.getvalue()).hexdigest()}"]},
    }
    manifest = [{"Config": "config.json", "RepoTags": [name], "Layers": ["layer.tar"]}]
    with tarfile.open(archive, mode="w") as image:
        _add(image, "layer.tar", layer.getvalue())
        _add(image, "config.json", json.dumps(config).encode())
        _add(image, "manifest.json", json.dumps(manifest).encode())


def _add(files: tarfile.TarFile, name: str, content: bytes, *, mode: int = 0o644) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(content), mode
    files.addfile(entry, io.BytesIO(content))
