-- The first format of the file, as it was written until the tables made room for views of their names. Never changed.
CREATE TABLE streams (
    id   INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE             -- category-id; the category is what stands before the first hyphen
) STRICT;
CREATE TABLE kinds (
    id       INTEGER PRIMARY KEY,         -- 1, 2, 3 … without gaps
    category TEXT NOT NULL,
    type     TEXT NOT NULL,
    UNIQUE (category, type)
) STRICT;
CREATE TABLE events (
    position    INTEGER PRIMARY KEY,      -- 0, 1, 2 … in commit order, without gaps
    stream_id   INTEGER NOT NULL,
    revision    INTEGER NOT NULL,         -- 0, 1, 2 … within the stream, without gaps
    kind_id     INTEGER NOT NULL,
    recorded_at INTEGER NOT NULL,         -- microseconds since 1970, UTC; never decreases
    id          BLOB NOT NULL,            -- UUID, 16 bytes
    hash        BLOB NOT NULL,            -- BLAKE3 of the hash before and this event, 32 bytes
    data        BLOB NOT NULL,            -- JSON
    metadata    BLOB NOT NULL             -- JSON
) STRICT;
CREATE UNIQUE INDEX events_by_stream ON events (stream_id, revision);

CREATE TRIGGER events_are_never_changed BEFORE UPDATE ON events
    BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;
CREATE TRIGGER events_are_never_deleted BEFORE DELETE ON events
    BEGIN SELECT RAISE(ABORT, 'the event log is append-only'); END;

CREATE VIEW all_events AS                 -- every event in commit order, readable: names, ISO 8601 times, JSON as text
    SELECT e.position, s.name AS stream, e.revision, k.category, k.type,
           strftime('%Y-%m-%dT%H:%M:%S', e.recorded_at / 1000000, 'unixepoch')
               || printf('.%06dZ', e.recorded_at % 1000000) AS recorded_at,
           CAST(e.data AS TEXT) AS data, CAST(e.metadata AS TEXT) AS metadata,
           lower(printf('%s-%s-%s-%s-%s', substr(hex(e.id), 1, 8), substr(hex(e.id), 9, 4), substr(hex(e.id), 13, 4),
                        substr(hex(e.id), 17, 4), substr(hex(e.id), 21))) AS id,
           lower(hex(e.hash)) AS hash
    FROM events e JOIN streams s ON s.id = e.stream_id JOIN kinds k ON k.id = e.kind_id;
CREATE VIEW all_streams AS                -- every stream with the number of its events
    SELECT s.name AS stream,
           substr(s.name, 1, CASE instr(s.name, '-') WHEN 0 THEN length(s.name) ELSE instr(s.name, '-') - 1 END) AS category,
           (SELECT max(e.revision) + 1 FROM events e WHERE e.stream_id = s.id) AS events
    FROM streams s;
PRAGMA application_id = 0x536f756b;
PRAGMA user_version = 1;
