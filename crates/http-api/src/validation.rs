//! Checks of what came in. A [`Validation`] gathers what is wrong with any field, so that all of it is said at once.

use std::{borrow::Cow, fmt::Display, ops::RangeInclusive};

use serde::{Deserialize, Serialize};
use souk_domain::{Currency, Money, Sku};
use utoipa::ToSchema;

use crate::problem::{FieldError, Problem};

/// A reason why a value won't do, as a sentence.
pub(crate) type Refusal = Cow<'static, str>;

#[derive(Debug, Default)]
pub(crate) struct Validation(Vec<FieldError>);

impl Validation {
    pub(crate) fn fail(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.0.push(FieldError::new(field, message));
    }

    /// A value that must be there, whatever it is.
    pub(crate) fn present<T>(&mut self, field: &str, value: Option<T>) -> Option<T> {
        if value.is_none() {
            self.fail(field, "This is required.");
        }
        value
    }

    /// A value that must be there.
    pub(crate) fn required<T, U, E: Display>(
        &mut self,
        field: impl Into<String>,
        value: Option<T>,
        parse: impl FnOnce(T) -> Result<U, E>,
    ) -> Option<U> {
        let field = field.into();
        let value = self.present(&field, value);
        self.optional(field, value, parse)
    }

    /// A value that may be left out. `None` also of a bad one; [`Self::is_clean`] knows.
    pub(crate) fn optional<T, U, E: Display>(
        &mut self,
        field: impl Into<String>,
        value: Option<T>,
        parse: impl FnOnce(T) -> Result<U, E>,
    ) -> Option<U> {
        match parse(value?) {
            Ok(value) => Some(value),
            Err(refusal) => {
                self.fail(field, refusal.to_string());
                None
            }
        }
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn finish(self) -> Result<(), Problem> {
        if self.is_clean() { Ok(()) } else { Err(self.into()) }
    }
}

impl From<Validation> for Problem {
    fn from(validation: Validation) -> Self {
        Self::invalid_fields(validation.0)
    }
}

/// A line of text of so many characters, without white space at its ends.
pub(crate) fn line(length: RangeInclusive<usize>) -> impl Fn(String) -> Result<String, Refusal> {
    move |text| {
        if text.chars().any(char::is_control) {
            return Err("This must not hold control characters.".into());
        }
        measured(&text, &length)
    }
}

/// As [`line`], on any number of lines.
pub(crate) fn prose(length: RangeInclusive<usize>) -> impl Fn(String) -> Result<String, Refusal> {
    move |text| {
        if text.chars().any(|char| char.is_control() && !matches!(char, '\n' | '\r' | '\t')) {
            return Err("This must not hold control characters.".into());
        }
        measured(&text, &length)
    }
}

fn measured(text: &str, length: &RangeInclusive<usize>) -> Result<String, Refusal> {
    let text = text.trim();
    match (text.chars().count(), length.start()) {
        (count, _) if length.contains(&count) => Ok(text.to_owned()),
        (0, _) => Err("This must not be empty.".into()),
        (_, 0) => Err(format!("This has {} characters at most.", length.end()).into()),
        (_, least) => Err(format!("This has {least} to {} characters.", length.end()).into()),
    }
}

/// An address that mail could be sent to, in lower case: one account per address, however it is written.
pub(crate) fn email(text: String) -> Result<String, Refusal> {
    let text = text.trim().to_lowercase();
    let refusal = || Err("This is not an e-mail address.".into());
    let Some((local, domain)) = text.rsplit_once('@') else { return refusal() };
    let odd = |char: char| {
        char.is_whitespace() || char.is_control() || matches!(char, '<' | '>' | ',' | ';' | '"' | '@')
    };
    let labels_ok = domain.split('.').all(|label| {
        !label.is_empty()
            && !label.starts_with('-')
            && label.chars().all(|char| char.is_alphanumeric() || char == '-')
    });
    if local.is_empty()
        || local.len() > 64
        || text.len() > 254
        || text.chars().filter(|char| odd(*char)).count() != 1
        || !labels_ok
    {
        return refusal();
    }
    Ok(text)
}

/// Any characters, as long as there are enough and Argon2 is not kept busy for nothing.
pub(crate) fn password(text: String) -> Result<String, Refusal> {
    if (8..=200).contains(&text.chars().count()) {
        Ok(text)
    } else {
        Err("A password has 8 to 200 characters.".into())
    }
}

pub(crate) fn sku(text: String) -> Result<Sku, Refusal> {
    Sku::parse(&text)
        .map_err(|_| "A SKU is 1 to 64 printable characters without white space at its ends.".into())
}

/// An id in a body; one that could not be anybody's is as unknown as any other, but said to be invalid.
pub(crate) fn id<T: std::str::FromStr>(text: String) -> Result<T, Refusal> {
    text.parse().map_err(|_| "This is not an id.".into())
}

/// Two capital letters, as in ISO 3166-1.
pub(crate) fn country(text: String) -> Result<String, Refusal> {
    if text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_uppercase()) {
        Ok(text)
    } else {
        Err("A country is two capital letters, as in ISO 3166-1.".into())
    }
}

/// How much there is of something new.
pub(crate) fn quantity(value: i64) -> Result<u32, Refusal> {
    if (0..=i64::from(i32::MAX)).contains(&value) {
        Ok(value as u32)
    } else {
        Err(format!("A quantity is between 0 and {}.", i32::MAX).into())
    }
}

/// Money as it stands in bodies: integer minor units of a currency.
#[derive(Clone, Debug, Deserialize, Serialize, ToSchema)]
#[schema(as = Money)]
pub(crate) struct MoneyBody {
    /// In minor units: cents, pence, paise.
    #[schema(value_type = i64, example = 1599)]
    pub(crate) amount: Option<i64>,
    /// Three capital letters, as in ISO 4217.
    #[schema(value_type = String, example = "USD")]
    pub(crate) currency: Option<String>,
}

impl From<Money> for MoneyBody {
    fn from(money: Money) -> Self {
        Self { amount: Some(money.amount), currency: Some(money.currency.to_string()) }
    }
}

/// No price and no total reaches this: sums of prices stay exact in every view.
const MAX_AMOUNT: i64 = 1_000_000_000_000;

impl Validation {
    /// A positive amount of money.
    pub(crate) fn money(&mut self, field: &str, value: Option<MoneyBody>) -> Option<Money> {
        self.money_from(1, field, value)
    }

    /// An amount of money that may be nothing.
    pub(crate) fn money_or_none(&mut self, field: &str, value: Option<MoneyBody>) -> Option<Money> {
        self.money_from(0, field, value)
    }

    fn money_from(&mut self, least: i64, field: &str, value: Option<MoneyBody>) -> Option<Money> {
        let value = value?;
        let amount = self.required(format!("{field}.amount"), value.amount, |amount| {
            if (least..=MAX_AMOUNT).contains(&amount) {
                Ok(amount)
            } else {
                Err(format!("An amount is between {least} and {MAX_AMOUNT} minor units."))
            }
        });
        let currency =
            self.required(format!("{field}.currency"), value.currency, |text| text.parse::<Currency>());
        Some(Money::new(amount?, currency?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for good in ["a@b.example", "First.Last+tag@sub.example.co", "ü@exämple.org", "root@localhost"] {
            assert!(email(good.into()).is_ok(), "{good}");
        }
        for bad in [
            "",
            "a",
            "@b.example",
            "a@",
            "a@b..example",
            "a b@c.example",
            "a@b@c.example",
            "a@-b.example",
            "a\n@b.example",
            "<a@b.example>",
        ] {
            assert!(email(bad.into()).is_err(), "{bad}");
        }
        assert_eq!(email(" Ann@Example.ORG ".into()).unwrap(), "ann@example.org");
    }

    #[test]
    fn every_wrong_field_is_named() {
        let mut check = Validation::default();
        assert_eq!(check.required("name", Some(" x ".to_owned()), line(1..=10)).as_deref(), Some("x"));
        assert_eq!(check.required("gone", None::<String>, line(1..=10)), None);
        assert_eq!(check.required("long", Some("x".repeat(11)), line(1..=10)), None);
        assert_eq!(check.required("nul", Some("a\0b".to_owned()), line(1..=10)), None);
        assert_eq!(check.optional("absent", None::<String>, line(1..=10)), None);
        let money = MoneyBody { amount: Some(0), currency: Some("usd".into()) };
        assert_eq!(check.money("price", Some(money)), None);
        let problem = Problem::from(check);
        let fields: Vec<_> = problem.errors().iter().map(|error| error.field.as_str()).collect();
        assert_eq!(fields, ["gone", "long", "nul", "price.amount", "price.currency"]);
    }

    #[test]
    fn bounds() {
        assert_eq!(quantity(0).unwrap(), 0);
        assert!(quantity(-1).is_err() && quantity(i64::from(i32::MAX) + 1).is_err());
        assert!(
            country("IN".into()).is_ok() && country("in".into()).is_err() && country("IND".into()).is_err()
        );
        assert!(password("1234567".into()).is_err() && password("x".repeat(201)).is_err());
        assert_eq!(password(" spaces count ".into()).unwrap(), " spaces count ");
        assert!(prose(0..=10)("a\nb".into()).is_ok() && line(0..=10)("a\nb".into()).is_err());
    }
}
