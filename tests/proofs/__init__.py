"""The proofs that no sample is lost or doubled: real processes, real brokers, a real database, and trouble. See tests/README.md."""
