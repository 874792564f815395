CREATE TABLE promotions (
    promotion_id uuid        PRIMARY KEY,
    created_at   timestamptz NOT NULL,
    terms        json        NOT NULL,
    ended        boolean     NOT NULL,
    claimed      bigint      NOT NULL,  -- by orders under way
    redeemed     bigint      NOT NULL
) WITH (fillfactor = 50);

CREATE INDEX promotions_by_age ON promotions (created_at DESC, promotion_id DESC);

-- Who holds one: a release says nothing of whether there was a claim.
CREATE TABLE coupon_claims (
    promotion_id uuid NOT NULL,
    order_id     uuid NOT NULL,
    PRIMARY KEY (promotion_id, order_id)
);
