"""kopf as the operator has it, with nothing behind it: says "all seen" once it has heard of so many objects."""

import sys
import threading

from byok_operator.handlers import KopfThread
from byok_operator.store import Kind
from byok_service.kubernetes import JsonObject


def main(kubeconfig: str, objects: int) -> None:
    """Watch until ended."""
    seen: set[str] = set()

    def hear(kind: Kind, event: str | None, document: JsonObject) -> None:
        del event
        if kind != "Namespace":
            seen.add(document["metadata"]["uid"])
        if len(seen) >= objects:
            sys.stdout.write("all seen\n")
            sys.stdout.flush()

    KopfThread(kubeconfig, hear).start()
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
