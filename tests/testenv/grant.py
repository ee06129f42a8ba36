"""`python -m tests.testenv.grant remove|give ARN`: what a key's owner does in AWS, on the emulated KMS.

It stands in for `aws kms put-key-policy` with what `byokctl key policy` prints, where no AWS command line is installed.
"""

import os
from enum import StrEnum
from typing import Annotated

import typer

from byok_api.algorithms import SigningAlgorithm
from byok_api.references import KeyArn
from byok_sandbox.owner import AwsAccess, KeyOwner
from byok_sandbox.parts import SIGNER_ROLE


class Change(StrEnum):
    """What to do with the signer's statements in the key policy."""

    REMOVE = "remove"
    GIVE = "give"


def main(change: Change, arn: Annotated[str, typer.Argument(help="ARN of the key.")]) -> None:
    """Take the signer's statements out of a key's policy, or put them in."""
    names = ("AWS_ENDPOINT_URL", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION")
    missing = [name for name in names if not os.environ.get(name)]
    if missing:
        raise typer.BadParameter(f"{', '.join(missing)}: not set; paste what make cluster printed")
    owner = KeyOwner(AwsAccess(*(os.environ[name] for name in names)), SIGNER_ROLE)
    try:
        key = KeyArn(arn)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    if change is Change.REMOVE:
        owner.revoke(key)
        typer.echo(f"the signer may no longer use {key}")
        return
    spec = owner.kms.get_public_key(KeyId=arn)["SigningAlgorithms"]
    owner.grant(key, next(algorithm for algorithm in SigningAlgorithm if algorithm.facts.kms in spec))
    typer.echo(f"the signer may use {key} again")


if __name__ == "__main__":
    typer.run(main)
