"""What `make cluster` and `python -m tests.testenv.grant` say when they cannot do what they are asked."""

import os
import subprocess
import sys
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]
ARN = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def run(module: str, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    command = [sys.executable, "-m", f"tests.testenv.{module}", *arguments]
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env={**env, "COLUMNS": "300", **environ}
    )


def test_a_folder_that_is_not_empty_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    ended = run("cluster", "--folder", str(tmp_path))
    assert ended.returncode == 2
    assert "is not an empty folder" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_a_cluster_without_programs_says_what_to_do(tmp_path: Path) -> None:
    ended = run("cluster", "--folder", str(tmp_path / "new"), KUBEBUILDER_ASSETS=str(tmp_path))
    assert ended.returncode == 1
    assert "make cluster: KUBEBUILDER_ASSETS" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_grant_without_the_exports_says_what_to_paste() -> None:
    ended = run("grant", "remove", ARN)
    assert ended.returncode == 2
    assert "AWS_ENDPOINT_URL" in ended.stderr
    assert "paste what make cluster printed" in " ".join(ended.stderr.split())


def test_a_grant_for_something_else_than_a_key_is_refused() -> None:
    access = {"AWS_ENDPOINT_URL": "http://127.0.0.1:1", "AWS_REGION": "eu-central-1"}
    ended = run("grant", "give", "my-key", **access, AWS_ACCESS_KEY_ID="AKIA", AWS_SECRET_ACCESS_KEY="none")
    assert ended.returncode == 2
    assert "'my-key' is not the ARN" in " ".join(ended.stderr.split())
    assert "Traceback" not in ended.stderr
