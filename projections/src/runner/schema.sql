-- Where the generations of all projectors are written down. The views that queries read lie beside it.
CREATE SCHEMA IF NOT EXISTS views;

CREATE TABLE IF NOT EXISTS views.projections (
    name        text        NOT NULL,
    generation  integer     NOT NULL,
    version     integer     NOT NULL,
    served      boolean     NOT NULL,  -- the one that the views show
    state       text        NOT NULL CHECK (state IN ('building', 'active', 'stopped')),
    position    bigint,                -- everything up to here is applied; null: nothing yet
    error       text,
    updated_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (name, generation)
) WITH (fillfactor = 50);

CREATE UNIQUE INDEX IF NOT EXISTS projections_served ON views.projections (name) WHERE served;

CREATE TABLE IF NOT EXISTS views.rebuild_requests (
    name         text        PRIMARY KEY,
    requested_at timestamptz NOT NULL DEFAULT now()
);
