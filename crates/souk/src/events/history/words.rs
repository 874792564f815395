//! Events in words: names without their capitals, money in units that people pay in, lists line by line.

use serde_json::{Map, Value};

/// Characters of one text; what is longer is read with `souk events read --json`.
const LONGEST: usize = 120;

/// `OrderReadyToShip` as `order ready to ship`.
pub(super) fn of_name(name: &str) -> String {
    let mut words = String::with_capacity(name.len() + 4);
    for (place, sign) in name.chars().enumerate() {
        if sign.is_uppercase() && place > 0 {
            words.push(' ');
        }
        words.extend(sign.to_lowercase());
    }
    words
}

/// `process:checkout` as `the checkout process`.
pub(super) fn of_actor(actor: &str) -> String {
    match actor.split_once(':') {
        Some(("account", id)) => format!("account {id}"),
        Some((kind @ ("process" | "worker"), name)) => format!("the {name} {kind}"),
        None if actor == "import" => "an import".to_owned(),
        None if actor == "anonymous" => "somebody who was not logged in".to_owned(),
        _ => actor.to_owned(),
    }
}

/// A line for each field, and one for each entry of a list of things.
pub(super) fn of_data(data: &Value) -> Vec<String> {
    let mut lines = Vec::new();
    for (name, value) in data.as_object().into_iter().flatten() {
        let label = of_name(name);
        match value {
            Value::Array(entries) if entries.iter().any(Value::is_object) => {
                lines.push(format!("{label}:"));
                lines.extend(entries.iter().map(|entry| format!("  - {}", of_value(name, entry))));
            }
            value => lines.push(format!("{label}: {}", of_value(name, value))),
        }
    }
    lines
}

fn of_value(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "none".to_owned(),
        Value::String(text) if text.is_empty() => "none".to_owned(),
        Value::Bool(yes) => (if *yes { "yes" } else { "no" }).to_owned(),
        Value::Number(number) => number.to_string(),
        Value::String(text) if is_code(name, text) => of_name(text),
        Value::String(text) => shortened(text),
        Value::Array(entries) if entries.is_empty() => "none".to_owned(),
        Value::Array(entries) => {
            entries.iter().map(|entry| of_value(name, entry)).collect::<Vec<_>>().join(", ")
        }
        Value::Object(fields) => of_object(fields),
    }
}

fn of_object(fields: &Map<String, Value>) -> String {
    let text = |name: &str| fields.get(name).and_then(Value::as_str);
    let number = |name: &str| fields.get(name).and_then(Value::as_i64);
    if let (2, Some(amount), Some(currency)) = (fields.len(), number("amount"), text("currency")) {
        return money(amount, currency);
    }
    if let (Some(_), Some(subject)) = (text("sealed"), text("subject")) {
        return format!("sealed, under the key of account {subject}");
    }
    if let (Some(quantity), Some(name), Some(sku), Some(price)) =
        (number("quantity"), text("name"), text("sku"), fields.get("unitPrice"))
    {
        return format!("{quantity} × {} ({sku}) at {}", shortened(name), of_value("unitPrice", price));
    }
    let mut parts = Vec::new();
    let mut head = None;
    for (name, value) in fields {
        match (name.as_str(), value) {
            ("fact" | "effect", Value::String(what)) => head = Some(of_name(what)),
            (_, Value::Object(_)) => parts.push(format!("{} ({})", of_name(name), of_value(name, value))),
            _ => parts.push(format!("{} {}", of_name(name), of_value(name, value))),
        }
    }
    match (head, parts.is_empty()) {
        (Some(head), true) => head,
        (Some(head), false) => format!("{head} ({})", parts.join(", ")),
        (None, _) => parts.join(", "),
    }
}

/// A word of ours, such as `outOfStock`, rather than somebody's text.
fn is_code(name: &str, text: &str) -> bool {
    matches!(name, "reason" | "role" | "paymentType") && text.chars().all(|sign| sign.is_ascii_alphabetic())
}

/// 1599 of USD as `15.99 USD`, by the minor units of ISO 4217.
fn money(amount: i64, currency: &str) -> String {
    let digits = match currency {
        "BIF" | "CLP" | "DJF" | "GNF" | "ISK" | "JPY" | "KMF" | "KRW" | "PYG" | "RWF" | "UGX" | "UYI"
        | "VND" | "VUV" | "XAF" | "XOF" | "XPF" => 0,
        "BHD" | "IQD" | "JOD" | "KWD" | "LYD" | "OMR" | "TND" => 3,
        _ => 2,
    };
    if digits == 0 {
        return format!("{amount} {currency}");
    }
    let (sign, units) = (if amount < 0 { "-" } else { "" }, 10_u64.pow(digits));
    let (whole, rest) = (amount.unsigned_abs() / units, amount.unsigned_abs() % units);
    format!("{sign}{whole}.{rest:0width$} {currency}", width = digits as usize)
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{} …", &text[..end]),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn names_become_words() {
        assert_eq!(of_name("OrderReadyToShip"), "order ready to ship");
        assert_eq!(of_name("unitPrice"), "unit price");
        for (actor, words) in [
            ("account:1", "account 1"),
            ("process:checkout", "the checkout process"),
            ("worker:payment", "the payment worker"),
            ("import", "an import"),
            ("anonymous", "somebody who was not logged in"),
            ("another", "another"),
        ] {
            assert_eq!(of_actor(actor), words);
        }
    }

    #[test]
    fn money_is_in_the_units_that_people_pay_in() {
        for (amount, currency, words) in [
            (1599, "USD", "15.99 USD"),
            (5, "GBP", "0.05 GBP"),
            (-1599, "EUR", "-15.99 EUR"),
            (1599, "JPY", "1599 JPY"),
            (1599, "KWD", "1.599 KWD"),
        ] {
            assert_eq!(money(amount, currency), words);
        }
    }

    #[test]
    fn data_is_told_line_by_line() {
        let data = json!({
            "buyerId": "b",
            "lines": [
                {"itemId": "i", "sku": "red", "name": "Pot", "quantity": 2, "unitPrice": {"amount": 1599, "currency": "USD"}},
            ],
            "shipTo": {"country": "IN", "address": {"subject": "b", "sealed": "…"}},
            "payment": {"paymentType": "upi", "token": "t"},
            "learnt": [{"fact": "stockReserved", "skuId": "s"}, {"fact": "paymentCompleted"}],
            "decided": [],
            "reason": "outOfStock",
            "sellers": ["a", "b"],
            "description": "ä".repeat(500),
        });
        let mut lines = of_data(&data);
        lines.sort();
        let description = format!("description: {} …", "ä".repeat(LONGEST));
        let mut expected = [
            "buyer id: b",
            "lines:",
            "  - 2 × Pot (red) at 15.99 USD",
            "ship to: address (sealed, under the key of account b), country IN",
            "payment: payment type upi, token t",
            "learnt:",
            "  - stock reserved (sku id s)",
            "  - payment completed",
            "decided: none",
            "reason: out of stock",
            "sellers: a, b",
            &description,
        ];
        expected.sort_unstable();
        assert_eq!(lines, expected);
        assert_eq!(of_data(&json!({"reason": "Found in the back room"})), ["reason: Found in the back room"]);
        assert!(of_data(&Value::Null).is_empty());
    }
}
