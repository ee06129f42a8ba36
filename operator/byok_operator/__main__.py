"""`byok-operator`: reads its settings, puts the parts together, works until a signal comes or its lead is lost."""

import asyncio
import contextlib
import gc
import logging
import os
import signal
import sys

from byok_operator.consumers import Consumer, parse_consumers
from byok_operator.lease import Elector, LeadershipLostError, identity_of_process
from byok_operator.means import Means
from byok_operator.running import Operator
from byok_operator.settings import PROGRAM, Settings
from byok_operator.signer_channels import SignerDoor
from byok_operator.signers import Signers
from byok_service.http import serve_http
from byok_service.kubernetes import KubernetesApi, SourceError
from byok_service.logs import configure_logging
from byok_service.settings import SettingsError, parsed

# Not __name__, which is __main__ here and no logger of ours.
_LOG = logging.getLogger("byok_operator")


def main() -> None:
    """Run the operator; exit status 2 for settings that cannot be used, by name, and 1 once the lead is lost."""
    settings = PROGRAM.read_or_exit(sys.argv[1:], os.environ)
    configure_logging(settings.log_level)
    try:
        asyncio.run(serve(settings))
    except SettingsError as error:
        PROGRAM.exit_for(error)
    except LeadershipLostError as lost:
        # Whatever this process still believes, another may lead by now: the next one begins from what is written.
        _LOG.error("ended, to be started again", extra={"found": str(lost)})
        raise SystemExit(1) from None


async def serve(settings: Settings) -> None:
    """Work until a signal comes; SettingsError for what can only be found wrong by trying it, LeadershipLostError."""
    consumers = _consumers(settings)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    async with contextlib.AsyncExitStack() as stack:
        # The Lease has a connection of its own: where a pool died silently, trying one after another is too slow.
        api, lease_api = await _connect(settings), await _connect(settings)
        for connected in (api, lease_api):
            stack.push_async_callback(connected.close)
        elector = Elector(lease_api, settings.namespace, identity=identity_of_process())
        operator = Operator(settings, api, elector, consumers=consumers, means=Means.real())
        stack.push_async_callback(operator.close)
        http = await serve_http(settings.http_listen, operator.metrics.exposition, operator.unreadiness)
        stack.push_async_callback(http.close)
        _LOG.info("serving", extra={"http_port": http.port})
        signers = Signers(_door(settings), changed=operator.keys_changed)
        working = asyncio.create_task(operator.run(signers))
        others = [asyncio.create_task(stopping.wait()), asyncio.create_task(_spare_the_collector(operator))]
        await asyncio.wait((working, others[0]), return_when=asyncio.FIRST_COMPLETED)
        _LOG.info("stopping")
        for task in (working, *others):
            task.cancel()
        await asyncio.wait((working, *others))
        if not working.cancelled():
            working.result()


async def _connect(settings: Settings) -> KubernetesApi:
    try:
        return await KubernetesApi.connect(settings.kubernetes)
    except SourceError as error:
        raise SettingsError(f"--kubernetes: {error}") from None


def _consumers(settings: Settings) -> tuple[Consumer, ...]:
    return parsed("--consumers", settings.consumers, parse_consumers) if settings.consumers else ()


def _door(settings: Settings) -> SignerDoor:
    return SignerDoor(
        addresses=settings.signers,
        ca_file=settings.signer_ca_file,
        token_file=settings.signer_token_file,
        server_name=settings.signer_server_name,
    )


async def _spare_the_collector(operator: Operator) -> None:
    await operator.filled.wait()
    # What is there by now stays: the collector need not look at it again and again.
    gc.collect()
    gc.freeze()


if __name__ == "__main__":
    main()
