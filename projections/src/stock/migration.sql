CREATE TABLE stock (
    sku_id    uuid   PRIMARY KEY,
    item_id   uuid   NOT NULL,
    seller_id uuid   NOT NULL,
    sku       text   NOT NULL,
    on_hand   bigint NOT NULL,
    reserved  bigint NOT NULL
) WITH (fillfactor = 50);
