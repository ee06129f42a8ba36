"""The contracts between the parts: kinds, gRPC, assertions, audit records, error reasons. Imports no other part."""
