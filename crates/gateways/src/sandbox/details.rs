//! What the buyer entered: is it well-formed, what may be kept of it, and how will the sandbox treat it.

use chrono::{DateTime, Datelike, Utc};
use souk_domain::payment::PaymentType;

use crate::{GatewayError, PaymentDetails, Secret};

/// All that is kept of payment details.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) payment_type: PaymentType,
    pub(super) behaviour: Behaviour,
    pub(super) brand: Option<&'static str>,
    pub(super) last_four: Option<String>,
}

/// How charges of a token end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    Pays,
    /// The first attempt under each key is unavailable, then it pays.
    FailsAtFirst,
    Declined,
    InsufficientFunds,
    /// Pays once the buyer has confirmed it.
    Asks,
    /// Pays as far as the buyer's balance goes.
    Wallet,
}

pub(super) fn check(details: &PaymentDetails, now: DateTime<Utc>) -> Result<Kept, GatewayError> {
    match details {
        PaymentDetails::Card { card_no, expiry, cvc } => {
            let digits = Card::read(card_no, expiry, cvc, now)?.digits;
            let behaviour = match digits.as_str() {
                "4242424242424242" => Behaviour::Pays,
                "4000000000009995" => Behaviour::InsufficientFunds,
                "4000000000000119" => Behaviour::FailsAtFirst,
                "4000002500003155" => Behaviour::Asks,
                // 4000000000000002, and whatever else is well-formed: a sandbox must not seem to take a real card.
                _ => Behaviour::Declined,
            };
            Ok(Kept {
                payment_type: PaymentType::Card,
                behaviour,
                brand: brand(&digits),
                last_four: Some(digits[digits.len() - 4..].to_owned()),
            })
        }
        PaymentDetails::CardToken { token } => {
            let (behaviour, last_four) = match token.as_str() {
                "pm_card_visa" => (Behaviour::Pays, "4242"),
                "pm_card_visa_chargeDeclined" => (Behaviour::Declined, "0002"),
                "pm_card_authenticationRequired" => (Behaviour::Asks, "3155"),
                _ => return Err(GatewayError::invalid(TOKEN, "The sandbox does not know this token.")),
            };
            Ok(Kept {
                payment_type: PaymentType::Card,
                behaviour,
                brand: Some("visa"),
                last_four: Some(last_four.to_owned()),
            })
        }
        PaymentDetails::Upi { vpa } => {
            let vpa = vpa.trim();
            if !is_vpa(vpa) {
                return Err(GatewayError::invalid("paymentInfo.vpa", "A UPI address looks like name@bank."));
            }
            let pays = vpa.eq_ignore_ascii_case("success@upi");
            Ok(Kept {
                payment_type: PaymentType::Upi,
                behaviour: if pays { Behaviour::Pays } else { Behaviour::Declined },
                brand: None,
                last_four: None,
            })
        }
        PaymentDetails::Wallet => Ok(Kept {
            payment_type: PaymentType::Wallet,
            behaviour: Behaviour::Wallet,
            brand: None,
            last_four: None,
        }),
    }
}

/// Card details that are well-formed.
pub(crate) struct Card {
    pub(crate) digits: zeroize::Zeroizing<String>,
    pub(crate) month: u32,
    pub(crate) year: i32,
}

impl Card {
    pub(crate) fn read(
        card_no: &Secret,
        expiry: &str,
        cvc: &Secret,
        now: DateTime<Utc>,
    ) -> Result<Self, GatewayError> {
        let digits = card_digits(card_no.expose())
            .ok_or_else(|| GatewayError::invalid(CARD_NO, "This is not a card number."))?;
        let (year, month) = check_expiry(expiry, now)?;
        if !matches!(cvc.expose().len(), 3 | 4) || !all_digits(cvc.expose()) {
            return Err(GatewayError::invalid("paymentInfo.cvc", "The check code has three or four digits."));
        }
        Ok(Self { digits, month, year })
    }
}

const TOKEN: &str = "paymentInfo.token";
const CARD_NO: &str = "paymentInfo.cardNo";
const EXPIRY: &str = "paymentInfo.expiry";

/// What a refused entry is called, when the script says to refuse it.
pub(super) fn refused_field(details: &PaymentDetails) -> &'static str {
    match details {
        PaymentDetails::Card { .. } => CARD_NO,
        PaymentDetails::CardToken { .. } => TOKEN,
        PaymentDetails::Upi { .. } => "paymentInfo.vpa",
        PaymentDetails::Wallet => "paymentInfo.paymentType",
    }
}

fn all_digits(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The digits of a card number, without the spaces and hyphens people put between them; `None` if it can't be one
/// (ISO/IEC 7812: up to 19 digits, the last a check digit; the shortest in use have 13).
fn card_digits(text: &str) -> Option<zeroize::Zeroizing<String>> {
    let digits =
        zeroize::Zeroizing::new(text.chars().filter(|char| !matches!(char, ' ' | '-')).collect::<String>());
    ((13..=19).contains(&digits.len()) && all_digits(&digits) && luhn(&digits)).then_some(digits)
}

/// From the right, every second digit is doubled (and its digits added); the sum is a multiple of ten.
fn luhn(digits: &str) -> bool {
    let sum: u32 = digits
        .bytes()
        .rev()
        .map(|byte| u32::from(byte - b'0'))
        .enumerate()
        .map(|(place, digit)| if place % 2 == 1 { digit * 2 / 10 + digit * 2 % 10 } else { digit })
        .sum();
    sum.is_multiple_of(10)
}

/// By the issuer's first digits, as the networks publish them; the more special range first.
fn brand(digits: &str) -> Option<&'static str> {
    let first =
        |length: usize| digits.get(..length).and_then(|prefix| prefix.parse::<u32>().ok()).unwrap_or(0);
    Some(match (first(1), first(2), first(3), first(4)) {
        (4, ..) => "visa",
        (_, 51..=55, ..) | (_, _, _, 2221..=2720) => "mastercard",
        (_, 34 | 37, ..) => "amex",
        (_, _, _, 6011) | (_, _, 644..=649, _) | (_, 65, ..) => "discover",
        (_, 36 | 38 | 39, ..) | (_, _, 300..=305, _) => "diners",
        (_, _, _, 3528..=3589) => "jcb",
        (_, 62, ..) => "unionpay",
        (_, 60 | 81 | 82, ..) | (_, _, 508, _) => "rupay",
        (_, 50 | 56..=58 | 63 | 67, ..) => "maestro",
        _ => return None,
    })
}

/// A card is good until its month has ended.
fn check_expiry(expiry: &str, now: DateTime<Utc>) -> Result<(i32, u32), GatewayError> {
    let (year, month) = parse_expiry(expiry)
        .ok_or_else(|| GatewayError::invalid(EXPIRY, "The expiry date is written MM/YY or MM/YYYY."))?;
    if (year, month) < (now.year(), now.month()) {
        return Err(GatewayError::invalid(EXPIRY, "The card has expired."));
    }
    Ok((year, month))
}

fn parse_expiry(text: &str) -> Option<(i32, u32)> {
    let (month, year) = text.split_once('/')?;
    let (month, year) = (month.trim(), year.trim());
    if month.len() != 2 || !all_digits(month) || !matches!(year.len(), 2 | 4) || !all_digits(year) {
        return None;
    }
    let month = month.parse().ok().filter(|month| (1..=12).contains(month))?;
    let century = if year.len() == 2 { 2000 } else { 0 };
    Some((century + year.parse::<i32>().ok()?, month))
}

/// A virtual payment address: a name and the handle of the bank that keeps it.
fn is_vpa(text: &str) -> bool {
    let Some((name, bank)) = text.split_once('@') else { return false };
    (1..=255).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'))
        && (2..=64).contains(&bank.len())
        && bank.starts_with(|char: char| char.is_ascii_alphabetic())
        && bank.bytes().all(|byte| byte.is_ascii_alphanumeric())
}

#[cfg(test)]
mod tests {
    use chrono::TimeZone;
    use proptest::prelude::*;

    use super::*;
    fn now() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 7, 15, 12, 0, 0).unwrap()
    }

    fn card(card_no: &str, expiry: &str, cvc: &str) -> Result<Kept, GatewayError> {
        let details = PaymentDetails::Card {
            card_no: Secret::new(card_no),
            expiry: expiry.to_owned(),
            cvc: Secret::new(cvc),
        };
        check(&details, now())
    }

    fn upi(vpa: &str) -> Result<Kept, GatewayError> {
        check(&PaymentDetails::Upi { vpa: vpa.to_owned() }, now())
    }

    #[track_caller]
    fn assert_invalid(result: Result<Kept, GatewayError>, name: &str) {
        match result {
            Err(GatewayError::Invalid { field, .. }) => assert_eq!(field, name),
            other => panic!("expected {name} to be invalid, got {other:?}"),
        }
    }

    #[test]
    fn the_test_cards_behave_as_documented() {
        let behaviour = |card_no| card(card_no, "12/30", "123").unwrap().behaviour;
        assert_eq!(behaviour("4242 4242 4242 4242"), Behaviour::Pays);
        assert_eq!(behaviour("4000-0000-0000-0002"), Behaviour::Declined);
        assert_eq!(behaviour("4000000000009995"), Behaviour::InsufficientFunds);
        assert_eq!(behaviour("4000000000000119"), Behaviour::FailsAtFirst);
        assert_eq!(behaviour("4000002500003155"), Behaviour::Asks);
        assert_eq!(behaviour("5555555555554444"), Behaviour::Declined);
    }

    #[test]
    fn brand_and_last_four_are_all_that_is_kept() {
        let kept = |card_no| {
            let kept = card(card_no, "12/30", "1234").unwrap();
            (kept.brand, kept.last_four.unwrap())
        };
        assert_eq!(kept("4242424242424242"), (Some("visa"), "4242".to_owned()));
        assert_eq!(kept("5555555555554444"), (Some("mastercard"), "4444".to_owned()));
        assert_eq!(kept("2223003122003222"), (Some("mastercard"), "3222".to_owned()));
        assert_eq!(kept("378282246310005"), (Some("amex"), "0005".to_owned()));
        assert_eq!(kept("6011111111111117"), (Some("discover"), "1117".to_owned()));
        assert_eq!(kept("3056930009020004"), (Some("diners"), "0004".to_owned()));
        assert_eq!(kept("3566002020360505"), (Some("jcb"), "0505".to_owned()));
        assert_eq!(kept("6200000000000005"), (Some("unionpay"), "0005".to_owned()));
        assert_eq!(kept("0000000000000000"), (None, "0000".to_owned()));
    }

    #[test]
    fn wrong_numbers_are_invalid() {
        for wrong in
            ["", "4242", "4242424242424241", "4242424242424242x", "४२४२४२४२४२४२४२४२", "00000000000000000000"]
        {
            assert_invalid(card(wrong, "12/30", "123"), "paymentInfo.cardNo");
        }
    }

    #[test]
    fn a_card_is_good_until_its_month_has_ended() {
        for good in ["07/26", "07/2026", "08/26", "01/27", "07 / 26"] {
            assert!(card("4242424242424242", good, "123").is_ok(), "{good}");
        }
        for wrong in
            ["06/26", "12/2025", "13/30", "00/30", "7/30", "07-30", "07/030", "+7/30", "", "/", "07/26/1"]
        {
            assert_invalid(card("4242424242424242", wrong, "123"), "paymentInfo.expiry");
        }
    }

    #[test]
    fn a_check_code_has_three_or_four_digits() {
        for wrong in ["", "12", "12345", "12a", "१२३"] {
            assert_invalid(card("4242424242424242", "12/30", wrong), "paymentInfo.cvc");
        }
    }

    #[test]
    fn upi_addresses() {
        assert_eq!(upi("success@upi").unwrap().behaviour, Behaviour::Pays);
        assert_eq!(upi("failure@upi").unwrap().behaviour, Behaviour::Declined);
        assert_eq!(upi("asha.k-9@okaxis").unwrap().behaviour, Behaviour::Declined);
        for wrong in ["", "success", "@upi", "success@", "a b@upi", "a@b@c", "success@9upi", "é@upi"] {
            assert_invalid(upi(wrong), "paymentInfo.vpa");
        }
    }

    #[test]
    fn nothing_secret_is_printed() {
        let details = PaymentDetails::Card {
            card_no: Secret::new("4242424242424242"),
            expiry: "12/30".to_owned(),
            cvc: Secret::new("987"),
        };
        let printed = format!("{details:?}");
        assert!(!printed.contains("4242") && !printed.contains("987"), "{printed}");
    }

    proptest! {
        #[test]
        fn a_mistyped_digit_is_noticed(number in "[0-9]{12,18}", place in 0_usize..12, change in 1_u8..10) {
            // Complete the number with its check digit.
            let good = (0..10).map(|digit| format!("{number}{digit}")).find(|text| luhn(text)).unwrap();
            let mut bytes = good.clone().into_bytes();
            bytes[place] = b'0' + (bytes[place] - b'0' + change) % 10;
            prop_assert!(card_digits(&good).is_some());
            prop_assert!(card_digits(str::from_utf8(&bytes).unwrap()).is_none());
        }

        #[test]
        fn no_text_makes_it_panic(card_no in ".*", expiry in ".*", cvc in ".*", vpa in ".*") {
            let _ = card(&card_no, "12/30", &cvc);
            let _ = card("4242424242424242", &expiry, "123");
            let _ = upi(&vpa);
        }
    }
}
