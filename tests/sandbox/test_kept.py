"""What a sandbox in a cluster keeps is read as it was written, or not at all; and it is told to nobody."""

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from byok_api.algorithms import SigningAlgorithm
from byok_sandbox.kept import LIMIT, Kept, KeptError

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture(scope="module")
def kept() -> Kept:
    return Kept.create(now=NOW)


def test_what_is_kept_is_read_as_it_was_written(kept: Kept) -> None:
    text = kept.dump()
    read = Kept.load(text)
    assert read.dump() == text
    assert {algorithm: key.certified for algorithm, key in read.keys.items()} == {
        algorithm: key.certified for algorithm, key in kept.keys.items()
    }
    assert set(read.keys) == set(SigningAlgorithm)
    assert len(text) < LIMIT / 4


def test_each_chain_is_its_keys(kept: Kept) -> None:
    for key in kept.keys.values():
        assert key.certified.chain.spki_sha256 == hashlib.sha256(key.material.spki).hexdigest()


CHANGES: list[tuple[dict[str, Any], str]] = [
    ({"keys": {"ES256": {"arn": "none", "key": "hush", "chain": "hush"}}}, "cannot be read"),
    ({"tls": {"certificate": "hush", "key": "hush"}}, "cannot be read"),
    ({"secretAccessKey": ["hush"]}, "secretAccessKey: Input should be a valid string"),
    ({"more": "hush"}, "more: Extra inputs are not permitted"),
]


@pytest.mark.parametrize(("change", "said"), CHANGES)
def test_what_cannot_be_read_is_named_and_not_quoted(kept: Kept, change: dict[str, Any], said: str) -> None:
    with pytest.raises(KeptError, match=said) as caught:
        Kept.load(json.dumps(json.loads(kept.dump()) | change))
    assert "hush" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "{", "x" * (LIMIT + 1)])
def test_what_is_none_of_ours_is_refused(text: str) -> None:
    with pytest.raises(KeptError):
        Kept.load(text)


def test_it_lasts_as_long_as_its_certificates_do_less_two_weeks(kept: Kept) -> None:
    assert kept.lasts(NOW + timedelta(days=76))
    assert not kept.lasts(NOW + timedelta(days=76, seconds=1))


def test_nothing_secret_is_in_its_form_for_logs(kept: Kept) -> None:
    assert kept.secret_access_key not in repr(kept)
    assert "PRIVATE" not in repr(kept)
