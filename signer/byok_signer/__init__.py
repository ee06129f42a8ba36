"""The gRPC service that signs C2PA claims: the only part that talks to AWS or holds AWS credentials."""
