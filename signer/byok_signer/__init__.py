"""The gRPC service that signs C2PA claims: the only part that talks to AWS or holds AWS credentials."""

import os

# gRPC reads this when it is imported, so it cannot wait for main(). Its own log is no JSON, and what it tells there,
# such as each stranger's failed handshake, is not worth a line. Who looks for a fault in gRPC itself sets the variable.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
