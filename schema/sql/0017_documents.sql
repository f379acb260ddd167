-- Documents that the pages of a server share: saved trend views and dashboards, by kind and name.

CREATE TABLE historian.document (
    kind       text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    -- JSON, as it was checked when it came; as text, so that it goes out again as it is
    content    text NOT NULL,
    -- a digest of the content: whoever has another content in hand has another etag, and is not let write over this one
    etag       text NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (kind, name)
);
