//! Checkout from end to end on real parts: every way an order can end, at every stage, and through a crash.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod discounts;
mod imports;
mod support;

use std::{collections::HashSet, time::Duration};

use futures::{StreamExt, future::join_all};
use souk_commands::{
    ExecuteError,
    checkout::{ByHand, CheckoutCommand, CheckoutError, take_notice},
    flows,
};
use souk_domain::{
    AccountId, CartId, DomainEvent,
    cart::{CartCheckedOut, CartState},
    order::{CancelReason, OrderError, OrderEvent, OrderStatus},
    payment::{FailureReason, PaymentEvent, PaymentState},
};
use souk_event_log::{Direction, EventLog, Filter, Message};
use souk_gateways::{Charge, Notice, PaymentDetails, Standing, sandbox::OPENING_BALANCE};
use support::{PRICE, Shop, buyer, card, context, good_card, usd};
use uuid::Uuid;

const COMPLETED: (OrderStatus, Option<CancelReason>) = (OrderStatus::Completed, None);

fn cancelled(reason: CancelReason) -> (OrderStatus, Option<CancelReason>) {
    (OrderStatus::Cancelled, Some(reason))
}

#[tokio::test]
async fn an_order_is_placed_reserved_paid_shipped_and_completed() {
    let shop = Shop::open().await;
    let mug = shop.list("MUG", 5).await;
    let order = shop.order(buyer(1), &[(mug, 2)], good_card()).await;
    assert_eq!(shop.end_of(order).await, COMPLETED);
    assert_eq!(shop.stock("MUG").await, (3, 0));
    let payment = shop.market.aggregates.payments.read(order, PaymentState::clone).await.unwrap().value;
    assert!(
        matches!(payment, PaymentState::Charged { amount, .. } if amount == usd(2 * PRICE)),
        "{payment:?}"
    );
    let orders: Vec<_> = shop.story(order).into_iter().filter(|event| event.starts_with("order ")).collect();
    assert_eq!(
        orders,
        ["OrderPlaced", "OrderStockReserved", "OrderPaid", "OrderReadyToShip", "OrderCompleted"]
            .map(|event| format!("order {event}"))
    );
}

#[tokio::test]
async fn each_seller_ships_his_own_part() {
    let shop = Shop::open().await;
    let other = AccountId(Uuid::from_u128(0x07E2));
    let lines = [(shop.list("MUG", 5).await, 1), (shop.list_of(other, "PEN", 5).await, 2)];
    let order = shop.order(buyer(1), &lines, good_card()).await;
    assert_eq!(shop.end_of(order).await, COMPLETED);
    assert_eq!((shop.count("ShipmentReady"), shop.count("PaymentCompleted")), (2, 1));
}

#[tokio::test]
async fn an_order_for_more_than_there_is_ends_out_of_stock_and_charges_nothing() {
    let shop = Shop::open().await;
    let lines = [(shop.list("MUG", 5).await, 5), (shop.list("PEN", 1).await, 2)];
    let order = shop.order(buyer(1), &lines, good_card()).await;
    assert_eq!(shop.end_of(order).await, cancelled(CancelReason::OutOfStock));
    assert_eq!((shop.stock("MUG").await, shop.stock("PEN").await), ((5, 0), (1, 0)));
    assert_eq!(shop.count("PaymentRequested"), 0);
}

#[tokio::test]
async fn the_lines_of_a_cancelled_order_are_in_the_next_cart() {
    let shop = Shop::open().await;
    let mug = shop.list("MUG", 1).await;
    let order = shop.order(buyer(1), &[(mug, 2)], good_card()).await;
    shop.end_of(order).await;
    let cart = flows::carts::current(&shop.market, buyer(1)).await.unwrap();
    assert_eq!(cart.cart_id, CartId::nth(buyer(1), 2));
    assert_eq!(cart.lines.iter().map(|line| (line.item_id, line.quantity)).collect::<Vec<_>>(), [(mug, 2)]);
}

#[tokio::test]
async fn a_declined_card_gives_the_stock_back() {
    let shop = Shop::open().await;
    let mug = shop.list("MUG", 5).await;
    let order = shop.order(buyer(1), &[(mug, 2)], card("4000000000000002")).await;
    assert_eq!(shop.end_of(order).await, cancelled(CancelReason::PaymentDeclined));
    assert_eq!(shop.stock("MUG").await, (5, 0));
}

#[tokio::test]
async fn a_card_that_fails_at_first_pays_when_tried_again() {
    let shop = Shop::open().await;
    let mug = shop.list("MUG", 5).await;
    let order = shop.order(buyer(1), &[(mug, 1)], card("4000000000000119")).await;
    assert_eq!(shop.end_of(order).await, COMPLETED);
    assert_eq!(shop.count("PaymentCompleted"), 1);
}

#[tokio::test]
async fn a_refused_shipment_gives_back_the_stock_and_the_money() {
    let shop = Shop::open().await;
    let mug = shop.list("MUG", 5).await;
    let cart = shop.fill_cart(buyer(1), &[(mug, 2)]).await;
    let order = shop.check_out(buyer(1), cart, PaymentDetails::Wallet, "AQ").await.unwrap().order_id;
    assert_eq!(shop.end_of(order).await, cancelled(CancelReason::ShippingUnavailable));
    assert_eq!(shop.stock("MUG").await, (5, 0));
    assert_eq!(shop.count("PaymentRefunded"), 1);
    assert_eq!(shop.bank.balance(buyer(1)).await.unwrap(), OPENING_BALANCE);
}

#[tokio::test]
async fn a_wallet_pays_up_to_its_balance() {
    let shop = Shop::open().await;
    let mug = shop.list("MUG", 50).await;
    let order = shop.order(buyer(1), &[(mug, 6)], PaymentDetails::Wallet).await;
    assert_eq!(shop.end_of(order).await, COMPLETED);
    let order = shop.order(buyer(1), &[(mug, 1)], PaymentDetails::Wallet).await;
    assert_eq!(shop.end_of(order).await, cancelled(CancelReason::PaymentDeclined));
    assert_eq!(shop.bank.balance(buyer(1)).await.unwrap(), OPENING_BALANCE - 6 * PRICE);
}

/// Cancels at a stage that the script makes last long enough.
async fn cancel_at(script: &str, stage: impl Fn(&OrderEvent) -> bool) -> Shop {
    let shop = Shop::scripted(script).await;
    let mug = shop.list("MUG", 5).await;
    let order = shop.order(buyer(1), &[(mug, 2)], PaymentDetails::Wallet).await;
    shop.wait_for(order, |event| stage(event).then_some(())).await;
    let status = flows::orders::cancel(&shop.market, &context(), order).await.unwrap().value;
    assert!(matches!(status, OrderStatus::Cancelling | OrderStatus::Cancelled), "{status:?}");
    assert_eq!(shop.end_of(order).await, cancelled(CancelReason::BuyerRequest));
    // Cancelling again is no error, and nothing more happens.
    flows::orders::cancel(&shop.market, &context(), order).await.unwrap();
    assert_eq!(shop.count("CancellationRequested"), 1);
    assert_eq!(shop.stock("MUG").await, (5, 0));
    assert_eq!(shop.bank.balance(buyer(1)).await.unwrap(), OPENING_BALANCE);
    shop
}

#[tokio::test]
async fn a_buyer_cancels_as_soon_as_the_order_is_placed() {
    cancel_at(r#"{"charge": {"delayMs": 300}}"#, |event| matches!(event, OrderEvent::OrderPlaced(_))).await;
}

#[tokio::test]
async fn a_buyer_cancels_while_the_payment_is_on_its_way() {
    let shop = cancel_at(r#"{"charge": {"delayMs": 400}}"#, |event| {
        matches!(event, OrderEvent::OrderStockReserved(_))
    })
    .await;
    assert_eq!(shop.count("ShipmentRequested"), 0);
}

#[tokio::test]
async fn a_buyer_cancels_while_the_shipment_is_booked() {
    let shop =
        cancel_at(r#"{"book": {"delayMs": 400}}"#, |event| matches!(event, OrderEvent::OrderPaid(_))).await;
    assert_eq!((shop.count("PaymentCompleted"), shop.count("PaymentRefunded")), (1, 1));
}

#[tokio::test]
async fn a_cancellation_that_the_process_never_heard_of_is_found_at_the_next_step() {
    let mut shop = Shop::closed("{}").await;
    let mug = shop.list("MUG", 5).await;
    let order = shop.order(buyer(1), &[(mug, 1)], PaymentDetails::Wallet).await;
    flows::orders::cancel(&shop.market, &context(), order).await.unwrap();
    let cart_id = CartId::nth(buyer(1), 1);
    let cart =
        shop.market.aggregates.orders.read(order, |order| order.clone().unwrap().placed).await.unwrap();
    let checkout = CartCheckedOut {
        order_id: order,
        buyer_id: buyer(1),
        lines: cart.value.lines,
        total: cart.value.total,
        charges: cart.value.charges,
        payment: cart.value.payment,
        ship_to: cart.value.ship_to,
    };
    let start = CheckoutCommand::Start {
        cart_id,
        checkout: Box::new(checkout),
        deadline: shop.market.clock.now() + Duration::from_mins(15),
        correlation_id: Uuid::nil(),
        backdated_to: None,
    };
    shop.market.aggregates.checkouts.execute(order, start, &context()).await.unwrap();
    let head = shop.log.head().await.unwrap();
    let note = serde_json::json!({ "position": head, "in_flight": [order] });
    std::fs::write(shop.snapshot(), note.to_string()).unwrap();
    shop.start(Duration::from_mins(15));
    assert_eq!(shop.end_of(order).await, cancelled(CancelReason::BuyerRequest));
    assert_eq!(shop.stock("MUG").await, (5, 0));
    assert_eq!(shop.bank.balance(buyer(1)).await.unwrap(), OPENING_BALANCE);
}

#[tokio::test]
async fn what_the_process_does_names_the_event_that_led_to_it() {
    let shop = Shop::open().await;
    let mug = shop.list("MUG", 5).await;
    let order = shop.order(buyer(1), &[(mug, 1)], good_card()).await;
    assert_eq!(shop.end_of(order).await, COMPLETED);
    let events: Vec<_> = shop.log.read_all(0, Filter::all(), Direction::Forward, usize::MAX).collect().await;
    let mut known = HashSet::new();
    let mut by_the_process = 0;
    for event in events {
        let event = event.unwrap();
        let metadata = event.metadata();
        // A step within an effect names the effect's command, which names its event.
        if metadata.actor.as_deref() == Some("process:checkout") {
            by_the_process += 1;
            let cause = metadata.causation_id.unwrap();
            assert!(known.contains(&cause), "{} names {cause}, which is not there", event.event_type);
        }
        known.extend([Some(event.id), metadata.command_id].into_iter().flatten());
    }
    assert!(by_the_process > 10, "{by_the_process}");
}

#[tokio::test]
async fn an_order_that_is_ready_to_ship_cannot_be_cancelled() {
    let shop = Shop::open().await;
    let mug = shop.list("MUG", 5).await;
    let order = shop.order(buyer(1), &[(mug, 1)], good_card()).await;
    shop.wait_for(order, |event| matches!(event, OrderEvent::OrderReadyToShip(_)).then_some(())).await;
    let refused = flows::orders::cancel(&shop.market, &context(), order).await;
    assert!(matches!(refused, Err(ExecuteError::Refused(OrderError::TooLateToCancel))), "{refused:?}");
    assert_eq!(shop.end_of(order).await, COMPLETED);
}

#[tokio::test]
async fn a_charge_whose_answer_was_lost_is_found_and_not_repeated() {
    for script in [r#"{"charge": {"unknownFirst": 1}}"#, r#"{"charge": {"unknownLost": 2}}"#] {
        let shop = Shop::scripted(script).await;
        let mug = shop.list("MUG", 5).await;
        let order = shop.order(buyer(1), &[(mug, 1)], PaymentDetails::Wallet).await;
        assert_eq!(shop.end_of(order).await, COMPLETED);
        assert_eq!(shop.bank.balance(buyer(1)).await.unwrap(), OPENING_BALANCE - PRICE);
    }
}

#[tokio::test]
async fn a_refund_that_fails_at_first_is_tried_again_and_given_once() {
    let script = r#"{"refund": {"failFirst": 2, "unknownFirst": 1}, "book": {"refuse": true}}"#;
    let shop = Shop::scripted(script).await;
    let mug = shop.list("MUG", 5).await;
    let order = shop.order(buyer(1), &[(mug, 1)], PaymentDetails::Wallet).await;
    assert_eq!(shop.end_of(order).await, cancelled(CancelReason::ShippingUnavailable));
    assert_eq!(shop.bank.balance(buyer(1)).await.unwrap(), OPENING_BALANCE);
    assert_eq!(shop.count("PaymentRefunded"), 1);
}

#[tokio::test]
async fn an_order_that_takes_too_long_is_given_up_and_the_late_charge_given_back() {
    let mut shop = Shop::closed(r#"{"charge": {"delayMs": 1500}}"#).await;
    shop.start(Duration::from_millis(300));
    let mug = shop.list("MUG", 5).await;
    let order = shop.order(buyer(1), &[(mug, 1)], PaymentDetails::Wallet).await;
    assert_eq!(shop.end_of(order).await, cancelled(CancelReason::Timeout));
    assert_eq!(shop.stock("MUG").await, (5, 0));
    assert_eq!(shop.bank.balance(buyer(1)).await.unwrap(), OPENING_BALANCE);
}

#[tokio::test]
async fn the_same_checkout_sent_three_times_at_once_is_one_order_and_one_charge() {
    let shop = Shop::open().await;
    let mug = shop.list("MUG", 5).await;
    let cart = shop.fill_cart(buyer(1), &[(mug, 1)]).await;
    let sent = (0..3).map(|_| shop.check_out(buyer(1), cart, PaymentDetails::Wallet, "GB"));
    let orders: Vec<_> = join_all(sent).await.into_iter().map(|done| done.unwrap().order_id).collect();
    assert!(orders.iter().all(|order| *order == orders[0]), "{orders:?}");
    assert_eq!(shop.end_of(orders[0]).await, COMPLETED);
    assert_eq!((shop.count("OrderPlaced"), shop.count("PaymentCompleted")), (1, 1));
    assert_eq!(shop.bank.balance(buyer(1)).await.unwrap(), OPENING_BALANCE - PRICE);
}

#[tokio::test]
async fn thirty_buyers_race_for_ten_units() {
    let shop = Shop::open().await;
    let mug = shop.list("MUG", 10).await;
    let lines = [(mug, 1)];
    let orders = (0..30).map(|n| shop.order(buyer(n), &lines, good_card()));
    let orders = join_all(orders).await;
    let ends = join_all(orders.into_iter().map(|order| shop.end_of(order))).await;
    let completed = ends.iter().filter(|end| **end == COMPLETED).count();
    let out_of_stock = ends.iter().filter(|end| **end == cancelled(CancelReason::OutOfStock)).count();
    assert_eq!((completed, out_of_stock), (10, 20));
    assert_eq!(shop.stock("MUG").await, (0, 0));
    assert_eq!(shop.count("PaymentCompleted"), 10);
}

#[tokio::test]
async fn a_cart_whose_prices_changed_is_not_checked_out_at_the_old_total() {
    let shop = Shop::open().await;
    let mug = shop.list("MUG", 10).await;
    let (cart, amount) = shop.fill_cart(buyer(1), &[(mug, 2)]).await;
    let patch = flows::revision::ItemPatch { price: Some(usd(PRICE + 1)), ..Default::default() };
    let caller = flows::items::Caller::Seller(support::SELLER);
    flows::revision::revise(&shop.market, &context(), mug, caller, None, patch).await.unwrap();
    let refused = shop.check_out(buyer(1), (cart, amount), good_card(), "GB").await;
    let Err(flows::checkout::CheckoutFlowError::AmountChanged { total }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(total, usd(2 * PRICE + 2));
    shop.check_out(buyer(1), (cart, total), good_card(), "GB").await.unwrap();
}

#[tokio::test]
async fn nobody_checks_out_the_cart_of_another() {
    let shop = Shop::open().await;
    let mug = shop.list("MUG", 10).await;
    let cart = shop.fill_cart(buyer(1), &[(mug, 1)]).await;
    let refused = shop.check_out(buyer(2), cart, good_card(), "GB").await;
    assert!(matches!(refused, Err(flows::checkout::CheckoutFlowError::NoSuchCart)), "{refused:?}");
    let order = shop.check_out(buyer(1), cart, good_card(), "GB").await.unwrap().order_id;
    shop.end_of(order).await;
    let refused = shop.check_out(buyer(2), cart, good_card(), "GB").await;
    assert!(matches!(refused, Err(flows::checkout::CheckoutFlowError::NoSuchCart)), "{refused:?}");
}

#[tokio::test]
async fn a_cart_that_closed_while_nobody_was_there_becomes_an_order_later() {
    let mut shop = Shop::closed("{}").await;
    let mug = shop.list("MUG", 5).await;
    let order = shop.order(buyer(1), &[(mug, 1)], good_card()).await;
    shop.crash().await;
    shop.start(Duration::from_mins(15));
    assert_eq!(shop.end_of(order).await, COMPLETED);
    // The cart after it is found without a memory of it.
    let cart = flows::carts::current(&shop.market, buyer(1)).await.unwrap();
    assert_eq!((cart.cart_id, cart.lines.len()), (CartId::nth(buyer(1), 2), 0));
    let closed = shop.market.aggregates.carts.read(CartId::nth(buyer(1), 1), CartState::clone).await.unwrap();
    assert_eq!(closed.value.checked_out, Some(order));
}

#[tokio::test]
async fn a_crash_at_any_moment_loses_no_order_and_charges_none_twice() {
    let mut shop =
        Shop::scripted(r#"{"charge": {"delayMs": 5, "unknownFirst": 1}, "book": {"delayMs": 5}}"#).await;
    let mug = shop.list("MUG", 15).await;
    let (mut orders, lines) = (Vec::new(), [(mug, 1)]);
    for round in 0..8_u64 {
        let buyers = (0..3).map(|n| buyer(u128::from(round) * 3 + n));
        let placed = buyers.map(|buyer| shop.order(buyer, &lines, PaymentDetails::Wallet));
        orders.extend(join_all(placed).await);
        // Each round is cut off a little later in the course of its orders.
        tokio::time::sleep(Duration::from_millis(round * 7)).await;
        shop.crash().await;
        if round % 2 == 0 {
            let _ = std::fs::remove_file(shop.snapshot());
        }
        shop.start(Duration::from_mins(15));
    }
    let ends = join_all(orders.iter().map(|order| shop.end_of(*order))).await;
    let completed = ends.iter().filter(|end| **end == COMPLETED).count();
    assert_eq!(completed, 15, "{ends:?}");
    assert_eq!(ends.iter().filter(|end| **end == cancelled(CancelReason::OutOfStock)).count(), 9);
    assert_eq!(shop.stock("MUG").await, (0, 0));
    let mut spent = 0;
    for n in 0..24 {
        spent += OPENING_BALANCE - shop.bank.balance(buyer(n)).await.unwrap();
    }
    assert_eq!(spent, 15 * PRICE);
    assert_eq!(shop.count("PaymentCompleted"), 15);
}

/// The charge that waits for the buyer, once it does.
async fn asked(shop: &Shop) -> String {
    let mut messages = shop.log.subscribe(None, Filter::event_types(["PaymentActionRequired"]));
    let found = async {
        loop {
            if let Message::Event(recorded) = messages.next().await.unwrap().unwrap() {
                let data: serde_json::Value = serde_json::from_slice(&recorded.data).unwrap();
                return data["chargeId"].as_str().unwrap().to_owned();
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), found).await.unwrap()
}

#[tokio::test]
async fn a_charge_waits_for_its_buyer_who_confirms_or_does_not() {
    for (confirm, end) in [(true, COMPLETED), (false, cancelled(CancelReason::PaymentDeclined))] {
        let shop = Shop::open().await;
        let mug = shop.list("MUG", 5).await;
        let order = shop.order(buyer(1), &[(mug, 1)], card("4000002500003155")).await;
        shop.bank.answer(&asked(&shop).await, confirm).await.unwrap();
        assert_eq!(shop.end_of(order).await, end);
        assert_eq!(shop.count("PaymentActionRequired"), 1);
    }
}

#[tokio::test]
async fn a_buyer_who_never_confirms_is_not_charged_and_the_order_given_up() {
    let mut shop = Shop::closed("{}").await;
    shop.start(Duration::from_millis(800));
    let mug = shop.list("MUG", 5).await;
    let order = shop.order(buyer(1), &[(mug, 1)], card("4000002500003155")).await;
    let charge_id = asked(&shop).await;
    assert_eq!(shop.end_of(order).await, cancelled(CancelReason::Timeout));
    let late = shop.bank.answer(&charge_id, true).await.unwrap();
    assert_eq!(late, Some(Charge::Failed(FailureReason::Cancelled)));
    assert_eq!((shop.stock("MUG").await, shop.count("PaymentCompleted")), ((5, 0), 0));
}

#[tokio::test]
async fn what_the_gateway_tells_may_come_before_its_answer_after_it_and_twice() {
    let shop = Shop::open().await;
    let mug = shop.list("MUG", 5).await;
    let order = shop.order(buyer(1), &[(mug, 1)], card("4000002500003155")).await;
    let charge_id = asked(&shop).await;
    let tell = async |notice: Notice| take_notice(&shop.market, notice).await.unwrap();
    let charge = |amount: i64, charge: Charge| Notice::Charge { order, amount: usd(amount), charge };
    let charged = Charge::Charged { charge_id: charge_id.clone() };

    tell(charge(PRICE - 1, charged.clone())).await;
    assert_eq!(shop.count("PaymentCompleted"), 0, "not what was asked for");
    tell(charge(PRICE, charged.clone())).await;
    assert_eq!(shop.end_of(order).await, COMPLETED);
    // Late and doubled.
    tell(charge(PRICE, charged.clone())).await;
    tell(charge(PRICE, Charge::ActionRequired { charge_id })).await;
    tell(charge(PRICE, Charge::Failed(FailureReason::CardDeclined))).await;
    let counts = ["PaymentActionRequired", "PaymentCompleted", "PaymentFailed"].map(|name| shop.count(name));
    assert_eq!(counts, [1, 1, 0]);

    // The end of a dispute is heard of before its beginning.
    for standing in [Standing::Lost, Standing::Open, Standing::Lost] {
        let (charge, dispute_id) = (charged.clone(), "dp_1".to_owned());
        let reason = "fraudulent".to_owned();
        tell(Notice::Dispute { order, charge, dispute_id, amount: usd(PRICE), reason, standing }).await;
    }
    assert_eq!((shop.count("ChargebackOpened"), shop.count("ChargebackClosed")), (1, 1));
}

#[tokio::test]
async fn a_refund_that_the_gateway_tells_of_is_recorded_once() {
    let shop = Shop::scripted(r#"{"refund": {"failFirst": 3}, "book": {"refuse": true}}"#).await;
    let mug = shop.list("MUG", 5).await;
    let order = shop.order(buyer(1), &[(mug, 1)], good_card()).await;
    // Told while the answer to the refund is still out.
    let mut messages = shop.log.subscribe(None, Filter::event_types(["RefundRequested"]));
    while !matches!(messages.next().await.unwrap().unwrap(), Message::Event(_)) {}
    let key = Uuid::new_v5(&order.0, b"payment/refund");
    for _ in 0..2 {
        let told = Notice::Refund { order, key, amount: usd(PRICE), refund_id: "re_1".into() };
        take_notice(&shop.market, told).await.unwrap();
    }
    assert_eq!(shop.end_of(order).await, cancelled(CancelReason::ShippingUnavailable));
    assert_eq!(shop.count("PaymentRefunded"), 1);
}

#[tokio::test]
async fn what_the_bank_took_back_of_an_order_that_is_given_up_is_not_refunded_as_well() {
    for (taken, decided_first) in [(PRICE - 100, true), (PRICE, true), (PRICE - 100, false)] {
        let shop = Shop::scripted(r#"{"book": {"delayMs": 300, "refuse": true}}"#).await;
        let mug = shop.list("MUG", 5).await;
        let order = shop.order(buyer(1), &[(mug, 1)], PaymentDetails::Wallet).await;
        shop.wait_for(order, |event| matches!(event, OrderEvent::OrderPaid(_)).then_some(())).await;
        let tell = async |standing: Standing| {
            let charge = Charge::Charged { charge_id: "ch_1".to_owned() };
            let (dispute_id, reason) = ("dp_1".to_owned(), "fraudulent".to_owned());
            let told = Notice::Dispute { order, charge, dispute_id, amount: usd(taken), reason, standing };
            take_notice(&shop.market, told).await.unwrap();
        };
        if decided_first {
            tell(Standing::Lost).await;
        } else {
            tell(Standing::Open).await;
            // How much goes back nobody knows before the bank has decided; then it goes on by itself.
            let mut messages = shop.log.subscribe(None, Filter::event_types(["CheckoutParked"]));
            while !matches!(messages.next().await.unwrap().unwrap(), Message::Event(_)) {}
            let done = ByHand::Done;
            let settled =
                flows::orders::settle(&shop.market, &context(), order, done, "by transfer".into()).await;
            assert!(matches!(settled, Err(ExecuteError::Refused(CheckoutError::Disputed))));
            assert_eq!(shop.count("PaymentRefunded"), 0);
            tell(Standing::Lost).await;
        }
        assert_eq!(shop.end_of(order).await, cancelled(CancelReason::ShippingUnavailable));
        let payment = shop.market.aggregates.payments.read(order, PaymentState::clone).await.unwrap().value;
        assert!(
            matches!(payment, PaymentState::Refunded { amount, .. } if amount == usd(PRICE - taken)),
            "{payment:?}"
        );
        assert_eq!(shop.bank.balance(buyer(1)).await.unwrap(), OPENING_BALANCE - taken);
    }
}

#[tokio::test]
async fn what_was_refunded_before_the_bank_took_it_back_is_not_asked_for_again_in_another_amount() {
    // The gateway has given it back, and its answer is lost.
    let shop = Shop::scripted(r#"{"book": {"refuse": true}, "refund": {"unknownFirst": 3}}"#).await;
    let mug = shop.list("MUG", 5).await;
    let order = shop.order(buyer(1), &[(mug, 1)], PaymentDetails::Wallet).await;
    let mut messages = shop.log.subscribe(None, Filter::event_types(["RefundRequested"]));
    while !matches!(messages.next().await.unwrap().unwrap(), Message::Event(_)) {}
    while shop.bank.balance(buyer(1)).await.unwrap() != OPENING_BALANCE {
        tokio::task::yield_now().await;
    }
    let charge = Charge::Charged { charge_id: "ch_1".to_owned() };
    let (dispute_id, reason) = ("dp_1".to_owned(), "fraudulent".to_owned());
    let (amount, standing) = (usd(PRICE - 100), Standing::Lost);
    let told = Notice::Dispute { order, charge, dispute_id, amount, reason, standing };
    take_notice(&shop.market, told).await.unwrap();
    assert_eq!(shop.end_of(order).await, cancelled(CancelReason::ShippingUnavailable));
    assert_eq!(shop.bank.balance(buyer(1)).await.unwrap(), OPENING_BALANCE);
    let lost = |event: &PaymentEvent| event.loss();
    let events = shop.log.events();
    let of_payment = events.iter().filter(|event| event.stream.category() == "payment");
    let losses: Vec<_> = of_payment
        .filter_map(|event| {
            lost(&PaymentEvent::from_json(&event.event_type, event.schema_version(), &event.data).unwrap())
        })
        .collect();
    assert_eq!(losses, [amount]);
}
