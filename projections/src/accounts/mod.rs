//! Accounts as an operator sees them. Follows `account-*`. Names and addresses stay sealed, and go when a person is
//! forgotten.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use souk_domain::{
    AccountId, Decider, Sealed,
    account::{Account, AccountEvent, AccountState, Role, Standing},
};
use souk_event_log::{Filter, Recorded};
use sqlx::{PgConnection, PgPool, Row, postgres::PgRow, types::Json};

use crate::{
    event,
    query::{self, Page, QueryError, json, name_of},
    runner::{ApplyError, Projector},
};

pub struct Accounts;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountRow {
    pub account_id: AccountId,
    pub standing: Standing,
    pub roles: Vec<Role>,
    /// None for accounts that an import made, and for the forgotten.
    pub email: Option<Sealed>,
    pub display_name: Option<Sealed>,
    /// Why it is suspended.
    pub reason: Option<String>,
    pub registered_at: DateTime<Utc>,
}

#[async_trait]
impl Projector for Accounts {
    fn name(&self) -> &'static str {
        "accounts"
    }

    fn version(&self) -> u32 {
        1
    }

    fn filter(&self) -> Filter {
        Filter::categories([Account::CATEGORY])
    }

    fn migration(&self) -> &'static str {
        include_str!("migration.sql")
    }

    /// Accounts change rarely: what is there is read, folded by the domain's own rule, and written back.
    async fn apply(&self, tables: &mut PgConnection, events: &[Arc<Recorded>]) -> Result<(), ApplyError> {
        let mut read = Vec::with_capacity(events.len());
        for event in events {
            let id: AccountId = event::id(event)?;
            let (account_event, at) = event::read::<AccountEvent>(event)?;
            read.push((id, event, account_event, at));
        }
        let changed: Vec<AccountId> =
            read.iter().filter(|(_, event, ..)| event.revision > 0).map(|(id, ..)| *id).collect();
        let mut accounts = load(tables, &changed).await?;
        for (id, event, account_event, at) in read {
            let known = accounts.remove(&id);
            let row = evolve(known, id, &account_event, at)
                .ok_or_else(|| ApplyError::event(event, "the account was never registered"))?;
            accounts.insert(id, row);
        }
        write(tables, &accounts).await?;
        Ok(())
    }
}

fn evolve(
    known: Option<AccountRow>,
    account_id: AccountId,
    event: &AccountEvent,
    at: DateTime<Utc>,
) -> Option<AccountRow> {
    let mut row = match (known, event) {
        (Some(row), _) => row,
        (None, AccountEvent::AccountRegistered(event)) => AccountRow {
            account_id,
            standing: Standing::Unknown,
            roles: Vec::new(),
            email: event.email.clone(),
            display_name: Some(event.display_name.clone()),
            reason: None,
            registered_at: at,
        },
        (None, _) => return None,
    };
    let state = AccountState { standing: row.standing, roles: row.roles.iter().copied().collect() };
    let AccountState { standing, roles } = Account::evolve(state, event);
    row.standing = standing;
    row.roles = roles.into_iter().collect();
    match event {
        AccountEvent::ProfileRevised(event) => row.display_name = Some(event.display_name.clone()),
        AccountEvent::AccountSuspended(event) => row.reason = Some(event.reason.clone()),
        AccountEvent::AccountReinstated(_) => row.reason = None,
        AccountEvent::AccountForgotten(_) => (row.email, row.display_name) = (None, None),
        AccountEvent::AccountRegistered(_) | AccountEvent::RoleGranted(_) => {}
    }
    Some(row)
}

async fn load(
    tables: &mut PgConnection,
    ids: &[AccountId],
) -> Result<BTreeMap<AccountId, AccountRow>, sqlx::Error> {
    if ids.is_empty() {
        return Ok(BTreeMap::new());
    }
    let ids: Vec<_> = ids.iter().map(|id| id.0).collect();
    let rows =
        sqlx::query("SELECT * FROM accounts WHERE account_id = ANY($1)").bind(ids).fetch_all(tables).await?;
    rows.iter().map(|row| read(row).map(|row| (row.account_id, row))).collect()
}

async fn write(
    tables: &mut PgConnection,
    accounts: &BTreeMap<AccountId, AccountRow>,
) -> Result<(), sqlx::Error> {
    let rows = || accounts.values();
    // An array of arrays must be rectangular, so each account's roles come as one text.
    let roles = |row: &AccountRow| row.roles.iter().map(name_of).collect::<Vec<_>>().join(",");
    sqlx::query(
        "INSERT INTO accounts (account_id, standing, roles, email, display_name, reason, registered_at)
         SELECT account_id, standing, string_to_array(roles, ','), email, display_name, reason, registered_at
         FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[]::json[], $5::text[]::json[], $6::text[], $7::timestamptz[])
              AS c (account_id, standing, roles, email, display_name, reason, registered_at)
         ON CONFLICT (account_id) DO UPDATE SET
            standing = excluded.standing, roles = excluded.roles, email = excluded.email,
            display_name = excluded.display_name, reason = excluded.reason",
    )
    .bind(accounts.keys().map(|id| id.0).collect::<Vec<_>>())
    .bind(rows().map(|row| name_of(&row.standing)).collect::<Vec<_>>())
    .bind(rows().map(roles).collect::<Vec<_>>())
    .bind(rows().map(|row| row.email.as_ref().map(json)).collect::<Vec<_>>())
    .bind(rows().map(|row| row.display_name.as_ref().map(json)).collect::<Vec<_>>())
    .bind(rows().map(|row| row.reason.as_deref()).collect::<Vec<_>>())
    .bind(rows().map(|row| row.registered_at).collect::<Vec<_>>())
    .execute(tables)
    .await?;
    Ok(())
}

pub async fn account(pool: &PgPool, id: AccountId) -> Result<Option<AccountRow>, QueryError> {
    let row = sqlx::query("SELECT * FROM views.accounts WHERE account_id = $1")
        .bind(id.0)
        .fetch_optional(pool)
        .await?;
    Ok(row.as_ref().map(read).transpose()?)
}

/// All accounts, newest first.
pub async fn accounts(
    pool: &PgPool,
    cursor: Option<&str>,
    size: u32,
) -> Result<Page<AccountRow>, QueryError> {
    let (at, id) = query::after(cursor)?;
    let rows = sqlx::query(
        "SELECT * FROM views.accounts WHERE (registered_at, account_id) < ($1, $2)
         ORDER BY registered_at DESC, account_id DESC LIMIT $3",
    )
    .bind(at)
    .bind(id)
    .bind(query::limit(size))
    .fetch_all(pool)
    .await?;
    query::page(&rows, size, |row| Ok((row.try_get("registered_at")?, row.try_get("account_id")?)), read)
}

fn read(row: &PgRow) -> Result<AccountRow, sqlx::Error> {
    let sealed = |column: &str| {
        Ok::<_, sqlx::Error>(row.try_get::<Option<Json<Sealed>>, _>(column)?.map(|Json(it)| it))
    };
    let roles: Vec<String> = row.try_get("roles")?;
    let roles = roles.into_iter().map(|role| serde_json::from_value(role.into())).collect::<Result<_, _>>();
    Ok(AccountRow {
        account_id: AccountId(row.try_get("account_id")?),
        standing: query::named(row, "standing")?,
        roles: roles.map_err(|error| query::malformed("roles", error))?,
        email: sealed("email")?,
        display_name: sealed("display_name")?,
        reason: row.try_get("reason")?,
        registered_at: row.try_get("registered_at")?,
    })
}
