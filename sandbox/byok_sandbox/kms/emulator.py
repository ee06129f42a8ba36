"""The emulated KMS as one object: started on an address, stopped, and steered from the same process."""

import secrets
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from aiohttp import web

from byok_sandbox.kms.control import Control
from byok_sandbox.kms.events import EventLog
from byok_sandbox.kms.front import BODY_LIMIT, Front, State
from byok_sandbox.kms.identities import AccessKey, Directory, Identity
from byok_sandbox.kms.injection import Faults

DEFAULT_ACCOUNT = "111122223333"
"""The account number of AWS's own examples."""

_ADMINISTRATOR_ACTIONS = ("kms:*", "sts:*")


class KmsEmulator:
    """An emulated KMS and STS for every account and Region, on one address, with everything in memory.

    `async with KmsEmulator() as emulator:` serves on a free port of the loopback until the block ends. Roles are made
    known with `emulator.directory.put(Identity(...))`, their credentials with `emulator.directory.issue(arn)`, faults
    ordered with `emulator.faults.add(FaultRule(...))`.
    """

    def __init__(
        self,
        *,
        account: str = DEFAULT_ACCOUNT,
        host: str = "127.0.0.1",
        port: int = 0,
        events_file: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.directory = Directory()
        self.events = EventLog(events_file)
        self.faults = Faults()
        self.control_token = secrets.token_urlsafe(32)
        administrator = Identity(f"arn:aws:iam::{account}:user/administrator", _ADMINISTRATOR_ACTIONS)
        self.directory.put(administrator)
        self.administrator: AccessKey = self.directory.issue(administrator.arn)
        """Credentials of a user that may do everything which a key policy leaves to identity policies."""
        self.address = ""
        """`http://host:port`, once started."""
        state = State(self.directory, self.events, self.faults, clock)
        self._front = Front(state)
        self._control = Control(self.control_token, state, self._front.adopt)
        self._listen = (host, port)
        self._runner: web.AppRunner | None = None

    @property
    def connections(self) -> int:
        """How many connections are open."""
        server = self._runner.server if self._runner else None
        return len(server.connections) if server else 0

    async def start(self) -> None:
        """Listen; calls of KMS wait until moto is loaded, a second or two more. OSError if the address is taken."""
        application = web.Application(client_max_size=BODY_LIMIT)
        self._control.add_to(application.router)
        application.router.add_route("*", "/{path:.*}", self._front.handle)
        await self._front.start()
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=2.0)
        await self._runner.setup()
        host, port = self._listen
        await web.TCPSite(self._runner, host, port).start()
        bound = self._runner.addresses[0]
        self.address = f"http://{bound[0]}:{bound[1]}"

    async def stop(self) -> None:
        """Stop listening, finish the calls under way and forget everything."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None
        await self._front.stop()
        self.events.close()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.stop()
