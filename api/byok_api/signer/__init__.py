"""The gRPC API of the signer, by version."""
