"""How a command ends: the one place of the exit codes."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit status of `byokctl`."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNAVAILABLE = 3
    INTERRUPTED = 130
    TERMINATED = 143


MEANINGS = {
    Exit.OK: "all that was asked was done, and what was checked is good",
    Exit.FAILED: "something was refused, failed, or did not pass its check",
    Exit.USAGE: "a wrong argument, option or setting; nothing was done",
    Exit.UNAVAILABLE: "only what may pass by itself went wrong, such as an unreachable signer; trying again may help",
    Exit.INTERRUPTED: "interrupted with Ctrl-C; nothing is half-written",
    Exit.TERMINATED: "ended with SIGTERM, as Kubernetes ends jobs; nothing is half-written",
}


def worst(exits: list[Exit]) -> Exit:
    """Sum up how several things ended: FAILED if one failed for good, UNAVAILABLE if others may yet succeed."""
    return next((code for code in (Exit.FAILED, Exit.UNAVAILABLE) if code in exits), Exit.OK)
