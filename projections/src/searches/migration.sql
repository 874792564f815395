-- What was searched for on a day.
CREATE TABLE searches (
    query       text COLLATE "C" NOT NULL,
    day         date             NOT NULL,
    searches    bigint           NOT NULL,
    clicks      bigint           NOT NULL,
    hits        bigint,                     -- of the last search; none where only clicks are known
    corrected   text,                       -- what that one searched for instead
    fewer_words boolean          NOT NULL,  -- no item had all of its words
    facet_name  text,                       -- what its first hits had in common
    facet_value text,
    last_at     timestamptz      NOT NULL,
    PRIMARY KEY (query, day)
) WITH (fillfactor = 70);

CREATE INDEX searches_by_day ON searches (day);
