//! Returns: never more than was bought, never more back than it cost.

use souk_domain::{
    order::OrderLine,
    returns::{
        AcceptedLine, Ask, Disposition, ReturnAccepted, ReturnCause, ReturnCommand, ReturnCompleted,
        ReturnDeclined, ReturnError, ReturnEvent, ReturnLine, ReturnParked, ReturnRequested, ReturnResumed,
        Returns,
    },
    testing::{
        Given,
        examples::{BUYER, cents, order_line, return_id, sku, sku_id},
    },
};
use uuid::Uuid;

/// Two red pots at 15.99 each.
fn bought() -> Vec<OrderLine> {
    vec![order_line("red", 2, 1599)]
}

fn ask(request: u128, quantity: u32) -> Ask {
    let lines = vec![(sku_id("red"), quantity)];
    Ask { returns: return_id(1).returns, request_id: Uuid::from_u128(request), buyer_id: BUYER, lines }
}

fn request(request: u128, quantity: u32) -> ReturnCommand {
    ReturnCommand::Request { ask: ask(request, quantity), bought: bought(), reason: None }
}

fn requested(number: u32, request: u128, quantity: u32, cause: ReturnCause) -> ReturnEvent {
    ReturnRequested {
        return_id: return_id(number),
        request_id: Uuid::from_u128(request),
        buyer_id: BUYER,
        cause,
        lines: vec![ReturnLine { sku_id: sku_id("red"), sku: sku("red"), quantity }],
        reason: None,
    }
    .into()
}

fn by_buyer(number: u32, request: u128, quantity: u32) -> ReturnEvent {
    requested(number, request, quantity, ReturnCause::BuyerRequest)
}

fn accept(number: u32, quantity: Option<u32>, refund: Option<i64>) -> ReturnCommand {
    let line =
        |quantity| AcceptedLine { sku_id: sku_id("red"), quantity, disposition: Disposition::WriteOff };
    let lines = quantity.map(|quantity| vec![line(quantity)]);
    ReturnCommand::Accept { number, lines, refund: refund.map(cents), bought: bought() }
}

fn accepted(number: u32, quantity: u32, disposition: Disposition, refund: i64) -> ReturnEvent {
    let lines = vec![AcceptedLine { sku_id: sku_id("red"), quantity, disposition }];
    ReturnAccepted { return_id: return_id(number), lines, refund: cents(refund) }.into()
}

#[test]
fn nothing_is_returned_twice() {
    Given::<Returns>::nothing()
        .when(request(1, 3))
        .then_refused(ReturnError::TooMany { sku: sku("red"), left: 2 })
        .when(request(1, 1))
        .then([by_buyer(1, 1, 1)])
        .when(request(1, 1))
        .then_nothing()
        .when(request(2, 2))
        .then_refused(ReturnError::TooMany { sku: sku("red"), left: 1 })
        .when(ReturnCommand::Decline { number: 1, reason: "worn".to_owned() })
        .then([ReturnDeclined { return_id: return_id(1), reason: "worn".to_owned() }.into()])
        .when(request(2, 2))
        .then([by_buyer(2, 2, 2)])
        .when(accept(2, Some(1), None))
        .then([accepted(2, 1, Disposition::WriteOff, 1599)])
        // What was not accepted may be asked for again.
        .when(request(3, 1))
        .then([by_buyer(3, 3, 1)]);
}

#[test]
fn the_refund_is_what_the_units_cost_or_less() {
    Given::<Returns>::events([by_buyer(1, 1, 2)])
        .when(accept(1, Some(1), Some(1600)))
        .then_refused(ReturnError::TooMuch { most: cents(1599) })
        .when(accept(1, Some(3), None))
        .then_refused(ReturnError::TooMany { sku: sku("red"), left: 2 })
        .when(accept(1, None, None))
        .then([accepted(1, 2, Disposition::Restock, 3198)])
        .when(accept(1, None, None))
        .then_nothing()
        .when(accept(1, Some(1), Some(5)))
        .then_refused(ReturnError::Decided)
        .when(ReturnCommand::Decline { number: 1, reason: "worn".to_owned() })
        .then_refused(ReturnError::Decided);
}

#[test]
fn a_return_ends_once_and_may_be_parked_on_the_way() {
    let return_id = return_id(1);
    let complete = |amount| ReturnCommand::Complete { number: 1, refunded: cents(amount) };
    let park = || ReturnCommand::Park { number: 1, reason: "no".to_owned() };
    Given::<Returns>::events([by_buyer(1, 1, 1)])
        .when(complete(99))
        .then_refused(ReturnError::Decided)
        .when(accept(1, None, Some(99)))
        .then([accepted(1, 1, Disposition::Restock, 99)])
        .when(park())
        .then([ReturnParked { return_id, reason: "no".to_owned() }.into()])
        .when(ReturnCommand::Resume { number: 1 })
        .then([ReturnResumed { return_id }.into()])
        .when(complete(100))
        .then_refused(ReturnError::TooMuch { most: cents(99) })
        .when(complete(98))
        .then([ReturnCompleted { return_id, refunded: cents(98) }.into()])
        .when(complete(98))
        .then_nothing()
        .when(park())
        .then_nothing();
}

#[test]
fn what_the_seller_gives_back_is_accepted_at_once_as_far_as_it_is_left() {
    let give_back = |request, quantity| ReturnCommand::GiveBack {
        ask: ask(request, quantity),
        bought: bought(),
        disposition: Disposition::WriteOff,
    };
    Given::<Returns>::events([by_buyer(1, 1, 1)])
        .when(give_back(2, 2))
        .then_refused(ReturnError::Undecided)
        .when(accept(1, None, None))
        .then([accepted(1, 1, Disposition::Restock, 1599)])
        .when(give_back(2, 2))
        .then([requested(2, 2, 1, ReturnCause::NotSent), accepted(2, 1, Disposition::WriteOff, 1599)])
        .when(give_back(2, 2))
        .then_nothing()
        .when(give_back(3, 1))
        .then_nothing();
}

#[test]
fn a_return_has_one_id() {
    let id = return_id(1);
    assert_eq!(id.to_string().parse(), Ok(id));
    assert!(format!("{}-01", id.returns).parse::<souk_domain::ReturnId>().is_err());
}

#[test]
fn lines_of_one_sku_are_accepted_as_one() {
    let line = AcceptedLine { sku_id: sku_id("red"), quantity: 1, disposition: Disposition::Restock };
    let lines = Some(vec![line.clone(), line]);
    let accept = ReturnCommand::Accept { number: 1, lines, refund: None, bought: bought() };
    Given::<Returns>::events([by_buyer(1, 1, 2)])
        .when(accept.clone())
        .then([accepted(1, 2, Disposition::Restock, 3198)])
        .when(accept)
        .then_nothing();
}
