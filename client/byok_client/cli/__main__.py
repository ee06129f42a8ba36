"""`byokctl`, as a console script and as `python -m byok_client.cli`."""

import io
import os
import signal
import sys

from byok_client.cli.interruption import leave_to_ctrl_c


def main() -> None:
    """Run the command line of this process and end it with the command's status."""
    # gRPC's own log repeats, in its words, what a refusal says.
    os.environ.setdefault("GRPC_VERBOSITY", "NONE")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A file name may hold what the terminal's encoding cannot say.
            stream.reconfigure(errors="backslashreplace")
    leave_to_ctrl_c()
    try:
        from byok_client.cli.app import run  # noqa: PLC0415 - so that Ctrl-C is heeded while it loads, too

        status = run(sys.argv[1:])
    except KeyboardInterrupt:
        sys.stderr.write("byokctl: interrupted\n")
        status = 128 + signal.SIGINT
    # All is done: Ctrl-C may still cut off printing, and no longer with a traceback.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(status)


if __name__ == "__main__":
    main()
