"""Package byok.signer.v1: `signer.proto` and the stubs generated from it (`make generate`)."""
