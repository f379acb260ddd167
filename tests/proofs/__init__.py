"""The proofs that no sample is lost or doubled: real processes, real brokers, a real database, and trouble.

    PROOF_SAMPLES=100000        samples of each production, a million by default
    PROOF_SEED=7                another order of troubles
    PROOF_PAUSE_S=60            how long the database stands still, 30 by default
    PROOFS=full                 as long as is promised: 300

`proxy` is the network, `databases` the database and what is compared with it, `production` what is produced, `harness` the schedule of troubles and the processes that
they happen to; `*_producer` and `opcua_server` are those processes. With HISTORIAN_TEST_DSN the database is not restarted or paused.
"""
