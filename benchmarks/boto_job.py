"""What a user would do without a signer: boto3 in the job, with the job's own credentials for the key.

Each function here is run by a process of its own. Nothing is verified or recorded, as boto3 does neither.
"""

import hashlib
import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
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
