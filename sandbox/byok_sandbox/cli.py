"""`byokctl sandbox`: the whole system on this machine, to play with or to watch the demo."""

import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Annotated, NoReturn

import typer

from byok_api.errors import Refusal
from byok_sandbox import shipped
from byok_sandbox.demo import DemoError, play
from byok_sandbox.filling import FIRST
from byok_sandbox.processes import ChildError
from byok_sandbox.system import Sandbox, running_sandbox

_RENEWAL = 600.0
"""Seconds; tokens last an hour."""
_LOOK = 1.0


def sandbox(
    *,
    demo: Annotated[bool, typer.Option("--demo", help="Play the main job through, then end.")] = False,
    folder: Annotated[
        Path | None, typer.Option(help="New or empty folder for everything; a temporary one if not given.")
    ] = None,
) -> None:
    """Run an emulated KMS and the real signer on this machine, without a cluster and without AWS.

    Prints what to paste into a shell so that byokctl, the SDK and boto3 find them. Ctrl-C ends every process.
    """
    chosen = folder.absolute() if folder else Path(tempfile.mkdtemp(prefix="byok-sandbox-"))
    if folder and chosen.exists() and (not chosen.is_dir() or any(chosen.iterdir())):
        _fail(f"{chosen} is not an empty folder; name another, or leave --folder out")
    started = time.monotonic()

    def say(text: str) -> None:
        typer.echo(f"{time.monotonic() - started:6.1f}s {text}")
        sys.stdout.flush()

    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with running_sandbox(chosen, say) as system:
            if demo:
                play(system, say)
            else:
                _keep_up(system)
    except KeyboardInterrupt:
        typer.echo("stopped; every process that was started has ended")
        raise typer.Exit(130 if demo else 0) from None
    except (ChildError, DemoError, Refusal, OSError) as error:
        _fail(str(error))


def _keep_up(system: Sandbox) -> NoReturn:
    photo = shipped.examples() / "media" / "landscape.jpg"
    typer.echo("\nPaste this into another shell:\n")
    for name, value in system.exports.items():
        typer.echo(f"export {name}={shlex.quote(value)}")
    typer.echo("\nThen try:\n")
    typer.echo(
        f"byokctl sign {photo} --recipe photo-v1 --metadata digital_source_type=digitalCreation --output signed.jpg"
    )
    typer.echo(f"byokctl verify signed.jpg --trust-anchors {system.trust_anchors}")
    typer.echo(f"BYOK_SIGNER_TOKEN_FILE={system.owner_token} byokctl key probe {system.filled.keys[FIRST]}")
    typer.echo(f"byokctl audit verify {system.audit}")
    typer.echo(f"\nManifests to edit are in {system.folder / 'manifests'}; Ctrl-C ends everything.")
    sys.stdout.flush()
    renewed = time.monotonic()
    while True:
        time.sleep(_LOOK)
        for child in system.children:
            if not child.is_running():
                raise ChildError(f"{child.name} has ended; its log is {child.log}")
        if time.monotonic() - renewed > _RENEWAL:
            system.renew_tokens()
            renewed = time.monotonic()


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _fail(message: str) -> NoReturn:
    typer.echo(f"byokctl sandbox: {message}", err=True)
    raise typer.Exit(1)
