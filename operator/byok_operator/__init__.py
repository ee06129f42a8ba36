"""The operator: proves continuously that keys can be used and recipes resolve, and says so in `status`."""

import os

# As in byok_signer: gRPC reads this when it is imported, and its own log is no JSON.
os.environ.setdefault("GRPC_VERBOSITY", "NONE")
