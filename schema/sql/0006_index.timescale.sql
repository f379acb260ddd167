-- Every (tag_id, ts) is there once: looking for duplicates before each page split finds none, and takes a twentieth of a COPY. Chunks take it over from here.
ALTER INDEX historian.sample_tag_ts SET (deduplicate_items = off);
