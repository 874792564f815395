//! Imports on real parts: orders of another shop, settled by invoice, at the times of that shop.

use std::time::Duration;

use chrono::{DateTime, Utc};
use souk_commands::{
    Context,
    flows::imports::{self, Invoice, Need},
};
use souk_domain::{
    ItemId, OrderId, SkuId,
    order::{CancelReason, OrderLine, OrderStatus},
    payment::PaymentState,
};
use uuid::Uuid;

use crate::support::{PRICE, SELLER, Shop, address, buyer, sku, usd};

fn long_ago() -> DateTime<Utc> {
    "2010-12-01T08:26:00Z".parse().unwrap()
}

fn invoice(item_id: ItemId, quantity: u32, country: &str) -> Invoice {
    let sku = sku("MUG");
    let line = OrderLine {
        item_id,
        seller_id: SELLER,
        sku_id: SkuId::of(SELLER, &sku),
        sku,
        name: "The MUG".into(),
        quantity,
        // Not what the item costs now.
        unit_price: usd(PRICE - 1),
    };
    Invoice { number: "536365".into(), buyer: buyer(1), lines: vec![line], address: address(country) }
}

async fn import(shop: &Shop, invoice: Invoice) -> (OrderId, bool) {
    let context = Context::new(Uuid::from_u128(7), "import");
    let context = Context { occurred_at: Some(long_ago()), ..context };
    let invoiced = imports::invoice(&shop.market, &context, invoice).await.unwrap();
    (invoiced.order_id, invoiced.new)
}

#[tokio::test]
async fn an_invoice_becomes_an_order_at_its_own_price_and_time_once() {
    let shop = Shop::open().await;
    let mug = shop.list("MUG", 5).await;
    let (order, new) = import(&shop, invoice(mug, 2, "France")).await;
    assert!(new);
    assert_eq!(shop.end_of(order).await, (OrderStatus::Completed, None));
    assert_eq!(shop.stock("MUG").await, (3, 0));
    let payment = shop.market.aggregates.payments.read(order, PaymentState::clone).await.unwrap().value;
    assert!(
        matches!(payment, PaymentState::Charged { amount, .. } if amount == usd(2 * (PRICE - 1))),
        "{payment:?}"
    );

    let events = shop.log.events().len();
    assert_eq!(import(&shop, invoice(mug, 2, "France")).await, (order, false));
    assert_eq!(shop.log.events().len(), events);
    let of_the_order =
        shop.log.events().into_iter().filter(|event| event.stream.id().starts_with(&order.to_string()));
    for event in of_the_order {
        assert_eq!(event.metadata().occurred_at, Some(long_ago()), "{} {}", event.stream, event.event_type);
    }
}

/// No gateway has ever heard of the money of an invoice, so none can be asked to give it back.
#[tokio::test]
async fn an_invoice_that_cannot_be_shipped_is_given_back_outside_too() {
    let shop = Shop::open().await;
    let mug = shop.list("MUG", 5).await;
    let (order, _) = import(&shop, invoice(mug, 2, "AQ")).await;
    assert_eq!(shop.end_of(order).await, (OrderStatus::Cancelled, Some(CancelReason::ShippingUnavailable)));
    assert_eq!(shop.stock("MUG").await, (5, 0));
    let payment = shop.market.aggregates.payments.read(order, PaymentState::clone).await.unwrap().value;
    assert!(matches!(payment, PaymentState::Refunded { .. }), "{payment:?}");
    assert_eq!(shop.count("CheckoutParked"), 0);
}

/// An import may be interrupted, and go on the next day.
#[tokio::test]
async fn what_happened_long_ago_does_not_time_out() {
    // Longer than it takes to find that a deadline has passed.
    let mut shop = Shop::closed(r#"{ "book": { "delayMs": 1000 } }"#).await;
    shop.start(Duration::ZERO);
    let mug = shop.list("MUG", 5).await;
    let (order, _) = import(&shop, invoice(mug, 2, "France")).await;
    assert_eq!(shop.end_of(order).await, (OrderStatus::Completed, None));
}

#[tokio::test]
async fn what_is_missing_is_received_once() {
    let shop = Shop::open().await;
    let mug = shop.list("MUG", 5).await;
    let need = |quantity| Need {
        item_id: mug,
        seller: SELLER,
        sku_id: SkuId::of(SELLER, &sku("MUG")),
        sku: sku("MUG"),
        quantity,
    };
    let context = Context::new(Uuid::from_u128(8), "import");
    assert_eq!(imports::receive_missing(&shop.market, &context, need(12)).await.unwrap(), 7);
    assert_eq!(imports::receive_missing(&shop.market, &context, need(12)).await.unwrap(), 0);
    assert_eq!(shop.stock("MUG").await, (12, 0));
    let taken_back = imports::take_back(&shop.market, &context, need(3), "return C1".into());
    taken_back.await.unwrap();
    imports::take_back(&shop.market, &context, need(3), "return C1".into()).await.unwrap();
    assert_eq!(shop.stock("MUG").await, (15, 0));
}
