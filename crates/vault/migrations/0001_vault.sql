-- The vault: what must be kept beside the log. Nothing here can be rebuilt from it.

-- Keys that the vault itself uses, wrapped by the master key.
create table vault.secrets (
    name        text primary key,
    wrapped_key bytea not null
);

-- One key per person. A row without a key says: forgotten, and never to have a key again.
create table vault.subjects (
    subject     uuid primary key,
    wrapped_key bytea
);

-- Who holds which e-mail address; the address itself only as a keyed hash.
create table vault.addresses (
    address    bytea primary key,
    account    uuid not null unique,
    claimed_at timestamptz not null,
    -- The log knows the account.
    registered boolean not null default false
);

create table vault.credentials (
    account       uuid primary key,
    password_hash text not null
);

-- A session is the family of the refresh tokens that follow one another from one login.
create table vault.sessions (
    id         uuid primary key,
    account    uuid not null,
    created_at timestamptz not null,
    -- When its newest token expires.
    expires_at timestamptz not null,
    ended_at   timestamptz
);
create index sessions_by_account on vault.sessions (account);
create index sessions_by_expiry on vault.sessions (expires_at);

create table vault.refresh_tokens (
    -- SHA-256: the token is random, nothing slower is needed.
    hash       bytea primary key,
    session    uuid not null references vault.sessions on delete cascade,
    expires_at timestamptz not null,
    used_at    timestamptz
);
create index refresh_tokens_by_session on vault.refresh_tokens (session);
