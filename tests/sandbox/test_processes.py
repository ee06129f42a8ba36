import os
from pathlib import Path

import pytest

from byok_sandbox.processes import Child, ChildError


@pytest.fixture(autouse=True)
def _importable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))


def child(folder: Path, code: str) -> Child:
    (folder / "child_for_test.py").write_text(code)
    return Child("child", folder, ["child_for_test"], {"MARK": "given"})


READY = "import json, time\nprint(json.dumps({'ready': True, 'port': 7}), flush=True)\ntime.sleep(60)\n"


def test_a_child_is_ready_with_the_line_that_it_was_waited_for(tmp_path: Path) -> None:
    started = child(tmp_path, READY)
    assert started.wait_for(started.output, {"ready": True})["port"] == 7
    assert started.is_running()
    started.stop()
    assert not started.is_running()


def test_a_child_that_ends_at_its_start_is_told_with_the_end_of_its_log(tmp_path: Path) -> None:
    started = child(tmp_path, "import sys\nsys.exit('the reason')\n")
    with pytest.raises(ChildError, match="ended with status 1: the reason"):
        started.wait_for(started.output, {})
    started.stop()


def test_the_users_own_aws_account_and_signer_do_not_leak_into_children(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("BYOK_SIGNER_ADDRESS", "production:443")
    code = (
        "import json, os\nprint(json.dumps({k: v for k, v in os.environ.items() if k[:3] in ('AWS', 'BYO', 'MAR')}))\n"
    )
    started = child(tmp_path, code)
    assert started.wait_for(started.output, {}) == {"MARK": "given"}
    started.stop()


def test_stopping_ends_the_process(tmp_path: Path) -> None:
    started = child(tmp_path, READY)
    started.wait_for(started.output, {})
    started.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(started.pid, 0)
