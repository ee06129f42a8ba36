"""One target under the fuzzer: `python -m fuzz.attack NAME SECONDS FOLDER`, started by `python -m fuzz`.

libFuzzer ends the process itself: with 0 after its time, with something else at the first find, which it then leaves
in the folder.
"""

import importlib
import sys
from pathlib import Path
from random import Random

import atheris

INSTRUMENTED = {
    "claims": ["byok_signer.guard"],
    "tokens": ["byok_signer.authentication", "byok_signer.jwks", "jwt"],
    "manifests": ["byok_api", "yaml"],
}
"""What the fuzzer is to find its way through, by target."""

_MEMORY_LIMIT_MB = 1024
_HANGS_AFTER_SECONDS = 20


def main(name: str, seconds: str, folder: str) -> None:
    """Fuzz until the time is over, or something is found."""
    with atheris.instrument_imports(include=INSTRUMENTED[name]):
        target = importlib.import_module(f"fuzz.{name}").TARGET

    def mutate(data: bytes, size_limit: int, seed: int) -> bytes:
        random = Random(seed)  # noqa: S311 - to be repeatable, not to be secret
        if random.random() < 0.5:  # noqa: PLR2004 - one in two
            mutated: bytes = target.mutate(data, random)
            if len(mutated) <= size_limit:
                return mutated
        return bytes(atheris.Mutate(data, size_limit))

    corpus = Path(folder) / "corpus"
    corpus.mkdir()
    for number, seed in enumerate(target.seeds()):
        (corpus / f"{number:04}").write_bytes(seed)
    flags = [
        f"-max_total_time={seconds}",
        f"-max_len={target.size_limit}",
        "-len_control=0",
        f"-timeout={_HANGS_AFTER_SECONDS}",
        f"-rss_limit_mb={_MEMORY_LIMIT_MB}",
        f"-artifact_prefix={folder}/find-",
        "-print_final_stats=1",
        "-verbosity=0",
    ]
    atheris.Setup(["fuzz", *flags, str(corpus)], target.try_input, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
