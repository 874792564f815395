//! Copies of the vault for a backup, and the way back.
//!
//! A copy is text that `psql` understands: a first line that says what it is, then for each table `COPY … FROM stdin;`, its
//! rows as PostgreSQL writes them, and `\.`. A *whole* copy is taken in one snapshot of the database. A copy of *some
//! accounts* holds their keys, addresses and passwords alone: laid over a whole copy that is older it brings that up to date,
//! for a fraction of the work.
//!
//! Sessions are left out: one that was ended since must not come back to life. After a restore people log in again. So are the
//! last tries of webhooks, which are there to be looked at.
//!
//! A copy holds keys wrapped by the master key, and is of no use without it. That key is not in it.

use std::ops::Range;

use futures::{StreamExt, stream::BoxStream};
use serde::{Deserialize, Serialize};
use souk_domain::AccountId;
use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, Row, Transaction, postgres::PgCopyIn};
use uuid::Uuid;

use crate::{MasterKey, VaultError, schema};

/// Copied as a whole, in an order in which they can be filled. A test fails for a table that is neither here nor left out on
/// purpose.
const KEPT: &[&str] = &["secrets", "subjects", "addresses", "credentials", "consumers"];
/// What an account has: the table, the column that names the account, the primary key.
const OF_ACCOUNTS: &[(&str, &str, &str)] = &[
    ("subjects", "subject", "subject"),
    ("addresses", "account", "address"),
    ("credentials", "account", "account"),
    ("consumers", "owner", "id"),
];

const HEADER: &str = "-- souk vault ";
/// Bytes after which rows are passed on.
const CHUNK: usize = 64 << 10;

/// What the first line of a copy says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contents {
    /// Version of the schema that the rows are of.
    pub migration: i64,
    /// How many people have, or had, a key. Never gets less.
    pub subjects: u64,
    /// `None`: a whole copy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accounts: Option<Vec<AccountId>>,
    /// A key of the vault's own, wrapped by the master key: shows whether a master key is the right one.
    #[serde(with = "base64_bytes")]
    pub signing_key: Vec<u8>,
}

impl Contents {
    /// [`VaultError::WrongMasterKey`] if it is not the one that the vault was sealed with.
    pub fn check(&self, master_key: &MasterKey) -> Result<(), VaultError> {
        schema::unwrap_signing_key(&master_key.wrapping(), &self.signing_key).map(drop)
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("the vault's database: {0}")]
    Database(#[from] sqlx::Error),
    #[error("there is no vault in the database yet: start `souk serve` on it once")]
    Nothing,
    #[error("the vault has version {found}, this program knows {known}: upgrade the program")]
    Version { found: i64, known: i64 },
    #[error("there is a vault in the database already, with the keys of {subjects} people")]
    Occupied { subjects: i64 },
    #[error("the copy of the vault is damaged: {0}")]
    Damaged(String),
    #[error(transparent)]
    Vault(#[from] VaultError),
}

/// Chunks of a copy's text.
pub type Text<'a> = BoxStream<'a, Result<bytes::Bytes, CopyError>>;

/// A copy that is being taken.
pub struct Copying<'c> {
    contents: Contents,
    connection: &'c mut PgConnection,
}

impl<'c> Copying<'c> {
    /// Of everything (`None`), or of some accounts. The connection is of no other use until the text was read to its end.
    pub async fn begin(
        connection: &'c mut PgConnection,
        accounts: Option<Vec<AccountId>>,
    ) -> Result<Self, CopyError> {
        sqlx::query("begin isolation level repeatable read, read only").execute(&mut *connection).await?;
        require_vault(connection).await?;
        let row = sqlx::query(
            "select coalesce((select max(version) from vault.migrations), 0),
                    (select count(*) from vault.subjects),
                    (select wrapped_key from vault.secrets where name = $1)",
        )
        .bind(schema::SIGNING_KEY)
        .fetch_one(&mut *connection)
        .await?;
        let (migration, known) = (row.try_get(0)?, schema::newest());
        if migration > known {
            return Err(CopyError::Version { found: migration, known });
        }
        let signing_key = row.try_get::<Option<_>, _>(2)?.ok_or(CopyError::Nothing)?;
        let subjects = row.try_get::<i64, _>(1)? as u64;
        Ok(Self { contents: Contents { migration, subjects, accounts, signing_key }, connection })
    }

    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    pub fn text(self) -> Text<'c> {
        let Self { contents, connection } = self;
        Box::pin(async_stream::try_stream! {
            let header = serde_json::to_string(&contents).map_err(|error| CopyError::Damaged(error.to_string()))?;
            yield format!("{HEADER}{header}\n").into();
            let tables: Vec<(&str, String)> = match &contents.accounts {
                None => KEPT.iter().map(|table| (*table, String::new())).collect(),
                Some(accounts) => {
                    // UUIDs, so there is nothing to be escaped.
                    let list: Vec<_> = accounts.iter().map(|account| format!("'{}'", account.0)).collect();
                    let list = list.join(", ");
                    OF_ACCOUNTS.iter().map(|(table, account, _)| (*table, format!(" where {account} in ({list})"))).collect()
                }
            };
            for (table, condition) in tables {
                let columns = columns(connection, table).await?;
                if columns.is_empty() {
                    continue; // A vault of an older version, which has no such table.
                }
                yield format!("COPY vault.{table} ({columns}) FROM stdin;\n").into();
                let sql = format!("copy (select {columns} from vault.{table}{condition}) to stdout");
                let mut rows = connection.copy_out_raw(&sql).await?;
                while let Some(chunk) = rows.next().await {
                    yield chunk?;
                }
                drop(rows);
                yield "\\.\n".into();
            }
            sqlx::query("commit").execute(&mut *connection).await?;
        })
    }
}

async fn columns(connection: &mut PgConnection, table: &str) -> Result<String, sqlx::Error> {
    sqlx::query_scalar(
        "select coalesce(string_agg(quote_ident(column_name), ', ' order by ordinal_position), '')
         from information_schema.columns
         where table_schema = 'vault' and table_name = $1 and is_generated = 'NEVER'",
    )
    .bind(table)
    .fetch_one(connection)
    .await
}

/// A vault that is being made of copies: all of it or, if this is dropped before [`Restoring::commit`], nothing.
pub struct Restoring<'c> {
    transaction: Transaction<'c, Postgres>,
    migration: i64,
}

impl<'c> Restoring<'c> {
    /// Makes the schema as it was when the whole copy was taken. A vault that is there is refused; `replace` drops it.
    pub async fn begin(
        connection: &'c mut PgConnection,
        whole: &Contents,
        replace: bool,
    ) -> Result<Self, CopyError> {
        let (migration, known) = (whole.migration, schema::newest());
        if migration > known {
            return Err(CopyError::Version { found: migration, known });
        }
        let mut transaction = connection.begin().await?;
        if replace {
            sqlx::query("drop schema if exists vault cascade").execute(&mut *transaction).await?;
        }
        if let Some(subjects) = occupied(&mut transaction).await? {
            return Err(CopyError::Occupied { subjects });
        }
        schema::migrate_to(migration, &mut transaction).await?;
        Ok(Self { transaction, migration })
    }

    /// Puts a copy in place: the whole one first, then those of some accounts in the order in which they were taken.
    pub async fn load(&mut self, text: Text<'_>) -> Result<(), CopyError> {
        let mut lines = Lines::new(text);
        let header = lines.next().await?.ok_or_else(|| CopyError::Damaged("it is empty".into()))?;
        let contents = header_of(&header)?;
        if contents.migration != self.migration {
            let problem = format!("version {} beside version {}", contents.migration, self.migration);
            return Err(CopyError::Damaged(problem));
        }
        if let Some(accounts) = &contents.accounts {
            let accounts: Vec<Uuid> = accounts.iter().map(|account| account.0).collect();
            for (table, column, _) in OF_ACCOUNTS {
                if columns(&mut self.transaction, table).await?.is_empty() {
                    continue;
                }
                let sql = format!("delete from vault.{table} where {column} = any($1)");
                sqlx::query(AssertSqlSafe(sql)).bind(&accounts).execute(&mut *self.transaction).await?;
            }
        }
        while let Some(line) = lines.next().await? {
            let (table, columns) = section(&line)?;
            if contents.accounts.is_none() {
                let target = format!("vault.{table}");
                self.fill(&target, &columns, &mut lines).await?;
            } else {
                self.lay_over(&table, &columns, &mut lines).await?;
            }
        }
        Ok(())
    }

    async fn fill(&mut self, table: &str, columns: &str, lines: &mut Lines<'_>) -> Result<(), CopyError> {
        let sql = format!("copy {table} ({columns}) from stdin");
        let mut target = self.transaction.copy_in_raw(&sql).await?;
        // An error that ends this before `finish` also ends the transaction, and the connection with it.
        copy_rows(&mut target, lines).await?;
        target.finish().await?;
        Ok(())
    }

    /// Rows of some accounts. An address may have passed from one account to another.
    async fn lay_over(&mut self, table: &str, columns: &str, lines: &mut Lines<'_>) -> Result<(), CopyError> {
        let (_, _, key) = OF_ACCOUNTS
            .iter()
            .find(|(name, ..)| *name == table)
            .ok_or_else(|| CopyError::Damaged(format!("rows of {table} by account")))?;
        let create =
            format!("create temporary table part (like vault.{table} including defaults) on commit drop");
        sqlx::query(AssertSqlSafe(create)).execute(&mut *self.transaction).await?;
        self.fill("part", columns, lines).await?;
        for sql in [
            format!("delete from vault.{table} where {key} in (select {key} from part)"),
            format!("insert into vault.{table} ({columns}) select {columns} from part"),
            "drop table part".to_owned(),
        ] {
            sqlx::query(AssertSqlSafe(sql)).execute(&mut *self.transaction).await?;
        }
        Ok(())
    }

    /// Makes the vault agree with the log beside it; see [`agree`].
    pub async fn agree(&mut self, log: &InLog<'_>) -> Result<(), CopyError> {
        agree(&mut self.transaction, log).await
    }

    /// Makes everything durable.
    pub async fn commit(self) -> Result<(), CopyError> {
        Ok(self.transaction.commit().await?)
    }
}

/// What the log says, as far as the vault depends on it.
#[derive(Clone, Copy, Debug, Default)]
pub struct InLog<'a> {
    pub registered: &'a [AccountId],
    pub forgotten: &'a [AccountId],
    /// The position of its last event.
    pub head: Option<u64>,
}

/// Makes a vault, which may be older or newer than the log beside it, agree with that log: whom the log has forgotten is
/// forgotten, who is registered there can log in, a registration that the log does not know can be completed by
/// registering again, and no consumer has seen more than there is. Brings the vault's schema up to date first.
pub async fn agree(connection: &mut PgConnection, log: &InLog<'_>) -> Result<(), CopyError> {
    let InLog { registered, forgotten, head } = *log;
    require_vault(connection).await?;
    schema::migrate_to(schema::newest(), connection).await?;
    let ids = |accounts: &[AccountId]| accounts.iter().map(|account| account.0).collect::<Vec<Uuid>>();
    sqlx::query(
        "with forgotten as (
             insert into vault.subjects (subject, wrapped_key) select unnest($1::uuid[]), null
             on conflict (subject) do update set wrapped_key = null
         ),
         address as (delete from vault.addresses where account = any($1)),
         consumers as (delete from vault.consumers where owner = any($1)),
         credentials as (delete from vault.credentials where account = any($1))
         delete from vault.sessions where account = any($1)",
    )
    .bind(ids(forgotten))
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "update vault.addresses a set registered = not a.registered
         where a.registered <> exists (select from unnest($1::uuid[]) known where known = a.account)",
    )
    .bind(ids(registered))
    .execute(&mut *connection)
    .await?;
    // What was delivered beyond the log's end is lost; what will be appended in its place is not to be passed over.
    sqlx::query(
        "update vault.consumers set position = $1, epoch = epoch + 1 where position > coalesce($1, -1)",
    )
    .bind(head.map(|head| head as i64))
    .execute(&mut *connection)
    .await?;
    Ok(())
}

async fn require_vault(connection: &mut PgConnection) -> Result<(), CopyError> {
    let exists: bool = sqlx::query_scalar("select to_regclass('vault.migrations') is not null")
        .fetch_one(connection)
        .await?;
    exists.then_some(()).ok_or(CopyError::Nothing)
}

/// How many people have a key in the vault that is there, if there is one.
async fn occupied(connection: &mut PgConnection) -> Result<Option<i64>, sqlx::Error> {
    let exists: bool =
        sqlx::query_scalar("select to_regnamespace('vault') is not null").fetch_one(&mut *connection).await?;
    if !exists {
        return Ok(None);
    }
    let subjects: bool = sqlx::query_scalar("select to_regclass('vault.subjects') is not null")
        .fetch_one(&mut *connection)
        .await?;
    if !subjects {
        return Ok(Some(0));
    }
    sqlx::query_scalar("select count(*) from vault.subjects").fetch_one(connection).await.map(Some)
}

async fn copy_rows(target: &mut PgCopyIn<&mut PgConnection>, lines: &mut Lines<'_>) -> Result<(), CopyError> {
    let mut rows = Vec::with_capacity(CHUNK + (4 << 10));
    loop {
        let line = lines.next().await?.ok_or_else(|| CopyError::Damaged("it was cut off".into()))?;
        let end = line == b"\\.\n";
        if !end {
            rows.extend_from_slice(&line);
        }
        if end || rows.len() >= CHUNK {
            target.send(&*rows).await?;
            rows.clear();
        }
        if end {
            return Ok(());
        }
    }
}

fn header_of(line: &[u8]) -> Result<Contents, CopyError> {
    let text = line.strip_prefix(HEADER.as_bytes());
    let text = text.ok_or_else(|| CopyError::Damaged("it does not begin as one".into()))?;
    serde_json::from_slice(text).map_err(|error| CopyError::Damaged(error.to_string()))
}

/// `COPY vault.table (columns) FROM stdin;`. The names become part of statements, so they have to be plain.
fn section(line: &[u8]) -> Result<(String, String), CopyError> {
    let found = std::str::from_utf8(line).ok().and_then(|line| {
        let line = line.strip_prefix("COPY vault.")?.strip_suffix(") FROM stdin;\n")?;
        let (table, columns) = line.split_once(" (")?;
        let plain = |name: &str| {
            let quoted = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
            let name = quoted.unwrap_or(name);
            !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        let fits = KEPT.contains(&table) && columns.split(", ").all(plain);
        fits.then(|| (table.to_owned(), columns.to_owned()))
    });
    found.ok_or_else(|| {
        let line: String = String::from_utf8_lossy(line).chars().take(80).collect();
        CopyError::Damaged(format!("a table was expected, not {line:?}"))
    })
}

/// Lines, each with its end, of chunks of text.
struct Lines<'a> {
    text: Text<'a>,
    chunk: bytes::Bytes,
    rest: Range<usize>,
}

impl<'a> Lines<'a> {
    fn new(text: Text<'a>) -> Self {
        Self { text, chunk: bytes::Bytes::new(), rest: 0..0 }
    }

    async fn next(&mut self) -> Result<Option<Vec<u8>>, CopyError> {
        let mut line = Vec::new();
        loop {
            let rest = &self.chunk[self.rest.clone()];
            if let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
                line.extend_from_slice(&rest[..=end]);
                self.rest.start += end + 1;
                return Ok(Some(line));
            }
            line.extend_from_slice(rest);
            match self.text.next().await.transpose()? {
                Some(chunk) => (self.rest, self.chunk) = (0..chunk.len(), chunk),
                None if line.is_empty() => return Ok(None),
                None => return Err(CopyError::Damaged("its last line was cut off".into())),
            }
        }
    }
}

mod base64_bytes {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
