"""A Secret as the kubelet mounts it: all its files change at once, by the swap of one symbolic link."""

import itertools
import shutil
from collections.abc import Mapping
from pathlib import Path

from byok_sandbox.ca import ServerCertificate

_NUMBERS = itertools.count(1)


class MountedSecret:
    """A volume; each file -> ..data -> a folder of its own (pkg/volume/util/atomic_writer.go in Kubernetes)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir()
        self.publish({})

    @property
    def cert(self) -> Path:
        """Where the certificate is mounted."""
        return self._folder / "tls.crt"

    @property
    def key(self) -> Path:
        """Where the private key is mounted."""
        return self._folder / "tls.key"

    def publish_pair(self, pair: ServerCertificate) -> None:
        """Have it hold a certificate and its key."""
        self.publish({"tls.crt": pair.certificate_pem, "tls.key": pair.key_pem})

    def publish(self, files: Mapping[str, str]) -> None:
        """Have it hold these files, and only these."""
        data, before = self._folder / "..data", (self._folder / "..data").resolve()
        new = self._folder / f"..{next(_NUMBERS)}"
        new.mkdir()
        for name, content in files.items():
            (new / name).write_text(content)
        link = self._folder / "..data_tmp"
        link.symlink_to(new.name)
        link.replace(data)
        for name in files:
            if not (self._folder / name).is_symlink():
                (self._folder / name).symlink_to(f"..data/{name}")
        if before != data:
            shutil.rmtree(before)
