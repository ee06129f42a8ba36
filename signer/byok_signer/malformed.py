"""Messages that are no Protobuf of their method: refused like any other bad request.

grpc.aio alone would answer UNKNOWN, without a reason, and log a traceback for each.
"""

from byok_api.errors import Reason, Refusal


def malformed(method: str) -> Refusal:
    """Make the refusal of a message that cannot be parsed."""
    return Refusal(Reason.InvalidRequest, f"the message is no Protobuf message of {method}; use the published .proto")
