-- A seller's part of an order, which never changes, apart from what does.
CREATE TABLE seller_orders (
    order_id  uuid        NOT NULL,
    seller_id uuid        NOT NULL,
    placed_at timestamptz NOT NULL,
    total     bigint      NOT NULL,  -- of the seller's own lines, in minor units
    currency  text        NOT NULL,
    lines     json        NOT NULL,
    ship_to   json        NOT NULL,  -- the address in it is sealed
    PRIMARY KEY (order_id, seller_id)
);

CREATE INDEX seller_orders_by_age ON seller_orders (seller_id, placed_at DESC, order_id DESC);

CREATE TABLE seller_order_states (
    order_id uuid PRIMARY KEY,
    status   text NOT NULL,
    reason   text
) WITH (fillfactor = 40);

CREATE TABLE seller_shipments (
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
    parcels         jsonb NOT NULL, -- what was told of them, oldest first
    PRIMARY KEY (order_id, seller_id)
) WITH (fillfactor = 60);
