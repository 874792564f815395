//! `souk events history`: the story of one stream, in words: when, who, what, and what led to it.

use std::io::{self, Write};

use anyhow::bail;
use chrono::SecondsFormat;
use futures::StreamExt;
use serde_json::Value;
use souk_event_log::{Direction, EventLog, Recorded, StreamName};

/// Characters of one value; what is longer is read with `souk events read --json`.
const LONGEST: usize = 120;

pub(crate) async fn history(log: &dyn EventLog, stream: &str) -> anyhow::Result<()> {
    let stream = StreamName::parse(stream)?;
    let mut events = log.read_stream(&stream, 0, Direction::Forward, usize::MAX);
    let mut output = io::stdout().lock();
    let mut any = false;
    while let Some(event) = events.next().await {
        any = true;
        tell(&mut output, &*event?)?;
    }
    if !any {
        bail!("there is no stream {stream}");
    }
    Ok(())
}

fn tell(output: &mut dyn Write, event: &Recorded) -> io::Result<()> {
    let metadata = event.metadata();
    let at = metadata.occurred_at.unwrap_or(event.recorded_at).to_rfc3339_opts(SecondsFormat::Millis, true);
    let who = metadata.actor.as_deref().unwrap_or("somebody");
    writeln!(output, "{at}  {}  by {who}", words(&event.event_type))?;
    let mut places = vec![format!("revision {}", event.revision), format!("position {}", event.position)];
    places.extend(metadata.causation_id.map(|cause| format!("because of {cause}")));
    places.extend(metadata.correlation_id.map(|request| format!("in the course of {request}")));
    writeln!(output, "    {}", places.join(", "))?;
    if let Ok(Value::Object(fields)) = serde_json::from_slice(&event.data) {
        for (name, value) in &fields {
            writeln!(output, "    {}: {}", words(name), shown(value))?;
        }
    }
    Ok(())
}

/// `OrderReadyToShip` as `order ready to ship`.
fn words(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 4);
    for (place, sign) in name.chars().enumerate() {
        if sign.is_uppercase() && place > 0 {
            words.push(' ');
        }
        words.extend(sign.to_lowercase());
    }
    words
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Object(money) if money.len() == 2 && money.contains_key("currency") => {
            let (amount, currency) =
                (money.get("amount").and_then(Value::as_i64), money["currency"].as_str());
            match (amount, currency) {
                (Some(amount), Some(currency)) => format!("{amount} minor units of {currency}"),
                _ => value.to_string(),
            }
        }
        value => value.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_become_words() {
        assert_eq!(words("OrderReadyToShip"), "order ready to ship");
        assert_eq!(words("unitPrice"), "unit price");
    }

    #[test]
    fn values_are_for_people() {
        assert_eq!(shown(&json!({ "amount": 1599, "currency": "USD" })), "1599 minor units of USD");
        assert_eq!(shown(&json!("ä".repeat(500))), format!("{} …", "ä".repeat(LONGEST)));
    }
}
