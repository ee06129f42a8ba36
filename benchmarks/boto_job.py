"""What a user would do without a signer: boto3 in the job, with the job's own credentials for the key.

Each function here is run by a process of its own. Nothing is verified or recorded, as boto3 does neither.
"""

import hashlib
import math
import os
import threading
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from benchmarks.bench import KmsTarget
from benchmarks.measuring import Reading, Run
from tests.support.manifests import KEY_ARN

if TYPE_CHECKING:
    from mypy_boto3_kms import KMSClient

REGION = KEY_ARN.split(":")[3]
Retries = Literal["legacy", "standard", "adaptive"]
_THREADS = 200
_LAST_ANSWERS = 5.0
"""Seconds."""


@dataclass(frozen=True)
class Offer:
    """What a job asks of KMS."""

    rate: float
    """Signatures a second."""
    retries: Retries


def client(kms: KmsTarget, *, connections: int, retries: Retries = "legacy") -> "KMSClient":
    """Make a client as a job does; `legacy` is boto3's default."""
    return boto3.client(
        "kms",
        region_name=REGION,
        endpoint_url=kms.url,
        verify=kms.ca_file,
        aws_access_key_id="AKIABENCHMARK",
        aws_secret_access_key="s" * 40,
        config=Config(max_pool_connections=connections, retries={"mode": retries}),
    )


def sign(made: "KMSClient") -> None:
    """Sign a digest that was never seen before."""
    digest = hashlib.sha256(os.urandom(32)).digest()
    made.sign(KeyId=KEY_ARN, Message=digest, MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256")


def calls_at_rate(kms: KmsTarget, offer: Offer, *, warm_up: float, seconds: float) -> Run:
    """Make calls at a rate, whatever becomes of them, each in a thread; their durations count from when they were due.

    Those not answered a while after the end are failures. What is answered between the readings is what was done.
    """
    made, lock = client(kms, connections=_THREADS, retries=offer.retries), threading.Lock()
    latencies, failures, answered, pids = (
        list[float](),
        Counter[str](),
        list[float](),
        {**kms.pids, "load": os.getpid()},
    )

    def call(due: float, counts: bool) -> None:  # noqa: FBT001 - handed on by the executor
        error = None
        try:
            sign(made)
        except (ClientError, BotoCoreError) as found:
            error = found.response["Error"]["Code"] if isinstance(found, ClientError) else type(found).__name__
        now = time.perf_counter()
        with lock:
            if error is None:
                answered.append(now)
            if counts and error is None:
                latencies.append(now - due)
            elif counts and error is not None:
                failures[error] += 1

    threads, began = ThreadPoolExecutor(_THREADS), time.perf_counter()
    first = math.ceil(warm_up * offer.rate)
    last = first + round(seconds * offer.rate)
    before, calls = Reading.of(pids), list[Future[None]]()
    for number in range(last):
        due = began + number / offer.rate
        time.sleep(max(0.0, due - time.perf_counter()))
        if number == first:
            before = Reading.of(pids)
        calls.append(threads.submit(call, due, number >= first))
    time.sleep(max(0.0, began + last / offer.rate - time.perf_counter()))
    after = Reading.of(pids)
    wait(calls, timeout=_LAST_ANSWERS)
    threads.shutdown(wait=False, cancel_futures=True)
    with lock:
        if left := last - first - len(latencies) - sum(failures.values()):
            failures["not answered"] = left
        done = sum(before.at <= at <= after.at for at in answered)
        return replace(Run.between(before, after, list(latencies), dict(failures)), done=done)


def calls_in_turn(kms: KmsTarget, *, at_once: int, warm_up: float, seconds: float) -> Run:
    """Have `at_once` threads each make one call after the other, with one client, as boto3 recommends."""
    made, ended, latencies, failures = (
        client(kms, connections=at_once),
        threading.Event(),
        list[float](),
        Counter[str](),
    )

    def again_and_again() -> None:
        while not ended.is_set():
            began = time.perf_counter()
            try:
                sign(made)
                latencies.append(time.perf_counter() - began)
            except (ClientError, BotoCoreError) as error:
                failures[type(error).__name__] += 1

    pids = {**kms.pids, "load": os.getpid()}
    with ThreadPoolExecutor(at_once) as threads:
        try:
            for _ in range(at_once):
                threads.submit(again_and_again)
            time.sleep(warm_up)
            latencies.clear()
            failures.clear()
            before = Reading.of(pids)
            time.sleep(seconds)
            return Run.between(before, Reading.of(pids), list(latencies), dict(failures))
        finally:
            ended.set()
