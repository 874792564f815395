CREATE TABLE returns (
    return_id    text        PRIMARY KEY,
    order_id     uuid        NOT NULL,
    seller_id    uuid        NOT NULL,
    requested_at timestamptz NOT NULL,
    request      json        NOT NULL,  -- what was asked for; the reason in it is sealed
    status       text        NOT NULL,
    accepted     json,                  -- what of it was accepted, and the refund that was agreed on
    refunded     json,                  -- what went back
    reason       text,                  -- of declining, or of an operator's having to look
    decided_at   timestamptz,
    completed_at timestamptz
) WITH (fillfactor = 70);

CREATE INDEX returns_of_order ON returns (order_id);
CREATE INDEX returns_by_age ON returns (requested_at DESC);
CREATE INDEX returns_of_seller ON returns (seller_id, requested_at DESC);
CREATE INDEX returns_parked ON returns (requested_at DESC) WHERE status = 'parked';
