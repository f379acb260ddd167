"""Commands to metrics of Sparkplug B: NCMD and DCMD messages, in the data type that the metric was born with."""

from __future__ import annotations

import time

from historian.ingest.sources.command_publisher import Encode, Undeliverable
from historian.ingest.sources.sparkplug_b_pb2 import Payload
from historian.ingest.sources.sparkplug_state import NAMESPACE, SparkplugState
from historian.ingest.sources.sparkplug_types import put_value
from historian.schema.commands import Claim


def encoder(state: SparkplugState) -> Encode:
    """Topic and payload of a command to a metric whose birth is known, of a node or device that is alive."""

    def encode(claim: Claim) -> tuple[str, bytes]:
        now_ms = time.time_ns() // 1_000_000
        found = state.metric_of(claim.tag, now_ms * 1000)
        if isinstance(found, str):
            raise Undeliverable(found)
        payload = Payload(timestamp=now_ms)
        # by its name: aliases are of a session, which may be another one by now
        metric = payload.metrics.add(name=found.name, timestamp=now_ms, datatype=found.datatype)
        try:
            put_value(metric, found.datatype, claim.value)
        except ValueError as error:
            raise Undeliverable(str(error)) from None
        to = f"NCMD/{found.node}" if found.device is None else f"DCMD/{found.node}/{found.device}"
        return f"{NAMESPACE}/{found.group}/{to}", payload.SerializeToString()

    return encode
