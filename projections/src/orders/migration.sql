-- What never changes about an order stands apart from what does: each step rewrites the whole of a row.
CREATE TABLE orders (
    order_id  uuid        PRIMARY KEY,
    buyer_id  uuid        NOT NULL,
    placed_at timestamptz NOT NULL,
    total     bigint      NOT NULL,  -- in minor units
    currency  text        NOT NULL,
    lines     json        NOT NULL,
    payment   json        NOT NULL,  -- type, brand and last four digits
    ship_to   json        NOT NULL,  -- the address in it is sealed
    charges   json                   -- shipping, tax, discounts, credits; null of none
);

CREATE INDEX orders_of_buyer ON orders (buyer_id, placed_at DESC, order_id DESC);
CREATE INDEX orders_by_age ON orders (placed_at DESC, order_id DESC);

-- Each status is reached once at most, so the timeline is a column each.
CREATE TABLE order_states (
    order_id          uuid   PRIMARY KEY,
    status            text   NOT NULL,
    reason            text,
    revision          bigint NOT NULL,  -- of the order's stream
    placed_at         timestamptz,
    stock_reserved_at timestamptz,
    paid_at           timestamptz,
    ready_to_ship_at  timestamptz,
    completed_at      timestamptz,
    cancelling_at     timestamptz,
    cancelled_at      timestamptz,
    payment_status    text,
    payment_failure   text,
    short_lines       json              -- of an order that lacked stock
) WITH (fillfactor = 40);

CREATE TABLE order_shipments (
    order_id        uuid NOT NULL,
    seller_id       uuid NOT NULL,
    status          text NOT NULL,
    carrier         text,
    tracking_number text,
    reason          text,        -- of a refusal
    requested_at    timestamptz,
    ready_at        timestamptz,
    dispatched_at   timestamptz,
    delivered_at    timestamptz,
    ended_at        timestamptz, -- refused or cancelled
    PRIMARY KEY (order_id, seller_id)
) WITH (fillfactor = 60);
