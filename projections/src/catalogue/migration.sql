CREATE TABLE items (
    item_id    uuid        PRIMARY KEY,
    seller_id  uuid        NOT NULL,
    sku        text        NOT NULL,
    details    json        NOT NULL,
    variants   json        NOT NULL,
    withdrawn  boolean     NOT NULL,
    revision   bigint      NOT NULL,
    listed_at  timestamptz NOT NULL,
    revised_at timestamptz NOT NULL
) WITH (fillfactor = 85);

CREATE INDEX items_of_seller ON items (seller_id, listed_at DESC, item_id DESC);
