-- Who is told of events, how far each has come, and by which webhook. Not in the log: secrets and addresses of others.
create table vault.consumers (
    id            uuid primary key,
    owner         uuid not null,
    name          text not null,
    -- Which events: every condition must hold, an empty one holds for all.
    stream        text,
    categories    text[] not null,
    types         text[] not null,
    -- Up to here everything is done; null: nothing yet.
    position      bigint,
    -- Goes up with every change from outside: a sender that does not know of it yet writes nothing over it.
    epoch         bigint not null default 0,
    paused_because text,
    created_at    timestamptz not null,
    -- Keyed hash of the request that made it, if that bore an idempotency key.
    fingerprint   text,
    -- Null where events are fetched.
    url           text,
    wrapped_secret bytea,
    -- The secret before, signed with as well for a while.
    former_secret bytea,
    former_until  timestamptz,
    -- The command that made the secret.
    rotation      uuid,
    -- Tries in a row that failed.
    failures      integer not null default 0,
    failing_since timestamptz,
    next_attempt_at timestamptz,
    last_error    text,
    delivered_at  timestamptz,
    check ((url is null) = (wrapped_secret is null))
);
create index consumers_by_owner on vault.consumers (owner, created_at desc, id desc);
create index consumers_by_age on vault.consumers (created_at desc, id desc);

-- The last tries of each webhook, for people to look at; trimmed.
create table vault.deliveries (
    id        bigint primary key generated always as identity,
    consumer  uuid not null references vault.consumers on delete cascade,
    position  bigint not null,
    event     uuid not null,
    type      text not null,
    stream    text not null,
    attempt   integer not null,
    at        timestamptz not null,
    delivered boolean not null,
    -- Of the answer; null if there was none.
    status    smallint,
    error     text,
    took_ms   integer not null
);
create index deliveries_by_consumer on vault.deliveries (consumer, delivered, id desc);
