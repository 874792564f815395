//! After checkout on real parts: parcels, returns and refunds, the sellers' books, payouts; and through a crash.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![allow(dead_code, reason = "the shop can do more than these tests ask of it")]

mod support;

use std::time::Duration;

use futures::{StreamExt, future::join_all};
use souk_commands::{
    Context, ExecuteError, Market,
    flows::{
        payouts, returns,
        returns::{LineBack, ReturnFlowError},
        shipments::{self, DispatchError, Parcel},
    },
};
use souk_domain::{
    AccountId, OrderId, ReturnId, ShipmentId, SkuId,
    ledger::{LedgerAccount, LedgerError, LedgerState},
    order::OrderStatus,
    payment::{PaymentCommand, PaymentState},
    returns::{Disposition, Return, ReturnCommand, ReturnError, ReturnStatus, ReturnsState},
    shipment::{ParcelLine, ShipmentCommand, ShipmentError, ShipmentState, ShipmentStatus},
};
use souk_event_log::{EventLog, Filter, Message};
use souk_gateways::{PaymentDetails, sandbox::OPENING_BALANCE};
use support::{PRICE, SELLER, Shop, buyer, context, sku, usd};
use uuid::Uuid;

/// The commission of one, at ten per cent.
const COMMISSION: i64 = PRICE / 10;

/// A completed order for so many mugs, out of the buyer's wallet.
async fn bought(shop: &Shop, quantity: u32) -> OrderId {
    let mug = shop.list("MUG", 10).await;
    let order = shop.order(buyer(1), &[(mug, quantity)], PaymentDetails::Wallet).await;
    assert_eq!(shop.end_of(order).await.0, OrderStatus::Completed);
    order
}

async fn ask(market: &Market, order: OrderId, quantity: u32) -> Result<Return, ReturnFlowError> {
    let lines = vec![LineBack { item_id: None, sku: sku("MUG"), quantity }];
    Ok(returns::request(market, &context(), order, lines, "too small").await?.value.remove(0))
}

/// Waits until the log holds so many events of a type.
async fn wait(shop: &Shop, event_type: &str, times: usize) {
    let mut messages = shop.log.subscribe(None, Filter::event_types([event_type.to_owned()]));
    let found = async {
        let mut seen = 0;
        while seen < times {
            if let Message::Event(_) = messages.next().await.unwrap().unwrap() {
                seen += 1;
            }
        }
    };
    let found = tokio::time::timeout(Duration::from_secs(30), found).await;
    assert!(found.is_ok(), "no {times} {event_type} come");
}

async fn balance(shop: &Shop, account: LedgerAccount) -> i64 {
    balance_of(shop, SELLER, account).await
}

async fn balance_of(shop: &Shop, seller: AccountId, account: LedgerAccount) -> i64 {
    let look = move |state: &LedgerState| state.balance(account, usd(0).currency);
    shop.market.aggregates.ledgers.read(seller, look).await.unwrap().value
}

async fn dispute(shop: &Shop, order: OrderId, name: &str, amount: i64) {
    let (dispute_id, reason) = (name.to_owned(), "fraudulent".to_owned());
    let open = PaymentCommand::OpenChargeback { dispute_id, amount: usd(amount), reason };
    shop.market.aggregates.payments.execute(order, open, &context()).await.unwrap();
}

async fn close(shop: &Shop, order: OrderId, name: &str, won: bool) {
    let close = PaymentCommand::CloseChargeback { dispute_id: name.to_owned(), won };
    shop.market.aggregates.payments.execute(order, close, &context()).await.unwrap();
}

/// Crashes, and starts again with nothing but the log.
async fn start_anew(shop: &mut Shop) {
    shop.crash().await;
    for notes in ["bookkeeper.json", "returns.json"] {
        let _ = std::fs::remove_file(shop.folder.path().join(notes));
    }
    shop.start(Duration::from_mins(15));
}

async fn refundable(shop: &Shop, order: OrderId) -> i64 {
    let look = |state: &PaymentState| state.refundable().map_or(0, |left| left.amount);
    shop.market.aggregates.payments.read(order, look).await.unwrap().value
}

#[tokio::test]
async fn a_return_in_two_parts_brings_stock_and_money_back_and_no_more_than_was_paid() {
    let shop = Shop::open().await;
    let order = bought(&shop, 3).await;
    let market = &shop.market;
    let first = ask(market, order, 2).await.unwrap().requested.return_id;
    let lines = vec![(sku("MUG"), 1, Disposition::Restock), (sku("MUG"), 1, Disposition::WriteOff)];
    let too_much = Some(usd(2 * PRICE + 1));
    let refused = returns::accept(market, &context(), first, Some(lines.clone()), too_much).await;
    assert!(matches!(
        refused,
        Err(ReturnFlowError::Return(ExecuteError::Refused(ReturnError::TooMuch { .. })))
    ));
    let in_part = Some(usd(PRICE));
    let accepted = returns::accept(market, &context(), first, Some(lines.clone()), in_part).await.unwrap();
    assert!(matches!(accepted.value.status, ReturnStatus::Accepted | ReturnStatus::Completed));
    wait(&shop, "ReturnCompleted", 1).await;
    // One of the two is written off.
    assert_eq!(shop.stock("MUG").await, (8, 0));
    assert_eq!(shop.bank.balance(buyer(1)).await.unwrap(), OPENING_BALANCE - 2 * PRICE);
    returns::accept(market, &context(), first, Some(lines), in_part).await.unwrap();
    let second = ask(market, order, 1).await.unwrap().requested.return_id;
    returns::accept(market, &context(), second, None, None).await.unwrap();
    wait(&shop, "ReturnCompleted", 2).await;
    assert_eq!(shop.stock("MUG").await, (9, 0));
    assert_eq!(shop.bank.balance(buyer(1)).await.unwrap(), OPENING_BALANCE - PRICE);
    assert_eq!((refundable(&shop, order).await, shop.count("PaymentPartlyRefunded")), (PRICE, 2));
    // The sale of three, less the refund of two: as much of the commission goes back.
    wait(&shop, "EntryPosted", 3).await;
    assert_eq!(balance(&shop, LedgerAccount::Clearing).await, -PRICE);
    assert_eq!(balance(&shop, LedgerAccount::Commission).await, COMMISSION);
    assert_eq!(balance(&shop, LedgerAccount::SellerPayable).await, PRICE - COMMISSION);
}

#[tokio::test]
async fn two_who_return_the_last_unit_are_one() {
    let shop = Shop::open().await;
    let order = bought(&shop, 1).await;
    let asked = join_all((0..8).map(|_| ask(&shop.market, order, 1))).await;
    assert_eq!(asked.iter().filter(|asked| asked.is_ok()).count(), 1);
    assert_eq!(shop.count("ReturnRequested"), 1);
}

#[tokio::test]
async fn what_was_accepted_before_a_crash_is_completed_after_it_and_booked_once() {
    let mut shop = Shop::open().await;
    let order = bought(&shop, 2).await;
    wait(&shop, "EntryPosted", 1).await;
    shop.crash().await;
    let id = ask(&shop.market, order, 2).await.unwrap().requested.return_id;
    returns::accept(&shop.market, &context(), id, None, None).await.unwrap();
    shop.start(Duration::from_mins(15));
    wait(&shop, "EntryPosted", 2).await;
    // And from nothing but the log.
    start_anew(&mut shop).await;
    let order = bought_again(&shop).await;
    wait(&shop, "EntryPosted", 3).await;
    assert_eq!((shop.count("EntryPosted"), shop.count("StockReturned")), (3, 1));
    assert_eq!(refundable(&shop, order).await, PRICE);
}

async fn bought_again(shop: &Shop) -> OrderId {
    let cup = shop.list("CUP", 1).await;
    let order = shop.order(buyer(2), &[(cup, 1)], PaymentDetails::Wallet).await;
    shop.end_of(order).await;
    order
}

#[tokio::test]
async fn a_seller_sends_in_parcels_and_gives_up_the_rest() {
    let shop = Shop::open().await;
    let order = bought(&shop, 3).await;
    let shipment = ShipmentId { order_id: order, seller_id: SELLER };
    let one = |tracking: &str| Parcel {
        lines: Some(vec![(sku("MUG"), 1)]),
        carrier: None,
        tracking_number: Some(tracking.into()),
    };
    let market = &shop.market;
    let sent = shipments::dispatch(market, &context(), shipment, one("T1")).await.unwrap();
    assert_eq!(sent.value, ShipmentStatus::PartlyDispatched);
    let again = context();
    for _ in 0..2 {
        let lines = Some(vec![(sku("MUG"), 2)]);
        let given_up = shipments::give_up(market, &again, shipment, lines, false).await.unwrap();
        let (status, returned) = given_up.value;
        assert_eq!(status, ShipmentStatus::Dispatched);
        assert_eq!(returned.unwrap().accepted.unwrap().refund, usd(2 * PRICE));
    }
    wait(&shop, "ReturnCompleted", 1).await;
    assert_eq!((shop.count("ReturnRequested"), shop.stock("MUG").await), (1, (7, 0)));
    assert!(shipments::dispatch(market, &context(), shipment, one("T2")).await.is_err());
    let arrived = shipments::deliver(market, &context(), shipment, None).await.unwrap();
    assert_eq!(arrived.value, ShipmentStatus::Delivered);
}

#[tokio::test]
async fn what_came_back_before_it_was_sent_is_not_sent() {
    let mut shop = Shop::open().await;
    let order = bought(&shop, 3).await;
    let shipment = ShipmentId { order_id: order, seller_id: SELLER };
    // Nobody follows the log: whoever sends has to see it himself.
    shop.crash().await;
    let first = ask(&shop.market, order, 1).await.unwrap().requested.return_id;
    returns::accept(&shop.market, &context(), first, None, None).await.unwrap();
    let parcel = |quantity: Option<u32>, tracking: &str| Parcel {
        lines: quantity.map(|quantity| vec![(sku("MUG"), quantity)]),
        carrier: None,
        tracking_number: Some(tracking.into()),
    };
    let all = shipments::dispatch(&shop.market, &context(), shipment, parcel(Some(3), "T1")).await;
    let refusal = ShipmentError::TooMany { sku_id: SkuId::of(SELLER, &sku("MUG")), left: 2 };
    assert!(matches!(all, Err(DispatchError::Execute(ExecuteError::Refused(refused))) if refused == refusal));
    let sent = shipments::dispatch(&shop.market, &context(), shipment, parcel(Some(1), "T2")).await.unwrap();
    assert_eq!(sent.value, ShipmentStatus::PartlyDispatched);
    // The one that was sent comes back, and then the one that was not.
    shop.start(Duration::from_mins(15));
    for (times, status) in [(2, ShipmentStatus::PartlyDispatched), (3, ShipmentStatus::Dispatched)] {
        let id = ask(&shop.market, order, 1).await.unwrap().requested.return_id;
        returns::accept(&shop.market, &context(), id, None, None).await.unwrap();
        wait(&shop, "ReturnCompleted", times).await;
        let look = |state: &ShipmentState| state.status;
        assert_eq!(shop.market.aggregates.shipments.read(shipment, look).await.unwrap().value, status);
    }
    assert_eq!((shop.count("UnitsGivenUp"), shop.count("ReturnRequested")), (2, 3));
    assert_eq!(shop.bank.balance(buyer(1)).await.unwrap(), OPENING_BALANCE);
}

#[tokio::test]
async fn what_is_given_up_while_the_buyer_asks_for_it_is_refunded_once_whatever_the_seller_says() {
    let mut shop = Shop::open().await;
    let order = bought(&shop, 2).await;
    let shipment = ShipmentId { order_id: order, seller_id: SELLER };
    let give_up = async |shop: &Shop, request: u128| {
        // As if the buyer had asked just after the seller had looked.
        let lines = vec![ParcelLine { sku_id: SkuId::of(SELLER, &sku("MUG")), quantity: 1 }];
        let request_id = Uuid::from_u128(request);
        let command = ShipmentCommand::GiveUp { request_id, lines: Some(lines), restock: true };
        shop.market.aggregates.shipments.execute(shipment, command, &context()).await.unwrap();
    };
    let asked = ask(&shop.market, order, 2).await.unwrap().requested.return_id;
    give_up(&shop, 1).await;
    let again = Context::new(Uuid::from_u128(1), "test");
    let give_up_again = async || {
        let lines = Some(vec![(sku("MUG"), 1)]);
        shipments::give_up(&shop.market, &again, shipment, lines, true).await.unwrap().value.1
    };
    assert_eq!(give_up_again().await, None);
    returns::decline(&shop.market, &context(), asked, "worn".into()).await.unwrap();
    wait(&shop, "ReturnCompleted", 1).await;
    assert_eq!(give_up_again().await.unwrap().refunded, Some(usd(PRICE)));
    assert_eq!(shop.bank.balance(buyer(1)).await.unwrap(), OPENING_BALANCE - PRICE);
    let asked = ask(&shop.market, order, 1).await.unwrap().requested.return_id;
    give_up(&shop, 2).await;
    returns::accept(&shop.market, &context(), asked, None, None).await.unwrap();
    wait(&shop, "ReturnCompleted", 2).await;
    // That nothing is left to be returned is said, and nobody asks again.
    wait(&shop, "ReturnDeclined", 2).await;
    shop.crash().await;
    shop.start(Duration::from_mins(15));
    bought_again(&shop).await;
    assert_eq!((shop.count("ReturnRequested"), shop.count("ReturnDeclined")), (4, 2));
    assert_eq!(shop.bank.balance(buyer(1)).await.unwrap(), OPENING_BALANCE);
}

#[tokio::test]
async fn what_came_back_before_it_was_sent_is_not_sent_any_more() {
    let shop = Shop::open().await;
    let order = bought(&shop, 3).await;
    let shipment = ShipmentId { order_id: order, seller_id: SELLER };
    let market = &shop.market;
    let send = async |tracking: &str, lines| {
        let parcel = Parcel { lines, carrier: None, tracking_number: Some(tracking.into()) };
        shipments::dispatch(market, &context(), shipment, parcel).await
    };
    send("T1", Some(vec![(sku("MUG"), 1)])).await.unwrap();
    // One of these two was sent, and the other never is.
    let id = ask(market, order, 2).await.unwrap().requested.return_id;
    let all = shipments::give_up(market, &context(), shipment, None, true).await;
    assert!(matches!(all, Err(ReturnFlowError::UnderWay)));
    returns::accept(market, &context(), id, None, None).await.unwrap();
    wait(&shop, "ReturnCompleted", 1).await;
    assert!(send("T2", Some(vec![(sku("MUG"), 2)])).await.is_err());
    assert_eq!(send("T2", None).await.unwrap().value, ShipmentStatus::Dispatched);
    assert_eq!((shop.count("ReturnRequested"), shop.count("UnitsGivenUp")), (1, 1));
    assert_eq!((shop.stock("MUG").await, refundable(&shop, order).await), ((9, 0), PRICE));
}

#[tokio::test]
async fn payouts_never_exceed_what_is_owed_however_many_ask() {
    let shop = Shop::open().await;
    bought(&shop, 2).await;
    wait(&shop, "EntryPosted", 1).await;
    let owed = 2 * (PRICE - COMMISSION);
    let asked = join_all(
        (0..8).map(|_| async { payouts::request(&shop.market, &context(), SELLER, usd(owed - 1)).await }),
    )
    .await;
    let mut granted: Vec<_> = asked.into_iter().filter_map(Result::ok).map(|done| done.value).collect();
    assert_eq!(granted.len(), 1);
    assert_eq!(balance(&shop, LedgerAccount::SellerPayable).await, 1);
    let id = granted.remove(0).payout_id;
    payouts::fail(&shop.market, &context(), id, "closed".into()).await.unwrap();
    assert_eq!(balance(&shop, LedgerAccount::SellerPayable).await, owed);
    let settled = payouts::settle(&shop.market, &context(), id, "TF1".into()).await;
    assert!(matches!(settled, Err(ExecuteError::Refused(LedgerError::Decided))));
    let context = context();
    for _ in 0..2 {
        let paid = payouts::request(&shop.market, &context, SELLER, usd(owed)).await.unwrap().value;
        payouts::settle(&shop.market, &context.step("settle"), paid.payout_id, "TF2".into()).await.unwrap();
    }
    assert_eq!(balance(&shop, LedgerAccount::Clearing).await, owed - 2 * PRICE);
    assert_eq!(balance(&shop, LedgerAccount::Payouts).await, 0);
}

#[tokio::test]
async fn a_chargeback_is_held_and_then_the_sellers_or_his_again() {
    let shop = Shop::open().await;
    let order = bought(&shop, 2).await;
    wait(&shop, "EntryPosted", 1).await;
    let owed = 2 * (PRICE - COMMISSION);
    dispute(&shop, order, "won", PRICE).await;
    close(&shop, order, "won", true).await;
    wait(&shop, "EntryPosted", 3).await;
    assert_eq!(balance(&shop, LedgerAccount::SellerPayable).await, owed);
    dispute(&shop, order, "lost", PRICE).await;
    close(&shop, order, "lost", false).await;
    wait(&shop, "EntryPosted", 5).await;
    assert_eq!(balance(&shop, LedgerAccount::SellerPayable).await, owed / 2);
    assert_eq!(balance(&shop, LedgerAccount::Chargebacks).await, 0);
    // Half of it is with the buyer already: the other half is all that a return can still bring.
    let id = ask(&shop.market, order, 2).await.unwrap().requested.return_id;
    returns::accept(&shop.market, &context(), id, None, None).await.unwrap();
    wait(&shop, "ReturnCompleted", 1).await;
    wait(&shop, "EntryPosted", 6).await;
    assert_eq!(shop.count("PaymentPartlyRefunded"), 1);
    assert_eq!(balance(&shop, LedgerAccount::Clearing).await, 0);
    assert_eq!(balance(&shop, LedgerAccount::SellerPayable).await, 0);
    assert_eq!(balance(&shop, LedgerAccount::Commission).await, 0);
}

#[tokio::test]
async fn a_chargeback_waits_for_the_sale_and_of_a_cancelled_order_it_is_not_the_sellers() {
    let slow = r#"{"book": {"delayMs": 500}, "refund": {"delayMs": 1000}}"#;
    let mut shop = Shop::scripted(slow).await;
    let mug = shop.list("MUG", 10).await;
    // Nobody ships there: it is given up after it was paid.
    let cart = shop.fill_cart(buyer(1), &[(mug, 1)]).await;
    let cancelled = shop.check_out(buyer(1), cart, PaymentDetails::Wallet, "AQ").await.unwrap().order_id;
    wait(&shop, "PaymentCompleted", 1).await;
    dispute(&shop, cancelled, "a", PRICE).await;
    let completed = shop.order(buyer(2), &[(mug, 2)], PaymentDetails::Wallet).await;
    wait(&shop, "PaymentCompleted", 2).await;
    dispute(&shop, completed, "b", PRICE).await;
    assert_eq!(shop.end_of(completed).await.0, OrderStatus::Completed);
    wait(&shop, "CheckoutParked", 1).await;
    close(&shop, cancelled, "a", true).await;
    assert_eq!(shop.end_of(cancelled).await.0, OrderStatus::Cancelled);
    // The sale, and then the chargeback.
    wait(&shop, "EntryPosted", 2).await;
    assert_eq!(balance(&shop, LedgerAccount::Chargebacks).await, PRICE);
    start_anew(&mut shop).await;
    bought_again(&shop).await;
    wait(&shop, "EntryPosted", 3).await;
    assert_eq!(balance(&shop, LedgerAccount::Chargebacks).await, PRICE);
    assert_eq!(balance(&shop, LedgerAccount::Clearing).await, -3 * PRICE);
}

#[tokio::test]
async fn a_chargeback_is_shared_by_what_each_seller_still_has_of_the_sale() {
    const OTHER: AccountId = AccountId(Uuid::from_u128(0x5E_0002));
    let shop = Shop::open().await;
    let lines = [(shop.list("MUG", 10).await, 1), (shop.list_of(OTHER, "POT", 10).await, 3)];
    let order = shop.order(buyer(1), &lines, PaymentDetails::Wallet).await;
    wait(&shop, "EntryPosted", 2).await;
    let held = async |seller| balance_of(&shop, seller, LedgerAccount::Chargebacks).await;
    // The one has given all of it back, so the other has it all.
    let id = ask(&shop.market, order, 1).await.unwrap().requested.return_id;
    returns::accept(&shop.market, &context(), id, None, None).await.unwrap();
    wait(&shop, "EntryPosted", 3).await;
    dispute(&shop, order, "a", 2 * PRICE).await;
    wait(&shop, "EntryPosted", 5).await;
    assert_eq!((held(SELLER).await, held(OTHER).await), (0, 2 * PRICE));
    dispute(&shop, order, "b", PRICE).await;
    wait(&shop, "EntryPosted", 7).await;
    close(&shop, order, "a", true).await;
    wait(&shop, "EntryPosted", 9).await;
    assert_eq!((held(SELLER).await, held(OTHER).await), (0, PRICE));
    close(&shop, order, "b", false).await;
    wait(&shop, "EntryPosted", 11).await;
    assert_eq!((held(SELLER).await, held(OTHER).await), (0, 0));
    assert_eq!(balance_of(&shop, OTHER, LedgerAccount::SellerPayable).await, 2 * (PRICE - COMMISSION));
}

#[tokio::test]
async fn what_the_bank_takes_of_what_was_given_back_is_the_markets_loss() {
    let balances = async |shop: &Shop| {
        use LedgerAccount::{Chargebacks, Clearing, Commission, Losses, SellerPayable};
        let accounts = [Clearing, SellerPayable, Commission, Chargebacks, Losses];
        join_all(accounts.map(|account| balance(shop, account))).await
    };
    let mut shop = Shop::scripted(r#"{"book": {"refuse": true}}"#).await;
    let mug = shop.list("MUG", 10).await;
    let cancelled = shop.order(buyer(1), &[(mug, 1)], PaymentDetails::Wallet).await;
    assert_eq!(shop.end_of(cancelled).await.0, OrderStatus::Cancelled);
    dispute(&shop, cancelled, "won", PRICE).await;
    close(&shop, cancelled, "won", true).await;
    dispute(&shop, cancelled, "lost", PRICE).await;
    close(&shop, cancelled, "lost", false).await;
    wait(&shop, "EntryPosted", 1).await;
    assert_eq!(balances(&shop).await, [PRICE, 0, 0, 0, -PRICE]);
    start_anew(&mut shop).await;
    bought_again(&shop).await;
    assert_eq!(shop.count("EntryPosted"), 1);

    // Of an order that was completed the seller bears what he still had.
    let shop = Shop::open().await;
    let order = bought(&shop, 2).await;
    let id = ask(&shop.market, order, 1).await.unwrap().requested.return_id;
    returns::accept(&shop.market, &context(), id, None, None).await.unwrap();
    wait(&shop, "EntryPosted", 2).await;
    dispute(&shop, order, "lost", 2 * PRICE).await;
    close(&shop, order, "lost", false).await;
    wait(&shop, "EntryPosted", 4).await;
    assert_eq!(balances(&shop).await, [PRICE, 0, 0, 0, -PRICE]);
}

/// As the process does before it asks the gateway.
async fn ask_back(shop: &Shop, order: OrderId, id: ReturnId) {
    let ask = PaymentCommand::RequestPartialRefund { refund_key: id.refund_key(), amount: usd(PRICE) };
    shop.market.aggregates.payments.execute(order, ask, &context()).await.unwrap();
}

#[tokio::test]
async fn a_parked_return_that_an_operator_has_paid_ends_without_the_gateway() {
    let mut shop = Shop::scripted(r#"{"refund": {"failFirst": 1000000}}"#).await;
    let order = bought(&shop, 1).await;
    shop.crash().await;
    let id = ask(&shop.market, order, 1).await.unwrap().requested.return_id;
    let settle =
        async |shop: &Shop| returns::settle(&shop.market, &context(), id, "by transfer".into()).await;
    returns::accept(&shop.market, &context(), id, None, None).await.unwrap();
    let early = settle(&shop).await;
    assert!(matches!(early, Err(ReturnFlowError::Return(ExecuteError::Refused(ReturnError::NotParked)))));
    // As the process does after it has tried in vain.
    ask_back(&shop, order, id).await;
    let park = ReturnCommand::Park { number: id.number, reason: "refused".to_owned() };
    shop.market.aggregates.returns.execute(id.returns, park, &context()).await.unwrap();
    // A parked one waits.
    shop.start(Duration::from_mins(15));
    bought_again(&shop).await;
    assert_eq!(shop.count("ReturnCompleted"), 0);
    for _ in 0..2 {
        settle(&shop).await.unwrap();
    }
    wait(&shop, "ReturnCompleted", 1).await;
    assert_eq!((shop.count("ReturnSettled"), shop.stock("MUG").await), (1, (10, 0)));
    let events = shop.log.events();
    let refunded = events.iter().find(|event| &*event.event_type == "PaymentPartlyRefunded").unwrap();
    let data: serde_json::Value = serde_json::from_slice(&refunded.data).unwrap();
    assert_eq!(
        (&data["amount"]["amount"], &data["refundId"]),
        (&PRICE.into(), &format!("byHand:{id}").into())
    );
    assert_eq!(shop.bank.balance(buyer(1)).await.unwrap(), OPENING_BALANCE - PRICE);
}

#[tokio::test]
async fn a_refund_that_waits_for_an_operator_is_no_business_of_the_next_return() {
    let mut shop = Shop::open().await;
    let order = bought(&shop, 2).await;
    shop.crash().await;
    let mut ids = Vec::new();
    for _ in 0..2 {
        let id = ask(&shop.market, order, 1).await.unwrap().requested.return_id;
        returns::accept(&shop.market, &context(), id, None, None).await.unwrap();
        ids.push(id);
    }
    // Of the two the one whose refund comes first in the payment, as the process does after it has tried in vain.
    let id = ids.into_iter().min_by_key(|id| id.refund_key()).unwrap();
    ask_back(&shop, order, id).await;
    let park = ReturnCommand::Park { number: id.number, reason: "refused".to_owned() };
    shop.market.aggregates.returns.execute(id.returns, park, &context()).await.unwrap();
    shop.start(Duration::from_mins(15));
    wait(&shop, "ReturnCompleted", 1).await;
    assert_eq!(shop.bank.balance(buyer(1)).await.unwrap(), OPENING_BALANCE - PRICE);
    // The operator pays the buyer himself.
    returns::settle(&shop.market, &context(), id, "by transfer".into()).await.unwrap();
    wait(&shop, "ReturnCompleted", 2).await;
    assert_eq!(shop.bank.balance(buyer(1)).await.unwrap(), OPENING_BALANCE - PRICE);
    let events = shop.log.events();
    let refunds = events.iter().filter(|event| &*event.event_type == "PaymentPartlyRefunded");
    let by_hand = refunds.filter(|event| String::from_utf8_lossy(&event.data).contains("byHand:")).count();
    assert_eq!((by_hand, shop.count("PaymentPartlyRefunded")), (1, 2));
}

#[tokio::test]
async fn what_is_in_dispute_is_not_settled_by_hand() {
    let shop = Shop::open().await;
    let order = bought(&shop, 1).await;
    dispute(&shop, order, "a", PRICE - 100).await;
    let id = ask(&shop.market, order, 1).await.unwrap().requested.return_id;
    returns::accept(&shop.market, &context(), id, None, None).await.unwrap();
    wait(&shop, "ReturnParked", 1).await;
    let settled = returns::settle(&shop.market, &context(), id, "by transfer".into()).await;
    assert!(matches!(settled, Err(ReturnFlowError::NotAsked)));
    close(&shop, order, "a", false).await;
    returns::resume(&shop.market, &context(), id).await.unwrap();
    wait(&shop, "ReturnCompleted", 1).await;
    assert_eq!((refundable(&shop, order).await, shop.count("ReturnSettled")), (0, 0));
    let refunded = |state: &ReturnsState| state.returns[&id.number].refunded;
    assert_eq!(
        shop.market.aggregates.returns.read(id.returns, refunded).await.unwrap().value,
        Some(usd(100))
    );
}
