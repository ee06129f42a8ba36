"""`byokctl sandbox`: the whole system on this machine, to play with or to watch the demo."""

import shlex
import signal
import sys
import tempfile
import time
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer

from byok_api.errors import Refusal
from byok_client.cli.commands.help import examples, group
from byok_client.cli.exits import Exit
from byok_client.cli.output import Format, FormatOption, print_error, print_json
from byok_client.cli.refusals import exit_of, explain
from byok_sandbox import shipped
from byok_sandbox.demo import DemoError, play
from byok_sandbox.filling import FIRST
from byok_sandbox.processes import ChildError
from byok_sandbox.system import Sandbox, running_sandbox

_RENEWAL = 600.0
"""Seconds; tokens last an hour."""
_LOOK = 1.0

sandbox = group(add_completion=False)


@sandbox.command(
    epilog=examples(
        "byokctl sandbox --folder .demo",
        "byokctl sandbox --demo",
        "byokctl sandbox -o json > sandbox.json &",
    )
)
def run(
    *,
    demo: Annotated[bool, typer.Option("--demo", help="Play the main job through, then end.")] = False,
    folder: Annotated[
        Path | None, typer.Option(help="New or empty folder for everything; a temporary one if not given.")
    ] = None,
    output_format: FormatOption = Format.TEXT,
) -> None:
    """Run an emulated KMS and the real signer on this machine, without a cluster and without AWS.

    Prints what to paste into a shell so that byokctl, the SDK and boto3 find them. Ctrl-C ends every process.
    """
    chosen = folder.absolute() if folder else Path(tempfile.mkdtemp(prefix="byok-sandbox-"))
    if folder and chosen.exists() and (not chosen.is_dir() or any(chosen.iterdir())):
        raise typer.BadParameter(
            f"{chosen} is not an empty folder; name another, or leave it out", param_hint="--folder"
        )
    started = time.monotonic()
    as_json = output_format is Format.JSON

    def say(text: str) -> None:
        typer.echo(f"{time.monotonic() - started:6.1f}s {text}", err=as_json)

    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with running_sandbox(chosen, say) as system:
            if demo:
                play(system, say)
            if as_json:
                print_json(_document(system))
            elif not demo:
                _tell(system)
            sys.stdout.flush()
            if not demo:
                _keep_up(system)
    except KeyboardInterrupt:
        typer.echo("stopped; every process that was started has ended", err=as_json)
        raise typer.Exit(Exit.INTERRUPTED if demo else Exit.OK) from None
    except Refusal as refusal:
        print_error(explain(refusal), output_format)
        raise typer.Exit(exit_of(refusal)) from None
    except (ChildError, DemoError, OSError) as error:
        print_error({"reason": "SandboxFailed", "message": str(error)}, output_format)
        raise typer.Exit(Exit.FAILED) from None


def _document(system: Sandbox) -> dict[str, Any]:
    return {
        "exports": dict(system.exports),
        "folder": str(system.folder),
        "manifests": str(system.folder / "manifests"),
        "trustAnchors": str(system.trust_anchors),
        "ownerToken": str(system.owner_token),
        "audit": str(system.audit),
        "keys": {str(system.filled.keys[algorithm]): str(key.arn) for algorithm, key in system.keys.items()},
        "processes": {child.name: child.pid for child in system.children},
    }


def _tell(system: Sandbox) -> None:
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


def _keep_up(system: Sandbox) -> NoReturn:
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
