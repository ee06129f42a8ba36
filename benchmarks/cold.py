"""The first signature: of a job's process that has just been started, and of a signer that has."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from statistics import median

from benchmarks import load
from benchmarks.bench import Bench, Target, entry
from benchmarks.boto_job import REGION
from benchmarks.claims import Template
from benchmarks.plots import bars
from benchmarks.reporting import Plot, Section, Table, milliseconds
from benchmarks.stand_in import Conduct
from tests.support.claims import created_claim
from tests.support.manifests import KEY_ARN

LATENCY = 0.01
"""Seconds that KMS takes."""
_PATIENCE = 60.0
_END = "print(json.dumps((time.monotonic(), time.process_time())))"
_BARE = f"import json, time\n{_END}"
_BOTO = f"""
import hashlib, json, sys, time
import boto3
kms = boto3.client("kms", region_name="{REGION}", endpoint_url=sys.argv[2], verify=sys.argv[3])
digest = hashlib.sha256(open(sys.argv[1], "rb").read()).digest()
kms.sign(KeyId="{KEY_ARN}", Message=digest, MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256")
{_END}
"""
_STUB = f"""
import json, os, sys, time
import grpc
from byok_api.signer.v1 import signer_pb2, signer_pb2_grpc
trust, token = open(os.environ["BYOK_SIGNER_CA_FILE"], "rb").read(), open(os.environ["BYOK_SIGNER_TOKEN_FILE"]).read()
with grpc.secure_channel(os.environ["BYOK_SIGNER_ADDRESS"], grpc.ssl_channel_credentials(trust)) as channel:
    request = signer_pb2.SignClaimRequest(
        recipe="photo", expected_recipe_hash=sys.argv[4], claim=open(sys.argv[1], "rb").read()
    )
    metadata = (("authorization", "Bearer " + token),)
    signer_pb2_grpc.SignerStub(channel).SignClaim(request, metadata=metadata, timeout=30)
    {_END}
"""
_SDK = f"""
import json, sys, time
from byok_client import SignerClient
with SignerClient.from_environment() as client, client.signing_callback("photo") as callback:
    callback(open(sys.argv[1], "rb").read())
    callback.raise_error()
    {_END}
"""
WAYS: Mapping[str, str] = {
    "Python alone, nothing signed": _BARE,
    "boto3 in the job": _BOTO,
    "the signer, by the generated stub": _STUB,
    "the signer, by the SDK (loads c2pa, fetches the recipe)": _SDK,
}


@dataclass(frozen=True)
class Scale:
    """How often to start each."""

    jobs: int
    signers: int


QUICK = Scale(jobs=2, signers=1)
FULL = Scale(jobs=7, signers=3)


@dataclass(frozen=True)
class _First:
    seconds: float
    """From the process's start to the signature."""
    cpu: float


def measure(bench: Bench, scale: Scale) -> Section:
    """Start processes until the medians are worth something."""
    bench.kms.behave(Conduct(LATENCY))
    with bench.signer() as signer:
        target = bench.target(signer)
        bench.load.do(partial(load.calls_in_turn, target, at_once=1, warm_up=0.2, seconds=0.2))
        # One round is for the caches of the file system.
        firsts = [{way: _first(bench, target, program) for way, program in WAYS.items()} for _ in range(scale.jobs + 1)]
    jobs = {way: [round_[way] for round_ in firsts[1:]] for way in WAYS}
    signers = [_cold_signer(bench) for _ in range(scale.signers)]
    seconds = {way: median(first.seconds for first in found) for way, found in jobs.items()}
    values = {way: taken * 1e3 for way, taken in seconds.items()}
    return Section(
        "The first signature of a cold process",
        f"Medians of {scale.jobs} processes each, from the process's start to the first signature; KMS takes 10 ms, "
        "and the signer is warm. A cold signer's first call has it look at the key, open connections and ask STS "
        "for the account.",
        [
            Table(
                "A job",
                ("way", "ms", "CPU ms of the job", "ms beyond Python's own start"),
                [
                    [
                        way,
                        milliseconds(seconds[way]),
                        milliseconds(median(first.cpu for first in found)),
                        milliseconds(max(0.0, seconds[way] - seconds["Python alone, nothing signed"])),
                    ]
                    for way, found in jobs.items()
                ],
            ),
            _signers(signers),
        ],
        plots=[Plot("cold", "First signature of a cold job", partial(bars, label="ms", values=values))],
    )


def _signers(found: Sequence[tuple[float, float, float]]) -> Table:
    names = ("from start to serving", "its first signature", "its second signature")
    rows = [[name, milliseconds(median(column))] for name, column in zip(names, zip(*found, strict=True), strict=True)]
    return Table("A signer", ("what", "ms"), rows)


def _cold_signer(bench: Bench) -> tuple[float, float, float]:
    with bench.signer() as signer:
        first, second = bench.load.do(partial(load.first_calls, bench.target(signer), 2))
        return signer.seconds, first, second


def _first(bench: Bench, target: Target, program: str) -> _First:
    claim = bench.folder / "claim"
    claim.write_bytes(Template.of(created_claim().sig_structure).fresh())
    kms = bench.kms_target()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "BYOK_"))}
    environment |= bench.job_environment(target)
    environment |= {"AWS_ACCESS_KEY_ID": "AKIABENCHMARK", "AWS_SECRET_ACCESS_KEY": "s" * 40}
    arguments = [sys.executable, "-c", program, str(claim), kms.url, kms.ca_file, entry().recipe.hash]
    began = time.monotonic()
    ended = subprocess.run(  # noqa: S603 - our own program
        arguments, env=environment, capture_output=True, check=False, timeout=_PATIENCE
    )
    if ended.returncode:
        raise RuntimeError(f"a cold process failed:\n{ended.stderr.decode()}")
    at, cpu = json.loads(ended.stdout)
    return _First(at - began, cpu)
