"""What a move takes along, table by table: every table of the schema stands here, with what is done about it. A test fails for one that does not.

Checksums do not depend on the order of rows: the sum, modulo 2^64, of a hash of each row's stored values, floats by their bits. PostgreSQL keeps its hash
functions the same from version to version, since partitions by hash lie on disk by them; so both servers come to the same sum for the same rows.
"""

from __future__ import annotations

from dataclasses import dataclass

from historian.schema.limits import LIMITS

#: of historian.sample, in the order of the table: as they are stored, so that a decimal stays the decimal it was
SAMPLE_COLUMNS = ("tag_id", "scale", "quality", "ts", "mantissa", "value", "text")
SAMPLE_HASH = "hash_record_extended(ROW(tag_id, ts, scale, quality, mantissa, float8send(value), text), 0)"

MODULUS = 2**64


@dataclass(frozen=True, slots=True)
class Copied:
    """A table that is copied whole. `hashed` are its columns as they go into the checksum, `key` those that order it."""

    name: str
    columns: tuple[str, ...]
    hashed: tuple[str, ...]
    key: tuple[str, ...]

    @property
    def select(self) -> str:
        """SQL: all of it, in order."""
        return f"SELECT {', '.join(self.columns)} FROM historian.{self.name} ORDER BY {', '.join(self.key)}"  # noqa: S608

    @property
    def checksum(self) -> str:
        """SQL: rows and checksum of the table."""
        return f"SELECT count(*), mod(COALESCE(sum(hash_record_extended(ROW({', '.join(self.hashed)}), 0)), 0), {MODULUS}) FROM historian.{self.name}"  # noqa: S608


_COMMAND = (
    "command_id",
    "tag",
    "value",
    "previous",
    "previous_ts",
    "commander",
    "client",
    "key",
    "write_to",
    "requested_at",
    "committed_at",
    "expires_at",
    "ts",
    "outcome",
    "detail",
    "worker",
    "held_until",
    "attempts",
    "sent",
    "settled_at",
)

#: small: copied in the last transaction, in this order (the snapshot refers to the catalogue)
WHOLE = (
    Copied(
        "tag",
        # with their ids, which producers and samples know; xid is the target's own
        ("tag_id", "path", "kind", "unit", "description", "low", "high", *LIMITS, "step", "states", "writable", "write_to", "created_at"),
        (
            "tag_id",
            "path",
            "kind",
            "unit",
            "description",
            "float8send(low)",
            "float8send(high)",
            *(f"float8send({limit})" for limit in LIMITS),
            "step",
            "states::text",
            "writable",
            "write_to",
            "created_at",
        ),
        ("tag_id",),
    ),
    Copied(
        "snapshot",
        ("tag_id", "ts", "value", "quality", "text"),
        ("tag_id", "ts", "float8send(value)", "quality", "text"),
        ("tag_id",),
    ),
    # the audit, with its numbers; so large that it matters it never is, since people and controllers make it one by one
    Copied("command", _COMMAND, tuple(f"{name}::text" if name in ("value", "previous") else name for name in _COMMAND), ("command_id",)),
    Copied(
        "document",
        ("kind", "name", "content", "etag", "changed_at"),
        ("kind", "name", "content", "etag", "changed_at"),
        ("kind", "name"),
    ),
)

#: may be long: copied in bites by its key. Producers that send a batch again are known by it; xid is the target's own
LEDGER = Copied(
    "ledger",
    ("producer", "seq", "digest", "samples", "committed_at"),
    ("producer", "seq", "digest", "samples", "committed_at"),
    ("producer", "seq"),
)

#: copied slice by slice
SLICED = "sample"

#: not taken along, and why
LEFT = {
    "migration": "the target has its own",
    "ledger_content": "for the live bus, kept for minutes; its transaction ids are the source's",
    "cursor": "made of the source's transaction ids: readers begin anew, and are told so",
    "rollup_level": "the target refreshes its rollups itself",
    "rollup_change": "the target refreshes its rollups itself",
    "rollup_1m_stored": "the target refreshes its rollups itself",
    "rollup_10m_stored": "the target refreshes its rollups itself",
    "rollup_1h_stored": "the target refreshes its rollups itself",
    "rollup_6h_stored": "the target refreshes its rollups itself",
    "rollup_1d_stored": "the target refreshes its rollups itself",
    "rollup_turn": "the target refreshes its rollups itself",
    "chunk_plan": "the target measures its own rate",
    "chunk_state": "the target has its own chunks",
    "retention_group": "set anew in the target: until then it keeps everything for ever",
    "retention_state": "a move is refused where anything was removed or archived",
    "retention_lost": "a move is refused where anything was removed or archived",
    "archive_part": "a move is refused where anything was removed or archived",
    "archive_pending": "files of the source's archive",
    "archive_hold": "of the source's archive",
    "archive_guard": "has no rows",
    "late_sample": "has no rows between transactions",
    "move": "of a move into the source",
    "move_slice": "of a move into the source",
}

#: (in the source, as the setval of the target): numbers that have been given are not given again, not even those of tags that are gone
SEQUENCES = (
    "historian.tag_tag_id_seq",
    "historian.command_command_id_seq",
    "historian.write_position",
)


def known() -> set[str]:
    """The tables that a move knows."""
    return {SLICED, LEDGER.name, *(table.name for table in WHOLE), *LEFT}
