"""What the fuzzer begins with and what it has found, without the fuzzer; and the command that runs it."""

import importlib.util

import pytest

from fuzz import claims, manifests, tokens
from fuzz.__main__ import TARGETS, main
from fuzz.target import Fault, Target, bounded

ALL = {target.name: target for target in (claims.TARGET, tokens.TARGET, manifests.TARGET)}


@pytest.mark.parametrize("target", ALL.values(), ids=ALL)
def test_what_was_found_is_mended(target: Target) -> None:
    for path in target.finds:
        target.try_input(path.read_bytes())


@pytest.mark.parametrize("target", ALL.values(), ids=ALL)
def test_what_the_fuzzer_begins_with_shows_no_fault(target: Target) -> None:
    for seed in target.seeds():
        target.try_input(seed)


def test_every_target_can_be_named() -> None:
    assert set(TARGETS) == set(ALL)


def test_work_that_is_always_slow_is_a_fault() -> None:
    with pytest.raises(Fault, match="10 times that is allowed"):
        bounded(lambda: sum(range(100_000)), typical=1e-6, times=10)


def test_a_machine_without_the_fuzzer_is_told_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    assert main([]) == 2
    assert "needs atheris" in capsys.readouterr().err


@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this machine")
def test_the_fuzzer_runs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tokens", "--seconds", "1"]) == 0
    assert "nothing found" in capsys.readouterr().out
