"""What Ctrl-C does to a command: it ends one whose modules still load, and interrupts one whose work has begun."""

import signal


def leave_to_ctrl_c() -> None:
    """Let Ctrl-C end this process on the spot, as nothing has begun; where a shell has it ignored, it stays ignored.

    A KeyboardInterrupt would be lost in a module that is loading, or come out as an error of another kind: pydantic's
    core and other compiled modules call Python and go on without what it raised.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)


def interrupt_on_ctrl_c() -> None:
    """Have Ctrl-C raise KeyboardInterrupt from now on: there is something to clean up."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
