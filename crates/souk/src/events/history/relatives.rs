//! What led to an event. It names its cause by an id, of an event or of a command, and there is no index of these over the
//! whole log; but causes are found in the streams that belong to the same order.

use std::collections::{HashMap, HashSet};

use futures::StreamExt;
use serde_json::Value;
use souk_event_log::{Direction, EventLog, Recorded, StreamName};
use uuid::Uuid;

use super::words;

#[derive(Default)]
pub(super) struct Relatives {
    /// By id, and by that of the command that they came from.
    told: HashMap<Uuid, String>,
    read: HashSet<StreamName>,
}

impl Relatives {
    /// In words; none if nothing led to it but a request.
    pub(super) async fn cause(
        &mut self,
        log: &dyn EventLog,
        event: &Recorded,
        data: &Value,
    ) -> anyhow::Result<Option<String>> {
        let Some(cause) = event.metadata().causation_id else {
            self.remember(event);
            return Ok(None);
        };
        for stream in relatives(&event.stream, data) {
            if !self.told.contains_key(&cause) && self.read.insert(stream.clone()) {
                let mut events = log.read_stream(&stream, 0, Direction::Forward, usize::MAX);
                while let Some(event) = events.next().await {
                    self.remember(&*event?);
                }
            }
        }
        let told = self.told.get(&cause).cloned();
        self.remember(event);
        Ok(told)
    }

    fn remember(&mut self, event: &Recorded) {
        let words =
            format!("{} ({}, revision {})", words::of_name(&event.event_type), event.stream, event.revision);
        if let Some(command) = event.metadata().command_id {
            // Of several events of one command, the first speaks for all.
            self.told.entry(command).or_insert_with(|| words.clone());
        }
        self.told.insert(event.id, words);
    }
}

/// The streams of the order that the event belongs to. Those of stock are left out: they are long, and what a checkout
/// learnt from them it says itself.
fn relatives(stream: &StreamName, data: &Value) -> Vec<StreamName> {
    let text = |name: &str| data.get(name).and_then(Value::as_str);
    let order = match stream.category() {
        "order" | "payment" | "checkout" => Some(stream.id()),
        // The order's id and the seller's.
        "shipment" | "return" => stream.id().get(..36),
        _ => text("orderId"),
    };
    let mut relatives = Vec::new();
    if let Some(order) = order {
        relatives.extend(["checkout", "order", "payment"].map(|category| StreamName::new(category, order)));
        let facts = data.get("learnt").and_then(Value::as_array).into_iter().flatten();
        let sellers = facts.filter_map(|fact| fact.get("sellerId").and_then(Value::as_str));
        relatives.extend(sellers.map(|seller| StreamName::new("shipment", format!("{order}-{seller}"))));
    }
    relatives.extend(text("cartId").map(|cart| StreamName::new("cart", cart)));
    relatives
}
