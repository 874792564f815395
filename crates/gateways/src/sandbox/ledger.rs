//! The books of the sandbox: its tables, and what each call reads and writes in them. Everything here runs inside a
//! transaction of the writer; a refusal is found before anything is written.
//!
//! Ids are made of keys (`tok_…`, `ch_…`, `re_…`, `bk_…` and the key in hexadecimal), so that a key finds its row and a row
//! its id. The outcome of a charge is written once and never changed,
//! but for one that waits for the buyer.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, OptionalExtension, Row, params};
use souk_domain::{
    AccountId, Money,
    payment::{FailureReason, PaymentMethod, PaymentType},
};
use uuid::Uuid;

use super::{
    details::{Behaviour, Kept},
    writer::OpenError,
};
use crate::{Booking, Cancellation, Charge, GatewayError};

/// What a wallet holds at first, in minor units of whatever currency it is charged in.
pub const OPENING_BALANCE: i64 = 10_000;

const FORMAT: i64 = 1;

const SCHEMA: &str = "
CREATE TABLE tokens (
    key BLOB PRIMARY KEY, buyer BLOB NOT NULL, payment_type TEXT NOT NULL, behaviour TEXT NOT NULL,
    brand TEXT, last_four TEXT, at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE wallets (buyer BLOB PRIMARY KEY, balance INTEGER NOT NULL CHECK (balance >= 0)) STRICT, WITHOUT ROWID;
-- A key that was cancelled before anything was charged has no token and no amount.
CREATE TABLE charges (
    key BLOB PRIMARY KEY, outcome TEXT NOT NULL, token TEXT, amount INTEGER, currency TEXT,
    wallet BLOB, refunded INTEGER NOT NULL DEFAULT 0, at INTEGER NOT NULL,
    CHECK (refunded = 0 OR (outcome = 'charged' AND refunded BETWEEN 0 AND amount))
) STRICT, WITHOUT ROWID;
CREATE TABLE refunds (
    key BLOB PRIMARY KEY, charge BLOB NOT NULL, amount INTEGER NOT NULL, at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE bookings (
    key BLOB PRIMARY KEY, outcome TEXT NOT NULL, country TEXT, reason TEXT, at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE TABLE attempts (
    step TEXT NOT NULL, key BLOB NOT NULL, count INTEGER NOT NULL, PRIMARY KEY (step, key)
) STRICT, WITHOUT ROWID;
CREATE VIEW statement AS
SELECT 'ch_' || lower(hex(key)) AS charge_id, outcome, amount, currency, refunded,
    strftime('%FT%T', at / 1000, 'unixepoch') || 'Z' AS at
FROM charges;
";

pub(super) fn migrate(connection: &Connection) -> Result<(), OpenError> {
    // Under the write lock: two processes may open a new file at once.
    connection.execute_batch("BEGIN IMMEDIATE")?;
    match connection.pragma_query_value(None, "user_version", |row| row.get(0))? {
        0 => {
            connection.execute_batch(SCHEMA)?;
            connection.pragma_update(None, "user_version", FORMAT)?;
        }
        FORMAT => {}
        newer => return Err(OpenError::Newer(newer)),
    }
    connection.execute_batch("COMMIT")?;
    Ok(())
}

/// The outer error is the file's, the inner one an answer to the caller.
pub(super) type Answer<T> = rusqlite::Result<Result<T, GatewayError>>;

pub(super) struct Ledger<'a> {
    pub(super) db: &'a Connection,
    pub(super) now: DateTime<Utc>,
}

impl Ledger<'_> {
    /// Counts an attempt; answers how many there were, with this one.
    pub(super) fn count_attempt(&self, step: &str, key: Uuid) -> rusqlite::Result<u32> {
        let mut counting = self.db.prepare_cached(
            "INSERT INTO attempts (step, key, count) VALUES (?1, ?2, 1)
             ON CONFLICT DO UPDATE SET count = count + 1 RETURNING count",
        )?;
        counting.query_row(params![step, bytes(&key)], |row| row.get(0))
    }

    pub(super) fn tokenize(&self, key: Uuid, buyer: AccountId, kept: &Kept) -> Answer<PaymentMethod> {
        let known = self.known_token(key)?;
        if known.as_ref().is_some_and(|token| token.buyer != buyer) {
            return Ok(Err(key_reused("token")));
        }
        if let Some(known) = known {
            return Ok(Ok(known.method));
        }
        let mut adding = self.db.prepare_cached("INSERT INTO tokens VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)")?;
        let (payment_type, behaviour) = (type_name(kept.payment_type), behaviour_name(kept.behaviour));
        let at = self.now.timestamp_millis();
        adding.execute(params![
            bytes(&key),
            bytes(&buyer.0),
            payment_type,
            behaviour,
            kept.brand,
            kept.last_four,
            at
        ])?;
        Ok(Ok(PaymentMethod {
            payment_type: kept.payment_type,
            token: id("tok", key),
            brand: kept.brand.map(str::to_owned),
            last_four: kept.last_four.clone(),
        }))
    }

    /// With `refuse` it is declined, whatever the token says.
    pub(super) fn charge(
        &self,
        key: Uuid,
        method: &PaymentMethod,
        amount: Money,
        refuse: bool,
    ) -> Answer<Charge> {
        if amount.amount < 0 {
            return Ok(Err(GatewayError::invalid("amount", "an amount can't be below zero")));
        }
        if let Some(known) = self.known_charge(key)? {
            let same = known.asked.is_none_or(|asked| asked == (method.token.clone(), amount));
            return Ok(if same { Ok(known.charge) } else { Err(key_reused("charge")) });
        }
        let mut wallet = None;
        let outcome = match self.behaviour(method, refuse)? {
            (Behaviour::FailsAtFirst, _) if self.count_attempt("flakyCard", key)? == 1 => {
                return Ok(Err(GatewayError::Unavailable("this card fails at first".to_owned())));
            }
            (Behaviour::Pays | Behaviour::FailsAtFirst, _) => CHARGED,
            (Behaviour::Asks, _) => ACTION_REQUIRED,
            (Behaviour::Declined, _) => DECLINED,
            (Behaviour::InsufficientFunds, _) => INSUFFICIENT_FUNDS,
            (Behaviour::Wallet, buyer) => {
                wallet = Some(buyer);
                if self.take(buyer, amount.amount)? { CHARGED } else { INSUFFICIENT_FUNDS }
            }
        };
        let mut adding =
            self.db.prepare_cached("INSERT INTO charges VALUES (?1, ?2, ?3, ?4, ?5, ?6, 0, ?7)")?;
        adding.execute(params![
            bytes(&key),
            outcome,
            method.token,
            amount.amount,
            amount.currency.as_str(),
            wallet.as_ref().map(bytes),
            self.now.timestamp_millis()
        ])?;
        Ok(Ok(charge_of(key, outcome)))
    }

    pub(super) fn find(&self, key: Uuid) -> Answer<Option<Charge>> {
        Ok(Ok(self.known_charge(key)?.map(|known| known.charge)))
    }

    pub(super) fn cancel(&self, key: Uuid) -> Answer<Cancellation> {
        let Some(known) = self.known_charge(key)? else {
            let mut adding =
                self.db.prepare_cached("INSERT INTO charges (key, outcome, at) VALUES (?1, ?2, ?3)")?;
            adding.execute(params![bytes(&key), CANCELLED, self.now.timestamp_millis()])?;
            return Ok(Ok(Cancellation::Cancelled));
        };
        Ok(Ok(match known.charge {
            Charge::Charged { charge_id } => Cancellation::AlreadyCharged(charge_id),
            Charge::Failed(_) => Cancellation::Cancelled,
            Charge::ActionRequired { .. } => {
                self.end(key, CANCELLED)?;
                Cancellation::Cancelled
            }
        }))
    }

    /// A charge that waits for the buyer ends, one way or the other; one that does not stays as it is.
    fn end(&self, key: Uuid, outcome: &str) -> rusqlite::Result<()> {
        self.db
            .prepare_cached("UPDATE charges SET outcome = ?2 WHERE key = ?1 AND outcome = 'actionRequired'")?
            .execute(params![bytes(&key), outcome])?;
        Ok(())
    }

    pub(super) fn waits(&self, charge_id: &str) -> rusqlite::Result<bool> {
        let Some(key) = key_of("ch", charge_id) else { return Ok(false) };
        let known = self.known_charge(key)?;
        Ok(known.is_some_and(|known| matches!(known.charge, Charge::ActionRequired { .. })))
    }

    pub(super) fn answer(&self, charge_id: &str, confirm: bool) -> rusqlite::Result<Option<Charge>> {
        let Some(key) = key_of("ch", charge_id) else { return Ok(None) };
        self.end(key, if confirm { CHARGED } else { DECLINED })?;
        Ok(self.known_charge(key)?.map(|known| known.charge))
    }

    pub(super) fn refund(&self, key: Uuid, charge_id: &str, amount: Money) -> Answer<String> {
        let unknown = || Ok(Err(GatewayError::invalid("chargeId", "there is no such charge")));
        let Some(charge_key) = key_of("ch", charge_id) else { return unknown() };
        let Some(known) = self.known_charge(charge_key)? else { return unknown() };
        let (Charge::Charged { .. }, Some((_, charged))) = (&known.charge, &known.asked) else {
            return unknown();
        };

        let mut repeated = self.db.prepare_cached("SELECT charge, amount FROM refunds WHERE key = ?1")?;
        let earlier: Option<([u8; 16], i64)> =
            repeated.query_row([bytes(&key)], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        if let Some(earlier) = earlier {
            let same =
                earlier == (*charge_key.as_bytes(), amount.amount) && charged.currency == amount.currency;
            return Ok(if same { Ok(id("re", key)) } else { Err(key_reused("refund")) });
        }

        let left = charged.amount - known.refunded;
        if amount.currency != charged.currency || !(0..=left).contains(&amount.amount) {
            let message = format!("at most {left} {} of this charge can be refunded", charged.currency);
            return Ok(Err(GatewayError::invalid("amount", &message)));
        }
        let at = self.now.timestamp_millis();
        self.db.prepare_cached("INSERT INTO refunds VALUES (?1, ?2, ?3, ?4)")?.execute(params![
            bytes(&key),
            bytes(&charge_key),
            amount.amount,
            at
        ])?;
        self.db
            .prepare_cached("UPDATE charges SET refunded = refunded + ?2 WHERE key = ?1")?
            .execute(params![bytes(&charge_key), amount.amount])?;
        if let Some(buyer) = known.wallet {
            self.db
                .prepare_cached("UPDATE wallets SET balance = balance + ?2 WHERE buyer = ?1")?
                .execute(params![bytes(&buyer), amount.amount])?;
        }
        Ok(Ok(id("re", key)))
    }

    /// `refusal`: why the carrier won't go there, should it not be booked already.
    pub(super) fn book(&self, key: Uuid, country: &str, refusal: Option<&str>) -> Answer<Booking> {
        let mut finding = self.db.prepare_cached("SELECT outcome, reason FROM bookings WHERE key = ?1")?;
        let known: Option<(String, Option<String>)> =
            finding.query_row([bytes(&key)], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
        let (outcome, reason) =
            if let Some(known) = known {
                known
            } else {
                let outcome = if refusal.is_some() { "refused" } else { "booked" };
                self.db
                    .prepare_cached("INSERT INTO bookings VALUES (?1, ?2, ?3, ?4, ?5)")?
                    .execute(params![bytes(&key), outcome, country, refusal, self.now.timestamp_millis()])?;
                (outcome.to_owned(), refusal.map(str::to_owned))
            };
        Ok(Ok(match outcome.as_str() {
            "booked" => Booking::Booked { carrier: "sandbox".to_owned(), booking_id: id("bk", key) },
            _ => {
                Booking::Refused { reason: reason.unwrap_or_else(|| "The booking was cancelled.".to_owned()) }
            }
        }))
    }

    pub(super) fn cancel_booking(&self, key: Uuid) -> Answer<()> {
        self.db
            .prepare_cached(
                "INSERT INTO bookings (key, outcome, at) VALUES (?1, 'cancelled', ?2)
                 ON CONFLICT DO UPDATE SET outcome = 'cancelled' WHERE outcome = 'booked'",
            )?
            .execute(params![bytes(&key), self.now.timestamp_millis()])?;
        Ok(Ok(()))
    }

    pub(super) fn balance(&self, buyer: AccountId) -> rusqlite::Result<i64> {
        let mut finding = self.db.prepare_cached("SELECT balance FROM wallets WHERE buyer = ?1")?;
        let balance = finding.query_row([bytes(&buyer.0)], |row| row.get(0)).optional()?;
        Ok(balance.unwrap_or(OPENING_BALANCE))
    }

    /// Takes `amount` out of the buyer's wallet if it is in there.
    fn take(&self, buyer: Uuid, amount: i64) -> rusqlite::Result<bool> {
        self.db
            .prepare_cached("INSERT OR IGNORE INTO wallets VALUES (?1, ?2)")?
            .execute(params![bytes(&buyer), OPENING_BALANCE])?;
        let mut taking = self
            .db
            .prepare_cached("UPDATE wallets SET balance = balance - ?2 WHERE buyer = ?1 AND balance >= ?2")?;
        Ok(taking.execute(params![bytes(&buyer), amount])? == 1)
    }

    /// How a charge of `method` is to end, and whose method it is.
    fn behaviour(&self, method: &PaymentMethod, refuse: bool) -> rusqlite::Result<(Behaviour, Uuid)> {
        if refuse {
            return Ok((Behaviour::Declined, Uuid::nil()));
        }
        // Settled outside: the sandbox only writes it down.
        if method.payment_type == PaymentType::Invoice {
            return Ok((Behaviour::Pays, Uuid::nil()));
        }
        let token = match key_of("tok", &method.token) {
            Some(key) => self.known_token(key)?,
            None => None,
        };
        Ok(token.map_or_else(
            || {
                tracing::warn!(token = method.token, "the sandbox never gave out this token: declined");
                (Behaviour::Declined, Uuid::nil())
            },
            |token| (token.behaviour, token.buyer.0),
        ))
    }

    fn known_token(&self, key: Uuid) -> rusqlite::Result<Option<KnownToken>> {
        let mut finding = self.db.prepare_cached(
            "SELECT buyer, payment_type, behaviour, brand, last_four FROM tokens WHERE key = ?1",
        )?;
        let read = |row: &Row<'_>| {
            Ok(KnownToken {
                buyer: AccountId(Uuid::from_bytes(row.get(0)?)),
                behaviour: behaviour_of(row.get_ref(2)?.as_str()?),
                method: PaymentMethod {
                    payment_type: type_of(row.get_ref(1)?.as_str()?),
                    token: id("tok", key),
                    brand: row.get(3)?,
                    last_four: row.get(4)?,
                },
            })
        };
        finding.query_row([bytes(&key)], read).optional()
    }

    fn known_charge(&self, key: Uuid) -> rusqlite::Result<Option<KnownCharge>> {
        let mut finding = self.db.prepare_cached(
            "SELECT outcome, token, amount, currency, wallet, refunded FROM charges WHERE key = ?1",
        )?;
        let read = |row: &Row<'_>| {
            let token: Option<String> = row.get(1)?;
            let amount: Option<i64> = row.get(2)?;
            let currency = row.get_ref(3)?.as_str_or_null()?.and_then(|text| text.parse().ok());
            Ok(KnownCharge {
                charge: charge_of(key, row.get_ref(0)?.as_str()?),
                asked: token
                    .zip(amount.zip(currency))
                    .map(|(token, (amount, currency))| (token, Money::new(amount, currency))),
                wallet: row.get::<_, Option<_>>(4)?.map(Uuid::from_bytes),
                refunded: row.get(5)?,
            })
        };
        finding.query_row([bytes(&key)], read).optional()
    }
}

struct KnownToken {
    buyer: AccountId,
    behaviour: Behaviour,
    method: PaymentMethod,
}

struct KnownCharge {
    charge: Charge,
    /// The token and the amount; `None` if the key was cancelled before it was asked for anything.
    asked: Option<(String, Money)>,
    wallet: Option<Uuid>,
    refunded: i64,
}

fn bytes(id: &Uuid) -> &[u8] {
    id.as_bytes()
}

fn id(kind: &str, key: Uuid) -> String {
    format!("{kind}_{}", key.simple())
}

fn key_of(kind: &str, id: &str) -> Option<Uuid> {
    id.strip_prefix(kind)?.strip_prefix('_')?.parse().ok()
}

fn key_reused(what: &str) -> GatewayError {
    GatewayError::invalid("key", &format!("this key belongs to another {what}"))
}

const CHARGED: &str = "charged";
const DECLINED: &str = "cardDeclined";
const INSUFFICIENT_FUNDS: &str = "insufficientFunds";
const CANCELLED: &str = "cancelled";
const ACTION_REQUIRED: &str = "actionRequired";

fn charge_of(key: Uuid, outcome: &str) -> Charge {
    match outcome {
        CHARGED => Charge::Charged { charge_id: id("ch", key) },
        ACTION_REQUIRED => Charge::ActionRequired { charge_id: id("ch", key) },
        INSUFFICIENT_FUNDS => Charge::Failed(FailureReason::InsufficientFunds),
        CANCELLED => Charge::Failed(FailureReason::Cancelled),
        _ => Charge::Failed(FailureReason::CardDeclined),
    }
}

fn behaviour_name(behaviour: Behaviour) -> &'static str {
    match behaviour {
        Behaviour::Pays => "pays",
        Behaviour::FailsAtFirst => "failsAtFirst",
        Behaviour::Declined => "declined",
        Behaviour::InsufficientFunds => "insufficientFunds",
        Behaviour::Asks => "asks",
        Behaviour::Wallet => "wallet",
    }
}

fn behaviour_of(name: &str) -> Behaviour {
    match name {
        "pays" => Behaviour::Pays,
        "failsAtFirst" => Behaviour::FailsAtFirst,
        "insufficientFunds" => Behaviour::InsufficientFunds,
        "asks" => Behaviour::Asks,
        "wallet" => Behaviour::Wallet,
        _ => Behaviour::Declined,
    }
}

fn type_name(payment_type: PaymentType) -> &'static str {
    match payment_type {
        PaymentType::Card => "card",
        PaymentType::Upi => "upi",
        PaymentType::Wallet => "wallet",
        PaymentType::Invoice => "invoice",
    }
}

fn type_of(name: &str) -> PaymentType {
    match name {
        "upi" => PaymentType::Upi,
        "wallet" => PaymentType::Wallet,
        "invoice" => PaymentType::Invoice,
        _ => PaymentType::Card,
    }
}
