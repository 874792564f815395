-- Only those that have not ended: a table that stays small.
CREATE TABLE checkouts (
    order_id   uuid        PRIMARY KEY,
    buyer_id   uuid,
    phase      text        NOT NULL,
    parked     boolean     NOT NULL,
    reason     text,
    started_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    deadline   timestamptz,
    story      jsonb       NOT NULL
) WITH (fillfactor = 50);

CREATE INDEX checkouts_parked ON checkouts (started_at) WHERE parked;
