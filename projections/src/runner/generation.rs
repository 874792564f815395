//! Generations of a projector's tables in PostgreSQL: each has a schema of its own, and the views in schema `views`
//! show the one that is served. Which there are, and how far, is in `views.projections`.
//!
//! Another process may do the same at any moment: every change here is one transaction that holds under it.

use std::time::Duration;

use sqlx::{AssertSqlSafe, Connection, PgConnection, Postgres, Row, Transaction, postgres::PgConnectOptions};

use souk_event_log::{EventLog, Position};

use super::Projector;

/// Below PostgreSQL's deadlock timeout, so that a take-over that is in a reader's way gives up before the reader does.
const TAKE_OVER_PATIENCE: &str = "SET LOCAL lock_timeout = '300ms'";

/// Between tries for the lock that another process holds.
pub(super) const LOCK_POLL: Duration = Duration::from_millis(100);

#[derive(Clone, Debug)]
pub(super) struct Generation {
    pub(super) name: &'static str,
    pub(super) number: i32,
    pub(super) version: u32,
    pub(super) position: Option<Position>,
}

/// What there is of one projector.
pub(super) struct Inventory {
    pub(super) served: Option<Generation>,
    /// Begun and not yet served, of this program's version.
    pub(super) building: Option<Generation>,
    pub(super) rebuild_requested: bool,
}

/// A connection for a projector's writing side.
pub(super) async fn connect(options: &PgConnectOptions) -> Result<PgConnection, sqlx::Error> {
    let options = options.clone().application_name("souk projector").options([
        // A view that loses its last moments in a crash catches up again from its checkpoint.
        ("synchronous_commit", "off"),
        ("jit", "off"),
        // Every statement is by key. Left alone, the planner would plan each anew, and scan tables it believes small.
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_seqscan", "off"),
        ("enable_hashjoin", "off"),
        ("enable_mergejoin", "off"),
        ("client_min_messages", "warning"),
    ]);
    PgConnection::connect_with(&options).await
}

/// Makes the schema `views` if it is not there.
pub(super) async fn prepare(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let mut transaction = connection.begin().await?;
    // IF NOT EXISTS does not keep two processes from stumbling over each other.
    lock_for_change(&mut transaction, "").await?;
    sqlx::raw_sql(include_str!("schema.sql")).execute(&mut *transaction).await?;
    transaction.commit().await
}

/// Takes the lock that lets one process at a time write a projector's tables; it ends with the connection. Whoever
/// loses it without noticing does no harm: a checkpoint moves only from where its writer left it.
pub(super) async fn try_lock(
    connection: &mut PgConnection,
    projector: &dyn Projector,
) -> Result<bool, sqlx::Error> {
    let key = format!("souk projector {} {}", projector.name(), projector.version());
    sqlx::query_scalar("SELECT pg_try_advisory_lock(hashtextextended($1, 0))")
        .bind(key)
        .fetch_one(connection)
        .await
}

/// Changes to the generations of a projector come one after the other, also from several processes.
async fn lock_for_change(transaction: &mut Transaction<'_, Postgres>, name: &str) -> Result<(), sqlx::Error> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended($1, 1))")
        .bind(format!("souk views {name}"))
        .execute(&mut **transaction)
        .await?;
    Ok(())
}

/// Reads what there is and drops what is left over of generations that are no more.
pub(super) async fn take_stock(
    connection: &mut PgConnection,
    projector: &dyn Projector,
) -> Result<Inventory, sqlx::Error> {
    let (name, version) = (projector.name(), projector.version());
    let mut transaction = connection.begin().await?;
    lock_for_change(&mut transaction, name).await?;
    let rows = sqlx::query(
        "SELECT generation, version, served, position FROM views.projections WHERE name = $1 ORDER BY generation",
    )
    .bind(name)
    .fetch_all(&mut *transaction)
    .await?;
    let rebuild_requested =
        sqlx::query_scalar("SELECT EXISTS (SELECT FROM views.rebuild_requests WHERE name = $1)")
            .bind(name)
            .fetch_one(&mut *transaction)
            .await?;
    let (mut served, mut building, mut known) = (None, None, Vec::new());
    for row in rows {
        let generation = Generation {
            name,
            number: row.try_get("generation")?,
            version: row.try_get::<i32, _>("version")? as u32,
            position: row.try_get::<Option<i64>, _>("position")?.map(|position| position as Position),
        };
        known.push(generation.schema());
        if row.try_get("served")? {
            served = Some(generation);
        } else if generation.version == version {
            building = Some(generation);
        }
    }
    let schemas: Vec<String> =
        sqlx::query_scalar("SELECT nspname::text FROM pg_namespace WHERE nspname ~ $1")
            .bind(format!("^views_{name}_[0-9]+$"))
            .fetch_all(&mut *transaction)
            .await?;
    for schema in schemas.iter().filter(|schema| !known.contains(schema)) {
        drop_schema(&mut transaction, schema).await?;
    }
    transaction.commit().await?;
    Ok(Inventory { served, building, rebuild_requested })
}

/// Begins a new generation, at no position. One of this version that was begun before and not served is dropped, and a
/// request for a rebuild is answered by it.
pub(super) async fn begin(
    connection: &mut PgConnection,
    projector: &dyn Projector,
) -> Result<Generation, sqlx::Error> {
    let (name, version) = (projector.name(), projector.version());
    let mut transaction = connection.begin().await?;
    lock_for_change(&mut transaction, name).await?;
    let former: Vec<i32> = sqlx::query_scalar(
        "DELETE FROM views.projections WHERE name = $1 AND version = $2 AND NOT served RETURNING generation",
    )
    .bind(name)
    .bind(version as i32)
    .fetch_all(&mut *transaction)
    .await?;
    for number in former {
        drop_schema(&mut transaction, &schema(name, number)).await?;
    }
    let number: i32 = sqlx::query_scalar(
        "INSERT INTO views.projections (name, generation, version, served, state)
         SELECT $1, coalesce(max(generation), 0) + 1, $2, false, 'building' FROM views.projections WHERE name = $1
         RETURNING generation",
    )
    .bind(name)
    .bind(version as i32)
    .fetch_one(&mut *transaction)
    .await?;
    let generation = Generation { name, number, version, position: None };
    let schema = generation.schema();
    drop_schema(&mut transaction, &schema).await?;
    run(&mut transaction, format!("CREATE SCHEMA {schema}")).await?;
    run(&mut transaction, format!("SET LOCAL search_path = {schema}")).await?;
    sqlx::raw_sql(projector.migration()).execute(&mut *transaction).await?;
    sqlx::query("DELETE FROM views.rebuild_requests WHERE name = $1")
        .bind(name)
        .execute(&mut *transaction)
        .await?;
    transaction.commit().await?;
    Ok(generation)
}

impl Generation {
    pub(super) fn schema(&self) -> String {
        schema(self.name, self.number)
    }

    /// Lets the connection find this generation's tables by their plain names.
    pub(super) async fn select(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        run(connection, format!("SET search_path = {}", self.schema())).await
    }

    /// Moves the checkpoint from where this writer left it. False: somebody else moved it, or ended this generation.
    pub(super) async fn checkpoint(
        &self,
        connection: &mut PgConnection,
        position: Option<Position>,
    ) -> Result<bool, sqlx::Error> {
        let moved = sqlx::query(
            "UPDATE views.projections SET position = $3, error = NULL, updated_at = now(),
                    state = CASE WHEN served THEN 'active' ELSE 'building' END
             WHERE name = $1 AND generation = $2 AND position IS NOT DISTINCT FROM $4",
        )
        .bind(self.name)
        .bind(self.number)
        .bind(position.map(|position| position as i64))
        .bind(self.position.map(|position| position as i64))
        .execute(connection)
        .await?;
        Ok(moved.rows_affected() == 1)
    }

    pub(super) async fn mark_stopped(
        &self,
        connection: &mut PgConnection,
        error: &str,
    ) -> Result<(), sqlx::Error> {
        sqlx::query(
            "UPDATE views.projections SET state = 'stopped', error = $3, updated_at = now()
             WHERE name = $1 AND generation = $2",
        )
        .bind(self.name)
        .bind(self.number)
        .bind(error)
        .execute(connection)
        .await?;
        Ok(())
    }

    /// Serves this generation in place of the one that is served, if it is at least as far: readers never go back in
    /// time, unless what they saw is beyond the log's `head` and never was. False: not yet, or a reader was in the way for too long; try again.
    pub(super) async fn take_over(
        &self,
        connection: &mut PgConnection,
        position: Option<Position>,
        log: &dyn EventLog,
    ) -> Result<bool, sqlx::Error> {
        match self.try_take_over(connection, position, log).await {
            // lock_not_available
            Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some("55P03") => Ok(false),
            result => result,
        }
    }

    async fn try_take_over(
        &self,
        connection: &mut PgConnection,
        position: Option<Position>,
        log: &dyn EventLog,
    ) -> Result<bool, sqlx::Error> {
        let mut transaction = connection.begin().await?;
        run(&mut transaction, TAKE_OVER_PATIENCE.to_owned()).await?;
        lock_for_change(&mut transaction, self.name).await?;
        // From here on the writer of the served generation waits with its checkpoint, and then finds itself replaced.
        let served: Option<Option<i64>> = sqlx::query_scalar(
            "SELECT position FROM views.projections WHERE name = $1 AND served FOR UPDATE",
        )
        .bind(self.name)
        .fetch_optional(&mut *transaction)
        .await?;
        let served = served.flatten().map(|position| position as Position);
        if served > position {
            // Only a view of a log that is gone may be left behind; asked now, since the log moves on meanwhile.
            let Ok(head) = log.head().await else { return Ok(false) };
            if served <= head {
                return Ok(false);
            }
        }
        let replaced: Vec<i32> = sqlx::query_scalar(
            "DELETE FROM views.projections WHERE name = $1 AND generation <> $2 AND (served OR version <= $3)
             RETURNING generation",
        )
        .bind(self.name)
        .bind(self.number)
        .bind(self.version as i32)
        .fetch_all(&mut *transaction)
        .await?;
        for number in replaced {
            for table in tables(&mut transaction, &schema(self.name, number)).await? {
                run(&mut transaction, format!("DROP VIEW IF EXISTS views.{table}")).await?;
            }
        }
        let schema = self.schema();
        for table in tables(&mut transaction, &schema).await? {
            run(&mut transaction, format!("CREATE VIEW views.{table} AS SELECT * FROM {schema}.{table}"))
                .await?;
        }
        let marked = sqlx::query(
            "UPDATE views.projections SET served = true, state = 'active', position = $3, updated_at = now()
             WHERE name = $1 AND generation = $2 AND position IS NOT DISTINCT FROM $4",
        )
        .bind(self.name)
        .bind(self.number)
        .bind(position.map(|position| position as i64))
        .bind(self.position.map(|position| position as i64))
        .execute(&mut *transaction)
        .await?;
        if marked.rows_affected() != 1 {
            return Ok(false);
        }
        transaction.commit().await?;
        Ok(true)
    }

    /// Gathers statistics, so that the first queries after a take-over are planned well.
    pub(super) async fn analyze(&self, connection: &mut PgConnection) -> Result<(), sqlx::Error> {
        let schema = self.schema();
        for table in tables(connection, &schema).await? {
            run(connection, format!("ANALYZE {schema}.{table}")).await?;
        }
        Ok(())
    }
}

fn schema(name: &str, number: i32) -> String {
    format!("views_{name}_{number}")
}

async fn tables(connection: &mut PgConnection, schema: &str) -> Result<Vec<String>, sqlx::Error> {
    sqlx::query_scalar("SELECT tablename::text FROM pg_tables WHERE schemaname = $1 ORDER BY tablename")
        .bind(schema)
        .fetch_all(connection)
        .await
}

async fn drop_schema(connection: &mut PgConnection, schema: &str) -> Result<(), sqlx::Error> {
    run(connection, format!("DROP SCHEMA IF EXISTS {schema} CASCADE")).await
}

/// Names in these statements are those of projectors and of tables in migrations: the program's own, none from outside.
async fn run(connection: &mut PgConnection, statement: String) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(statement)).execute(connection).await?;
    Ok(())
}
