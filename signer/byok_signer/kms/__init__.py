"""Keys that a key management service holds: the port, its errors, and the adapter for AWS KMS."""
