//! One example of every event, with all its fields filled; what the golden files hold. Ids are small and readable.

use chrono::{DateTime, TimeDelta};
use uuid::Uuid;

use crate::{
    AccountId, CartId, CreditId, Currency, ItemId, Money, OrderId, PayoutId, PromotionId, ReturnId,
    ReturnsId, Sealed, Sku, SkuId,
    account::{
        AccountEvent, AccountForgotten, AccountRegistered, AccountReinstated, AccountSuspended,
        ProfileRevised, Role, RoleGranted,
    },
    cart::{CartCheckedOut, CartEvent, CartLine, CartOpened, LineAdded, LineQuantityChanged, LineRemoved},
    credit::{
        CreditEvent, CreditGranted, CreditHeld, CreditHoldRejected, CreditKind, CreditOpened, CreditReleased,
        CreditReturned, CreditSpent,
    },
    inventory::{
        InventoryEvent, ReservationCommitted, ReservationRejected, ReservationReleased, StockAdjusted,
        StockReceived, StockReserved, StockReturned,
    },
    item::{
        Details, ItemEvent, ItemListed, ItemRelisted, ItemRevised, ItemWithdrawn, PriceChanged, Variant,
        VariantAdded, VariantRevised,
    },
    ledger::{
        CommissionRate, EntryKind, EntryPosted, LedgerAccount, LedgerEvent, PayoutFailed, PayoutRequested,
        PayoutSettled, Posting,
    },
    order::{
        CancelReason, CancellationRequested, OrderCancelled, OrderCompleted, OrderEvent, OrderLine,
        OrderPaid, OrderPlaced, OrderReadyToShip, OrderStockReserved, ShipTo, ShortLine,
    },
    payment::{
        ChargebackClosed, ChargebackOpened, FailureReason, PartialRefundRequested, PaymentActionRequired,
        PaymentCompleted, PaymentEvent, PaymentFailed, PaymentMethod, PaymentPartlyRefunded, PaymentRefunded,
        PaymentRequested, PaymentType, RefundRequested,
    },
    pricing::{Charges, CreditUse, Discount, TakesOff},
    promotion::{
        CouponClaimed, CouponRedeemed, CouponRejected, CouponRejection, CouponReleased, PromotionCreated,
        PromotionEnded, PromotionEvent,
    },
    returns::{
        AcceptedLine, Disposition, ReturnAccepted, ReturnCause, ReturnCompleted, ReturnDeclined, ReturnEvent,
        ReturnLine, ReturnParked, ReturnRequested, ReturnResumed, ReturnSettled,
    },
    search::{Facet, ResultClicked, SearchEvent, SearchMade},
    shipment::{
        ParcelLine, ShipmentCancelled, ShipmentDelivered, ShipmentDispatched, ShipmentEvent, ShipmentReady,
        ShipmentRefused, ShipmentRequested, ShipmentStatus, UnitsGivenUp,
    },
    synonyms::{SynonymsEvent, SynonymsReplaced},
};

pub const BUYER: AccountId = AccountId(Uuid::from_u128(0xB));
pub const SELLER: AccountId = AccountId(Uuid::from_u128(0x5));
pub const ITEM: ItemId = ItemId(Uuid::from_u128(0x17));

pub fn order_id(n: u128) -> OrderId {
    OrderId(Uuid::from_u128(n))
}

pub fn sku(text: &str) -> Sku {
    Sku::parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"))
}

/// Of [`SELLER`].
pub fn sku_id(text: &str) -> SkuId {
    SkuId::of(SELLER, &sku(text))
}

/// In the smallest units of US dollars.
pub fn cents(amount: i64) -> Money {
    Money::new(amount, Currency::USD)
}

pub fn sealed(subject: AccountId, secret: &str) -> Sealed {
    Sealed { subject, sealed: format!("sealed-{secret}") }
}

pub fn variant(text: &str, price: i64) -> Variant {
    Variant {
        sku_id: sku_id(text),
        sku: sku(text),
        options: [("colour".to_owned(), text.to_owned())].into(),
        price: cents(price),
        images: vec![format!("https://img.example/{text}.jpg")],
    }
}

pub fn details(name: &str) -> Details {
    Details {
        name: name.to_owned(),
        description: "Holds tea".to_owned(),
        brand: Some("Potter".to_owned()),
        category: vec!["Home".to_owned(), "Kitchen".to_owned()],
        tags: ["clay".to_owned()].into(),
        attributes: [("material".to_owned(), "clay".to_owned())].into(),
        specifications: [("volume".to_owned(), "1 l".to_owned())].into(),
        images: vec!["https://img.example/pot.jpg".to_owned()],
    }
}

pub fn listed(variants: Vec<Variant>) -> ItemListed {
    ItemListed { seller_id: SELLER, sku: sku("pot"), details: details("Pot"), variants }
}

pub fn cart_line(text: &str, quantity: u32) -> CartLine {
    CartLine { item_id: ITEM, seller_id: SELLER, sku_id: sku_id(text), sku: sku(text), quantity }
}

pub fn order_line(text: &str, quantity: u32, unit_price: i64) -> OrderLine {
    OrderLine {
        item_id: ITEM,
        seller_id: SELLER,
        sku_id: sku_id(text),
        sku: sku(text),
        name: "Pot".to_owned(),
        quantity,
        unit_price: cents(unit_price),
    }
}

pub fn ship_to() -> ShipTo {
    ShipTo { country: "IN".to_owned(), address: sealed(BUYER, "address") }
}

pub fn card() -> PaymentMethod {
    PaymentMethod {
        payment_type: PaymentType::Card,
        token: "tok_1".to_owned(),
        brand: Some("visa".to_owned()),
        last_four: Some("4242".to_owned()),
    }
}

/// What is taken off two red pots is what is added.
pub fn charges() -> Charges {
    let promotion_id = PromotionId::of_code("SPRING");
    Charges {
        shipping: Some(cents(500)),
        tax: Some(cents(198)),
        discounts: vec![Discount {
            promotion_id,
            code: Some("SPRING".to_owned()),
            amount: cents(698),
            taken_off: None,
        }],
        credits: vec![CreditUse { credit_id: CreditId::of_gift_card("GIFT"), amount: cents(1000) }],
    }
}

/// Two red pots at 15.99 each.
pub fn checked_out() -> CartCheckedOut {
    CartCheckedOut {
        order_id: order_id(1),
        buyer_id: BUYER,
        lines: vec![order_line("red", 2, 1599)],
        total: cents(3198),
        charges: charges(),
        payment: card(),
        ship_to: ship_to(),
    }
}

pub fn placed() -> OrderPlaced {
    OrderPlaced {
        buyer_id: BUYER,
        cart_id: CartId::nth(BUYER, 1),
        lines: vec![order_line("red", 2, 1599)],
        total: cents(3198),
        charges: charges(),
        payment: card(),
        ship_to: ship_to(),
    }
}

pub fn payment_requested() -> PaymentRequested {
    PaymentRequested { amount: cents(3198), method: card() }
}

pub fn shipment_requested() -> ShipmentRequested {
    ShipmentRequested {
        order_id: order_id(1),
        seller_id: SELLER,
        lines: vec![order_line("red", 2, 1599)],
        ship_to: ship_to(),
    }
}

pub fn item() -> Vec<ItemEvent> {
    vec![
        listed(vec![variant("red", 1599)]).into(),
        ItemRevised { details: details("Teapot") }.into(),
        VariantAdded { variant: variant("blue", 1699) }.into(),
        VariantRevised { sku_id: sku_id("red"), images: vec!["https://img.example/red-2.jpg".to_owned()] }
            .into(),
        PriceChanged { sku_id: sku_id("red"), price: cents(1499) }.into(),
        ItemWithdrawn { reason: Some("sold out".to_owned()) }.into(),
        ItemRelisted {}.into(),
    ]
}

pub fn inventory() -> Vec<InventoryEvent> {
    let order_id = order_id(1);
    vec![
        StockReceived {
            item_id: ITEM,
            seller_id: SELLER,
            sku: sku("red"),
            quantity: 10,
            reason: Some("delivery".to_owned()),
        }
        .into(),
        StockReserved { order_id, quantity: 2 }.into(),
        ReservationRejected { order_id, quantity: 20, available: 8 }.into(),
        ReservationReleased { order_id, quantity: 2 }.into(),
        ReservationCommitted { order_id, quantity: 2 }.into(),
        StockAdjusted { change: -1, reason: Some("broken".to_owned()) }.into(),
        StockReturned { order_id, return_id: return_id(1), quantity: 1 }.into(),
    ]
}

pub fn cart() -> Vec<CartEvent> {
    vec![
        CartOpened { account_id: BUYER, number: 1 }.into(),
        LineAdded { line: cart_line("red", 1) }.into(),
        LineQuantityChanged { sku_id: sku_id("red"), quantity: 2 }.into(),
        LineRemoved { sku_id: sku_id("red") }.into(),
        checked_out().into(),
    ]
}

pub fn order() -> Vec<OrderEvent> {
    vec![
        placed().into(),
        OrderStockReserved {}.into(),
        OrderPaid {}.into(),
        OrderReadyToShip {}.into(),
        OrderCompleted {}.into(),
        CancellationRequested {}.into(),
        OrderCancelled {
            reason: CancelReason::OutOfStock,
            short_lines: vec![ShortLine { sku_id: sku_id("red"), requested: 2, available: 1 }],
        }
        .into(),
    ]
}

pub fn payment() -> Vec<PaymentEvent> {
    vec![
        payment_requested().into(),
        PaymentCompleted { amount: cents(3198), charge_id: "ch_1".to_owned() }.into(),
        PaymentFailed { reason: FailureReason::CardDeclined }.into(),
        RefundRequested {}.into(),
        PaymentRefunded { amount: cents(3198), refund_id: "re_1".to_owned(), loss: Some(cents(2_198)) }
            .into(),
        PaymentActionRequired { charge_id: "ch_1".to_owned() }.into(),
        PartialRefundRequested { refund_key: Uuid::from_u128(7), amount: cents(1_000) }.into(),
        PaymentPartlyRefunded {
            refund_key: Uuid::from_u128(7),
            amount: cents(1_000),
            refund_id: "re_2".to_owned(),
        }
        .into(),
        ChargebackOpened {
            dispute_id: "dp_1".to_owned(),
            amount: cents(2_198),
            reason: "fraudulent".to_owned(),
        }
        .into(),
        ChargebackClosed {
            dispute_id: "dp_1".to_owned(),
            amount: cents(2_198),
            won: false,
            loss: Some(cents(1_000)),
        }
        .into(),
    ]
}

pub fn shipment() -> Vec<ShipmentEvent> {
    vec![
        shipment_requested().into(),
        ShipmentReady { carrier: "sandbox".to_owned(), booking_id: "bk_1".to_owned() }.into(),
        ShipmentRefused { reason: "nobody delivers there".to_owned() }.into(),
        ShipmentDispatched {
            parcel: 1,
            lines: vec![ParcelLine { sku_id: sku_id("red"), quantity: 1 }],
            carrier: Some("sandbox".to_owned()),
            tracking_number: Some("TR1".to_owned()),
            status: ShipmentStatus::PartlyDispatched,
        }
        .into(),
        ShipmentDelivered { parcels: vec![1], status: ShipmentStatus::PartlyDispatched }.into(),
        ShipmentCancelled {}.into(),
        UnitsGivenUp {
            request_id: Uuid::from_u128(9),
            lines: vec![ParcelLine { sku_id: sku_id("red"), quantity: 1 }],
            restock: false,
            return_id: Some(return_id(1)),
            status: ShipmentStatus::Delivered,
        }
        .into(),
    ]
}

/// Of the red pots of [`placed`].
pub fn return_id(number: u32) -> ReturnId {
    ReturnId { returns: ReturnsId { order_id: order_id(1), seller_id: SELLER }, number }
}

pub fn returns() -> Vec<ReturnEvent> {
    let return_id = return_id(1);
    vec![
        ReturnRequested {
            return_id,
            request_id: Uuid::from_u128(8),
            buyer_id: BUYER,
            cause: ReturnCause::BuyerRequest,
            lines: vec![ReturnLine { sku_id: sku_id("red"), sku: sku("red"), quantity: 2 }],
            reason: Some(sealed(BUYER, "reason")),
        }
        .into(),
        ReturnAccepted {
            return_id,
            lines: vec![AcceptedLine {
                sku_id: sku_id("red"),
                quantity: 1,
                disposition: Disposition::Restock,
            }],
            refund: cents(1599),
        }
        .into(),
        ReturnDeclined { return_id, reason: "worn".to_owned() }.into(),
        ReturnParked { return_id, reason: "the gateway refuses".to_owned() }.into(),
        ReturnResumed { return_id }.into(),
        ReturnSettled { return_id, reason: "paid back by bank transfer 4711".to_owned() }.into(),
        ReturnCompleted { return_id, refunded: cents(1599) }.into(),
    ]
}

/// Of the sale of [`placed`], at ten per cent.
pub fn sale() -> EntryPosted {
    let posting = |account, amount| Posting { account, amount: cents(amount) };
    EntryPosted {
        entry_id: Uuid::from_u128(10),
        kind: EntryKind::Sale,
        order_id: order_id(1),
        parts: 1,
        rates: vec![CommissionRate { on: cents(3198), basis_points: 1000 }],
        postings: vec![
            posting(LedgerAccount::Clearing, -3198),
            posting(LedgerAccount::SellerPayable, 2879),
            posting(LedgerAccount::Commission, 319),
        ],
    }
}

pub fn ledger() -> Vec<LedgerEvent> {
    let (payout_id, amount) = (PayoutId { seller_id: SELLER, request_id: Uuid::from_u128(11) }, cents(2000));
    vec![
        sale().into(),
        PayoutRequested { payout_id, amount }.into(),
        PayoutSettled { payout_id, amount, reference: "TF1".to_owned() }.into(),
        PayoutFailed { payout_id, amount, reason: "the account is closed".to_owned() }.into(),
    ]
}

pub fn search() -> Vec<SearchEvent> {
    let (search_id, query) = (Uuid::from_u128(21), "red lantern".to_owned());
    let searcher = Some("bm9uY2UgYW5kIGNpcGhlcnRleHQ".to_owned());
    let made = SearchMade {
        search_id,
        query: query.clone(),
        hits: 12,
        corrected_query: Some("red lanterns".to_owned()),
        fewer_words: true,
        filters: vec!["brand".to_owned(), "inStock".to_owned()],
        leads_to: Some(Facet { name: "category".to_owned(), value: "Home > Lamps".to_owned() }),
        searcher: searcher.clone(),
    };
    vec![made.into(), ResultClicked { search_id, query, item_id: ITEM, position: 3, searcher }.into()]
}

pub fn synonyms() -> Vec<SynonymsEvent> {
    vec![
        SynonymsReplaced { rules: vec!["tv, television".to_owned(), "notebook => laptop".to_owned()] }.into(),
    ]
}

pub fn promotion_created() -> PromotionCreated {
    PromotionCreated {
        code: "SPRING".to_owned(),
        takes_off: TakesOff::Percentage { basis_points: 1_000 },
        minimum: Some(cents(2_000)),
        starts_at: Some(DateTime::UNIX_EPOCH),
        ends_at: Some(DateTime::UNIX_EPOCH + TimeDelta::days(1)),
        limit: Some(100),
        limit_per_buyer: Some(1),
    }
}

pub fn promotion() -> Vec<PromotionEvent> {
    let order_id = order_id(1);
    vec![
        promotion_created().into(),
        PromotionEnded {}.into(),
        CouponClaimed { order_id, buyer_id: BUYER }.into(),
        CouponRejected { order_id, buyer_id: BUYER, reason: CouponRejection::Exhausted }.into(),
        CouponReleased { order_id }.into(),
        CouponRedeemed { order_id }.into(),
    ]
}

pub fn credit() -> Vec<CreditEvent> {
    let (order_id, amount, reason) = (order_id(1), cents(1_000), Some("sorry".to_owned()));
    vec![
        CreditOpened { kind: CreditKind::StoreCredit, currency: Currency::USD, owner: Some(BUYER) }.into(),
        CreditGranted { amount: cents(5_000), reason: reason.clone() }.into(),
        CreditHeld { order_id, amount }.into(),
        CreditHoldRejected { order_id, amount, available: 10 }.into(),
        CreditReleased { order_id, amount: Some(amount) }.into(),
        CreditSpent { order_id, amount }.into(),
        CreditReturned { order_id, refund_key: Uuid::from_u128(0x4E), amount: cents(300), reason }.into(),
    ]
}

pub fn account() -> Vec<AccountEvent> {
    vec![
        AccountRegistered {
            role: Role::Buyer,
            email: Some(sealed(BUYER, "email")),
            display_name: sealed(BUYER, "name"),
        }
        .into(),
        RoleGranted { role: Role::Seller }.into(),
        ProfileRevised { display_name: sealed(BUYER, "new-name") }.into(),
        AccountSuspended { reason: "fraud".to_owned() }.into(),
        AccountReinstated {}.into(),
        AccountForgotten {}.into(),
    ]
}
