CREATE TABLE ledger_entries (
    seller_id uuid        NOT NULL,
    revision  bigint      NOT NULL,  -- of the seller's ledger
    at        timestamptz NOT NULL,
    kind      text        NOT NULL,
    order_id  uuid,
    payout_id text,
    rates     json,
    postings  json        NOT NULL,
    PRIMARY KEY (seller_id, revision)
);

CREATE TABLE ledger_balances (
    seller_id uuid   NOT NULL,
    currency  text   NOT NULL,
    account   text   NOT NULL,
    amount    bigint NOT NULL,  -- in minor units
    PRIMARY KEY (seller_id, currency, account)
) WITH (fillfactor = 50);

CREATE TABLE payouts (
    payout_id    text        PRIMARY KEY,
    seller_id    uuid        NOT NULL,
    requested_at timestamptz NOT NULL,
    amount       bigint      NOT NULL,  -- in minor units
    currency     text        NOT NULL,
    status       text        NOT NULL,
    note         text,                  -- the bank's reference, or why it failed
    ended_at     timestamptz
) WITH (fillfactor = 70);

CREATE INDEX payouts_by_age ON payouts (requested_at DESC);
CREATE INDEX payouts_of_seller ON payouts (seller_id, requested_at DESC);
