"""What the kubelet would do for a running system: restarts the operator when it has ended, renews tokens in files."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPException

from tests.testenv.api import ApiRefusedError
from tests.testenv.control_plane import ControlPlane
from tests.testenv.go_toolchain import Say
from tests.testenv.service import Service

_LOOK = 0.1
_RESTART_PAUSE = 1.0
_RENEWAL = 600.0
"""Seconds; tokens last an hour."""
_RENEWAL_RETRY = 10.0


@contextmanager
def kept(plane: ControlPlane, operator: Service, say: Say) -> Iterator[None]:
    """Keep a system going, in a thread of its own."""
    ended = threading.Event()
    thread = threading.Thread(target=_keep, args=(plane, operator, say, ended), name="keeper")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def _keep(plane: ControlPlane, operator: Service, say: Say, ended: threading.Event) -> None:
    renewal = time.monotonic() + _RENEWAL
    while not ended.wait(_LOOK):
        if operator.restart_if_ended():
            say(f"the operator had ended and was started again; its log is {operator.log}")
            ended.wait(_RESTART_PAUSE)
        if time.monotonic() > renewal:
            renewal = time.monotonic() + (_RENEWAL if _renewed(plane) else _RENEWAL_RETRY)


def _renewed(plane: ControlPlane) -> bool:
    try:
        plane.renew_tokens()
    except (OSError, HTTPException, ApiRefusedError):
        # The API server is away, or the account is: a test may have taken them away.
        return False
    return True
