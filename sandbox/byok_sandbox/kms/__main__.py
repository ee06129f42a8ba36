"""`python -m byok_sandbox.kms`: the emulated KMS as a process of its own."""

import argparse
import asyncio
import json
import re
import signal
import sys
from pathlib import Path

from byok_sandbox.kms.control import credentials_of
from byok_sandbox.kms.emulator import DEFAULT_ACCOUNT, KmsEmulator

_HIGHEST_PORT = 65_535


def main(arguments: list[str] | None = None) -> int:
    """Serve until SIGTERM or SIGINT; exit status 0 then, 2 for what is wrong with the arguments or the address."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        asyncio.run(_serve(options))
    except OSError as error:
        parser.exit(2, f"byok_sandbox.kms: {error}\n")
    return 0


async def _serve(options: argparse.Namespace) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    emulator = KmsEmulator(
        account=options.account, host=options.host, port=options.port, events_file=options.events_file
    )
    async with emulator:
        # One line, for whoever started this process: the only place where the secrets are told.
        document = {
            "address": emulator.address,
            "controlToken": emulator.control_token,
            "administrator": credentials_of(emulator.administrator),
        }
        sys.stdout.write(json.dumps(document) + "\n")
        sys.stdout.flush()
        await stopped.wait()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m byok_sandbox.kms",
        description="An emulated AWS KMS and STS. Prints one line of JSON when it listens: its address, the control "
        "token and an administrator's credentials. Keys live in memory and are gone when it ends.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=0, help="port to listen on; 0 takes a free one (default)")
    parser.add_argument("--account", type=_account, default=DEFAULT_ACCOUNT, help="account of the administrator")
    parser.add_argument("--events-file", type=Path, help="file to append the event log to, one JSON object to a line")
    return parser


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > _HIGHEST_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is no port")
    return int(text)


def _account(text: str) -> str:
    if not re.fullmatch(r"[0-9]{12}", text):
        raise argparse.ArgumentTypeError(f"{text!r} is no account: twelve digits are wanted")
    return text


if __name__ == "__main__":
    sys.exit(main())
