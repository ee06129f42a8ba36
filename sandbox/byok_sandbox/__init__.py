"""The embedded default: the whole system on one machine, with an emulated KMS, without a cluster and without AWS."""
