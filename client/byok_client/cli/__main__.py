"""`byokctl`, as a console script and as `python -m byok_client.cli`."""

import io
import os
import sys

from byok_client.cli.app import run


def main() -> None:
    """Run the command line of this process and end it with the command's status."""
    # gRPC's own log repeats, in its words, what a refusal says.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file name may hold what the terminal's encoding cannot say.
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
