//! Shipping, tax, coupons, gift cards and store credit, from the cart to the end of the order.

use std::{sync::Arc, time::Duration};

use crate::support::{PRICE, Shop, buyer, card, context, good_card, usd};
use futures::future::join_all;
use souk_commands::flows::{
    self,
    checkout::CheckoutFlowError,
    pricing::{Extras, GiftCardRefusal},
};
use souk_domain::{
    CreditId, Currency, Money, OrderId, PromotionId,
    credit::{CreditCommand, CreditState},
    order::{CancelReason, OrderEvent, OrderPlaced, OrderStatus, ShortLine},
    pricing::{PricingError, TakesOff},
    promotion::{CouponRefusal, PromotionCommand, PromotionCreated, PromotionState},
    testing::examples::cents,
};

const COMPLETED: (OrderStatus, Option<CancelReason>) = (OrderStatus::Completed, None);
const LIST: &str = r#"{
    "defaultWeightGrams": 500,
    "shipping": { "USD": { "GB": { "byWeight": { "base": 300, "perKilogram": 200 } } } },
    "tax": { "GB": 2000 }
}"#;

fn cancelled(reason: CancelReason) -> (OrderStatus, Option<CancelReason>) {
    (OrderStatus::Cancelled, Some(reason))
}

fn coupon(code: &str) -> Extras {
    Extras { coupon_code: Some(code.to_owned()), ..Extras::default() }
}

fn gift_card(code: &str) -> Extras {
    Extras { gift_card_code: Some(code.to_owned()), ..Extras::default() }
}

/// A tenth off, so many times.
async fn promote(shop: &Shop, code: &str, limit: u32) {
    let created = PromotionCreated {
        code: code.to_owned(),
        takes_off: TakesOff::Percentage { basis_points: 1_000 },
        minimum: None,
        starts_at: None,
        ends_at: None,
        limit: Some(limit),
        limit_per_buyer: None,
    };
    let command = PromotionCommand::Create(created);
    shop.market.aggregates.promotions.execute(PromotionId::of_code(code), command, &context()).await.unwrap();
}

async fn issue(shop: &Shop, amount: i64) -> String {
    flows::credits::issue(&shop.market, &context(), usd(amount), None).await.unwrap().value.code
}

/// Claimed and redeemed.
async fn uses(shop: &Shop, code: &str) -> (u64, u64) {
    let read = |state: &PromotionState| (state.claimed(), state.redeemed);
    shop.market.aggregates.promotions.read(PromotionId::of_code(code), read).await.unwrap().value
}

/// Balance, and what is held of it.
async fn left(shop: &Shop, id: CreditId) -> (i64, i64) {
    let read = |state: &CreditState| (state.balance, state.held);
    shop.market.aggregates.credits.read(id, read).await.unwrap().value
}

async fn placed(shop: &Shop, order: OrderId) -> OrderPlaced {
    shop.market.aggregates.orders.read(order, |order| order.clone().unwrap().placed).await.unwrap().value
}

#[tokio::test]
async fn an_order_costs_what_was_quoted_and_each_part_is_paid_once() {
    let mut shop = Shop::closed("{}").await;
    Arc::get_mut(&mut shop.market).unwrap().prices = serde_json::from_str(LIST).unwrap();
    shop.start(Duration::from_mins(15));
    let mug = shop.list("MUG", 5).await;
    promote(&shop, "Spring", 5).await;
    let code = issue(&shop, 1_000).await;
    let (owner, store) = (buyer(1), CreditId::of_account(buyer(1), Currency::USD));
    let grant = CreditCommand::Grant { owner, amount: usd(500), reason: None };
    shop.market.aggregates.credits.execute(store, grant, &context()).await.unwrap();

    let (cart, goods) = shop.fill_cart(owner, &[(mug, 3)]).await;
    let extras = || Extras {
        coupon_code: Some("SPRING".into()),
        gift_card_code: Some(code.to_lowercase()),
        use_store_credit: true,
    };
    let quote = flows::pricing::quote(&shop.market, owner, cart, Some("GB"), &extras()).await.unwrap().priced;
    // Three mugs of 15.00 less a tenth, 1.5 kg of shipping, a fifth of tax.
    assert_eq!((goods, quote.goods), (usd(4_500), usd(4_500)));
    assert_eq!((quote.charges.shipping, quote.charges.tax), (Some(usd(700)), Some(usd(950))));
    assert_eq!((quote.total, quote.due()), (usd(5_700), usd(4_200)));

    let changed = shop.check_out_with(owner, (cart, goods), good_card(), "GB", extras()).await;
    assert!(
        matches!(changed, Err(CheckoutFlowError::AmountChanged { total }) if total == quote.total),
        "{changed:?}"
    );
    let wallet = souk_gateways::PaymentDetails::Wallet;
    let before = shop.bank.balance(owner).await.unwrap();
    let order =
        shop.check_out_with(owner, (cart, quote.total), wallet, "GB", extras()).await.unwrap().order_id;
    assert_eq!(shop.end_of(order).await, COMPLETED);
    let placed = placed(&shop, order).await;
    assert_eq!((placed.total, placed.charges.clone()), (quote.total, quote.charges));
    assert_eq!(before - shop.bank.balance(owner).await.unwrap(), 4_200);
    assert_eq!(uses(&shop, "spring").await, (0, 1));
    assert_eq!(left(&shop, CreditId::of_gift_card(&code)).await, (0, 0));
    assert_eq!(left(&shop, store).await, (0, 0));
}

#[tokio::test]
async fn what_credit_pays_in_whole_no_gateway_is_asked_for() {
    let shop = Shop::open().await;
    let mug = shop.list("MUG", 5).await;
    let code = issue(&shop, 10_000).await;
    let cart = shop.fill_cart(buyer(1), &[(mug, 1)]).await;
    let declined = card("4000000000000002");
    let order = shop.check_out_with(buyer(1), cart, declined, "GB", gift_card(&code)).await.unwrap().order_id;
    assert_eq!(shop.end_of(order).await, COMPLETED);
    assert_eq!(left(&shop, CreditId::of_gift_card(&code)).await, (10_000 - PRICE, 0));
    // And nothing is left behind where such an order comes to nothing.
    let cart = shop.fill_cart(buyer(1), &[(mug, 1)]).await;
    let order =
        shop.check_out_with(buyer(1), cart, good_card(), "AQ", gift_card(&code)).await.unwrap().order_id;
    assert_eq!(shop.end_of(order).await, cancelled(CancelReason::ShippingUnavailable));
    assert_eq!(left(&shop, CreditId::of_gift_card(&code)).await, (10_000 - PRICE, 0));
    assert_eq!(shop.stock("MUG").await, (4, 0));
}

#[tokio::test]
async fn an_order_that_comes_to_nothing_gives_its_coupon_and_its_credit_back() {
    let shop = Shop::open().await;
    let mug = shop.list("MUG", 5).await;
    promote(&shop, "ONCE", 1).await;
    let code = issue(&shop, 100).await;
    let extras = || Extras { gift_card_code: Some(code.clone()), ..coupon("once") };
    let total = usd(PRICE - PRICE / 10);
    let (cart, _) = shop.fill_cart(buyer(1), &[(mug, 1)]).await;
    let declined = card("4000000000000002");
    let order =
        shop.check_out_with(buyer(1), (cart, total), declined, "GB", extras()).await.unwrap().order_id;
    assert_eq!(shop.end_of(order).await, cancelled(CancelReason::PaymentDeclined));
    assert_eq!(uses(&shop, "ONCE").await, (0, 0));
    assert_eq!(left(&shop, CreditId::of_gift_card(&code)).await, (100, 0));
    let (cart, _) = shop.fill_cart(buyer(2), &[(mug, 1)]).await;
    let order =
        shop.check_out_with(buyer(2), (cart, total), good_card(), "GB", extras()).await.unwrap().order_id;
    assert_eq!(shop.end_of(order).await, COMPLETED);
    assert_eq!(uses(&shop, "ONCE").await, (0, 1));
}

/// Two hundred buyers check out at the same time; how many orders are completed, and that all others say why not.
async fn race(shop: &Shop, total: Money, extras: impl Fn() -> Extras, exhausted: CancelReason) -> usize {
    let mug = shop.list("MUG", 1_000).await;
    let carts = join_all((0..200).map(|n| {
        let lines = [(mug, 1)];
        async move { shop.fill_cart(buyer(n), &lines).await.0 }
    }))
    .await;
    let orders = carts.into_iter().enumerate().map(|(n, cart)| {
        let extras = extras();
        async move {
            match shop.check_out_with(buyer(n as u128), (cart, total), good_card(), "GB", extras).await {
                Ok(checked_out) => Some(checked_out.order_id),
                // It was gone before the cart was even closed.
                Err(
                    CheckoutFlowError::Coupon(CouponRefusal::Exhausted)
                    | CheckoutFlowError::GiftCard(GiftCardRefusal::Empty),
                ) => None,
                Err(error) => panic!("{error}"),
            }
        }
    });
    let orders = join_all(orders).await.into_iter().flatten();
    let ends = join_all(orders.map(|order| shop.end_of(order))).await;
    let completed = ends.iter().filter(|end| **end == COMPLETED).count();
    let others = ends.iter().filter(|end| **end == cancelled(exhausted)).count();
    assert_eq!(completed + others, ends.len(), "{ends:?}");
    completed
}

#[tokio::test]
async fn two_hundred_buyers_race_for_a_coupon_of_ten() {
    let shop = Shop::open().await;
    promote(&shop, "TEN", 10).await;
    let total = usd(PRICE - PRICE / 10);
    let completed = race(&shop, total, || coupon("ten"), CancelReason::PromotionExhausted).await;
    assert_eq!((completed, uses(&shop, "TEN").await), (10, (0, 10)));
    assert_eq!((shop.count("PaymentCompleted"), shop.stock("MUG").await), (10, (990, 0)));
}

#[tokio::test]
async fn two_hundred_buyers_race_for_a_gift_card_with_money_for_three() {
    let shop = Shop::open().await;
    let code = issue(&shop, 3 * PRICE).await;
    let completed = race(&shop, usd(PRICE), || gift_card(&code), CancelReason::CreditExhausted).await;
    assert_eq!((completed, left(&shop, CreditId::of_gift_card(&code)).await), (3, (0, 0)));
    assert_eq!(shop.stock("MUG").await, (997, 0));
}

#[tokio::test]
async fn a_checkout_sent_again_finds_its_order_though_it_took_the_last_coupon() {
    let shop = Shop::open().await;
    let mug = shop.list("MUG", 5).await;
    promote(&shop, "LAST", 1).await;
    let (cart, _) = shop.fill_cart(buyer(1), &[(mug, 1)]).await;
    let total = usd(PRICE - PRICE / 10);
    let send = || shop.check_out_with(buyer(1), (cart, total), good_card(), "GB", coupon("last"));
    let orders: Vec<_> =
        join_all((0..5).map(|_| send())).await.into_iter().map(|sent| sent.unwrap().order_id).collect();
    assert!(orders.iter().all(|order| *order == orders[0]), "{orders:?}");
    assert_eq!(shop.end_of(orders[0]).await, COMPLETED);
    assert_eq!(send().await.unwrap().order_id, orders[0]);
    assert_eq!(uses(&shop, "LAST").await, (0, 1));
}

#[tokio::test]
async fn what_cannot_be_used_is_refused_before_anything_happens() {
    let mut shop = Shop::closed("{}").await;
    Arc::get_mut(&mut shop.market).unwrap().prices = serde_json::from_str(LIST).unwrap();
    let mug = shop.list("MUG", 5).await;
    let euros = Money::new(500, "EUR".parse().unwrap());
    let foreign = flows::credits::issue(&shop.market, &context(), euros, None).await.unwrap().value.code;
    let (cart, _) = shop.fill_cart(buyer(1), &[(mug, 1)]).await;
    let quote = async |country: Option<&'static str>, extras| {
        let quoted = flows::pricing::quote(&shop.market, buyer(1), cart, country, &extras).await;
        let error = quoted.map(drop).unwrap_err();
        (error.field(), error)
    };
    let field = |field| Some(field);
    assert!(matches!(
        quote(Some("GB"), coupon("NONE")).await,
        (name, CheckoutFlowError::Coupon(CouponRefusal::Unknown)) if name == field("couponCode")
    ));
    assert!(matches!(
        quote(Some("GB"), gift_card("NONE")).await,
        (name, CheckoutFlowError::GiftCard(GiftCardRefusal::Unknown)) if name == field("giftCardCode")
    ));
    assert!(matches!(
        quote(Some("GB"), gift_card(&foreign)).await.1,
        CheckoutFlowError::GiftCard(GiftCardRefusal::Currency)
    ));
    assert!(matches!(
        quote(Some("FR"), Extras::default()).await,
        (name, CheckoutFlowError::Pricing(PricingError::NotShippedTo(_))) if name == field("shippingAddress.country")
    ));
    assert!(matches!(
        quote(None, Extras::default()).await.1,
        CheckoutFlowError::Pricing(PricingError::CountryNeeded)
    ));
    let stranger = flows::pricing::quote(&shop.market, buyer(2), cart, Some("GB"), &Extras::default()).await;
    assert!(matches!(stranger, Err(CheckoutFlowError::NoSuchCart)), "{stranger:?}");
    assert_eq!(shop.count("CartCheckedOut"), 0);
}

#[tokio::test]
async fn an_order_that_lacks_stock_names_the_short_line_and_what_is_left() {
    let shop = Shop::open().await;
    let (mug, pen) = (shop.list("MUG", 2).await, shop.list("PEN", 9).await);
    let order = shop.order(buyer(1), &[(mug, 3), (pen, 1)], good_card()).await;
    let short = shop
        .wait_for(order, |event| match event {
            OrderEvent::OrderCancelled(event) => Some(event.short_lines.clone()),
            _ => None,
        })
        .await;
    let sku_id = souk_domain::SkuId::of(crate::support::SELLER, &crate::support::sku("MUG"));
    assert_eq!(short, [ShortLine { sku_id, requested: 3, available: 2 }]);
    assert_eq!((shop.stock("MUG").await, shop.stock("PEN").await), ((2, 0), (9, 0)));
}

#[tokio::test]
async fn a_gift_card_is_the_same_for_the_same_command_and_its_code_is_nowhere_in_the_log() {
    let shop = Shop::closed("{}").await;
    let command = context();
    let issue = || flows::credits::issue(&shop.market, &command, cents(700), Some("prize".into()));
    let (first, again) = (issue().await.unwrap().value, issue().await.unwrap().value);
    assert_eq!((&first.code, first.credit_id), (&again.code, again.credit_id));
    assert_eq!(shop.count("CreditGranted"), 1);
    let other = flows::credits::issue(&shop.market, &context(), cents(700), None).await.unwrap().value;
    assert_ne!(first.code, other.code);
    for event in shop.log.events() {
        let text =
            String::from_utf8_lossy(&event.data).into_owned() + &String::from_utf8_lossy(&event.metadata);
        assert!(!text.contains(&first.code) && !text.contains(&first.code.replace('-', "")), "{text}");
    }
    let found = flows::credits::on_card(&shop.market, &first.code.to_lowercase()).await.unwrap().unwrap();
    assert_eq!(found.available, cents(700));
}
