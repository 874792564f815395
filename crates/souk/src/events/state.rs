//! `souk events state`: what the events of one stream add up to, now or as of then.

use std::io::{self, Write};

use anyhow::bail;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use serde::Serialize;
use souk_commands::checkout::Checkout;
use souk_domain::{
    Decider, DomainEvent, account::Account, cart::Cart, credit::Credit, inventory::Inventory, item::Item,
    ledger::Ledger, order::Orders, payment::Payment, promotion::Promotion, returns::Returns, search,
    shipment::Shipment, synonyms::Synonyms,
};
use souk_event_log::{At, Direction, EventLog, StreamName};

pub(super) async fn state(log: &dyn EventLog, stream: &str, at: Option<At>) -> anyhow::Result<()> {
    let stream = StreamName::parse(stream)?;
    match stream.category() {
        Item::CATEGORY => fold::<Item>(log, &stream, at).await,
        Inventory::CATEGORY => fold::<Inventory>(log, &stream, at).await,
        Cart::CATEGORY => fold::<Cart>(log, &stream, at).await,
        Orders::CATEGORY => fold::<Orders>(log, &stream, at).await,
        Payment::CATEGORY => fold::<Payment>(log, &stream, at).await,
        Shipment::CATEGORY => fold::<Shipment>(log, &stream, at).await,
        Synonyms::CATEGORY => fold::<Synonyms>(log, &stream, at).await,
        Returns::CATEGORY => fold::<Returns>(log, &stream, at).await,
        Ledger::CATEGORY => fold::<Ledger>(log, &stream, at).await,
        Promotion::CATEGORY => fold::<Promotion>(log, &stream, at).await,
        Credit::CATEGORY => fold::<Credit>(log, &stream, at).await,
        Account::CATEGORY => fold::<Account>(log, &stream, at).await,
        Checkout::CATEGORY => fold::<Checkout>(log, &stream, at).await,
        search::CATEGORY => bail!("what people searched for adds up to no state; read the stream"),
        other => bail!("there is no category {other}"),
    }
}

/// What a stream's events add up to.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Folded<S> {
    stream: String,
    revision: u64,
    position: u64,
    recorded_at: DateTime<Utc>,
    state: S,
}

async fn fold<D: Decider>(log: &dyn EventLog, stream: &StreamName, at: Option<At>) -> anyhow::Result<()> {
    let mut events = log.read_stream(stream, 0, Direction::Forward, usize::MAX);
    let (mut state, mut last) = (D::State::default(), None);
    while let Some(event) = events.next().await {
        let event = event?;
        if at.is_some_and(|at| !at.has(&event)) {
            break;
        }
        let version = event.metadata().schema_version.max(1);
        state = D::evolve(state, &D::Event::from_json(&event.event_type, version, &event.data)?);
        last = Some(event);
    }
    let Some(last) = last else {
        bail!("there is no stream {stream}{}", at.map_or("", |_| " yet at that time"))
    };
    let state = Folded {
        stream: stream.to_string(),
        revision: last.revision,
        position: last.position,
        recorded_at: last.recorded_at,
        state,
    };
    let mut output = io::stdout().lock();
    serde_json::to_writer_pretty(&mut output, &state)?;
    Ok(writeln!(output)?)
}
