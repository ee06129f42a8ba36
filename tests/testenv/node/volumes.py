"""Persistent volumes: folders of the node, made for the claims of one StorageClass as they are scheduled.

What an external provisioner does (Kubernetes, "Persistent Volumes", "Provisioning"): the scheduler writes the node's
name into an annotation of the claim, a volume with a reference to the claim is made, and the controller manager binds
the two. Volumes are of the kind `local`, as those of `hostPath` are not given to the group of a pod.
"""

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from typing import Any

from tests.testenv.api import AdminApi, ApiRefusedError
from tests.testenv.node.configuration import NODE_NAME

STORAGE_CLASS = "byok-local"
PROVISIONER = "byok.dev/local-folders"
_LOOK = 0.3
_PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
_SELECTED_NODE = "volume.kubernetes.io/selected-node"
_CONFLICT = 409
_NOT_FOUND = 404


@contextmanager
def provisioning(api: AdminApi, folder: Path) -> Iterator[None]:
    """Make volumes below `folder`, and remove those whose claims are gone, in a thread of its own."""
    folder.mkdir()
    ended = threading.Event()
    thread = threading.Thread(target=_keep, args=(api, folder, ended), name="volumes")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def volume_for(claim: dict[str, Any], folder: Path) -> dict[str, Any] | None:
    """Make the volume that a claim waits for; None if it waits for none, or not yet for one of ours."""
    metadata, spec = claim["metadata"], claim["spec"]
    if spec.get("storageClassName") != STORAGE_CLASS or spec.get("volumeName") or "deletionTimestamp" in metadata:
        return None
    if metadata.get("annotations", {}).get(_SELECTED_NODE) != NODE_NAME:
        return None
    name = f"pvc-{metadata['uid']}"
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": [NODE_NAME]}
    reference = {key: metadata[key] for key in ("name", "namespace", "uid")}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": name, "annotations": {_PROVISIONED_BY: PROVISIONER}},
        "spec": {
            "accessModes": spec["accessModes"],
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", **reference},
            "local": {"path": str(folder / name)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": STORAGE_CLASS,
        },
    }


def left_by(volume: dict[str, Any], folder: Path) -> Path | None:
    """Give the folder of a volume that was made here and whose claim is gone; None for every other volume.

    Whoever may make volumes can name any path of this machine in one: only what is of ours and right below `folder`
    is ever removed.
    """
    ours = volume["metadata"].get("annotations", {}).get(_PROVISIONED_BY) == PROVISIONER
    if not ours or volume.get("status", {}).get("phase") not in ("Released", "Failed"):
        return None
    path = folder / str(volume["metadata"]["name"])
    return path if volume["spec"].get("local", {}).get("path") == str(path) else None


def _keep(api: AdminApi, folder: Path, ended: threading.Event) -> None:
    while not ended.wait(_LOOK):
        try:
            _look(api, folder)
        except (OSError, HTTPException, ApiRefusedError):
            # The API server is away: a test may have stopped it.
            continue


def _look(api: AdminApi, folder: Path) -> None:
    for claim in _items(api, "persistentvolumeclaims"):
        volume = volume_for(claim, folder)
        if volume is not None:
            # Root's alone, until the kubelet gives it to the group of a pod.
            Path(volume["spec"]["local"]["path"]).mkdir(mode=0o700, exist_ok=True)
            _unless(_CONFLICT, api, "POST", "/api/v1/persistentvolumes", volume)
    for volume in _items(api, "persistentvolumes"):
        path = left_by(volume, folder)
        if path is not None:
            _unless(_NOT_FOUND, api, "DELETE", f"/api/v1/persistentvolumes/{volume['metadata']['name']}")
            shutil.rmtree(path, ignore_errors=True)


def _items(api: AdminApi, kind: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(api.request("GET", f"/api/v1/{kind}"))["items"]
    return items


def _unless(status: int, api: AdminApi, method: str, path: str, body: dict[str, Any] | None = None) -> None:
    try:
        api.request(method, path, body)
    except ApiRefusedError as error:
        if error.status != status:
            raise
