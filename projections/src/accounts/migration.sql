CREATE TABLE accounts (
    account_id    uuid        PRIMARY KEY,
    standing      text        NOT NULL,
    roles         text[]      NOT NULL,
    email         json,                 -- sealed
    display_name  json,                 -- sealed
    reason        text,                 -- of a suspension
    registered_at timestamptz NOT NULL
) WITH (fillfactor = 90);

CREATE INDEX accounts_by_age ON accounts (registered_at DESC, account_id DESC);
