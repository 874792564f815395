//! What holds for any sequence of commands, and for any sequence of events, also one that no decider would write.

use proptest::{collection::vec, option, prelude::*, sample::select};
use souk_domain::{
    Currency, Decider, OrderId, PayoutId,
    account::{Account, AccountCommand, Role},
    cart::{Cart, CartCommand, CartEvent, CartLine, CartOpened, LineAdded, LineQuantityChanged, LineRemoved},
    inventory::{
        Ending, Inventory, InventoryCommand, InventoryEvent, InventoryState, MAX_ON_HAND,
        ReservationCommitted, ReservationRejected, ReservationReleased, StockAdjusted, StockReceived,
        StockReserved,
    },
    item::{Item, ItemCommand, ItemEvent, PriceChanged, Variant, VariantAdded},
    ledger::{
        EntryPosted, Ledger, LedgerAccount, LedgerCommand, LedgerEvent, LedgerState, balances, moved, shares,
    },
    order::{CancelReason, OrderCommand, OrderEvent, Orders},
    payment::{FailureReason, Payment, PaymentCommand, PaymentEvent},
    shipment::{Shipment, ShipmentCommand},
    testing::{decide, examples, fold, obey},
};
use uuid::Uuid;

fn config() -> ProptestConfig {
    ProptestConfig { failure_persistence: None, ..ProptestConfig::default() }
}

/// A command that led somewhere leads nowhere when it is decided again, but for those that are meant to add up: they
/// are known again by their command id, not by the state.
fn repeating_does_nothing<D: Decider>(commands: &[D::Command], adds_up: fn(&D::Command) -> bool)
where
    D::Command: std::fmt::Debug,
    D::Event: std::fmt::Debug,
{
    let mut state = D::State::default();
    for command in commands {
        let Ok(events) = decide::<D>(&state, command) else { continue };
        state = fold::<D>(state, &events);
        if !adds_up(command) {
            let again = decide::<D>(&state, command);
            assert!(
                matches!(&again, Ok(events) if events.is_empty()),
                "{command:?} led to {events:?}, then {again:?}"
            );
        }
    }
}

/// Whatever happened, there is a state, it survives being stored as a snapshot, and any command can be decided on it.
fn any_history_can_be_lived_with<D: Decider>(history: &[D::Event], commands: &[D::Command])
where
    D::State: std::fmt::Debug + PartialEq,
{
    let state = fold::<D>(D::State::default(), history);
    let snapshot = serde_json::to_vec(&state).unwrap_or_default();
    assert_eq!(serde_json::from_slice(&snapshot).ok().as_ref(), Some(&state));
    for command in commands {
        let _ = decide::<D>(&state, command);
    }
}

/// The laws of every aggregate, given how to draw its commands and its events.
macro_rules! laws {
    ($module:ident, $decider:ty, $commands:expr, $events:expr, adds up: $adds_up:expr) => {
        mod $module {
            use super::*;

            proptest! {
                #![proptest_config(config())]

                #[test]
                fn repeating_a_command_does_nothing(commands in vec($commands, 0..30)) {
                    repeating_does_nothing::<$decider>(&commands, $adds_up);
                }

                #[test]
                fn any_history_can_be_lived_with(events in vec($events, 0..30), commands in vec($commands, 0..8)) {
                    super::any_history_can_be_lived_with::<$decider>(&events, &commands);
                }
            }
        }
    };
}

laws!(
    inventory, Inventory, inventory_command(), inventory_event(),
    adds up: |command| matches!(command, InventoryCommand::Receive { .. } | InventoryCommand::Adjust { .. })
);
laws!(item, Item, item_command(), item_event(), adds up: |_| false);
laws!(cart, Cart, cart_command(), cart_event(), adds up: |_| false);
laws!(order, Orders, order_command(), select(examples::order()), adds up: |_| false);
laws!(payment, Payment, payment_command(), select(examples::payment()), adds up: |_| false);
laws!(shipment, Shipment, shipment_command(), select(examples::shipment()), adds up: |_| false);
laws!(ledger, Ledger, ledger_command(), select(examples::ledger()), adds up: |_| false);
// A name is sealed with fresh randomness: two ciphertexts say nothing about whether the names are the same.
laws!(
    account, Account, account_command(), select(examples::account()),
    adds up: |command| matches!(command, AccountCommand::ReviseProfile { .. })
);

proptest! {
    #![proptest_config(config())]

    #[test]
    fn nothing_is_ever_oversold(commands in vec(inventory_command(), 0..60)) {
        let (state, history) = obey::<Inventory>(&commands);
        let (mut came_in, mut reserved, mut committed) = (0i128, 0i128, 0i128);
        for event in &history {
            match event {
                InventoryEvent::StockReceived(event) => came_in += i128::from(event.quantity),
                InventoryEvent::StockAdjusted(event) => came_in += i128::from(event.change),
                InventoryEvent::StockReturned(event) => came_in += i128::from(event.quantity),
                InventoryEvent::StockReserved(event) => reserved += i128::from(event.quantity),
                InventoryEvent::ReservationReleased(event) => reserved -= i128::from(event.quantity),
                InventoryEvent::ReservationCommitted(event) => {
                    reserved -= i128::from(event.quantity);
                    committed += i128::from(event.quantity);
                }
                InventoryEvent::ReservationRejected(event) => prop_assert!(event.available <= MAX_ON_HAND),
            }
            prop_assert!(reserved >= 0 && reserved + committed <= came_in, "after {:?} of {:?}", event, history);
        }
        prop_assert_eq!(i128::from(state.reserved), reserved);
        prop_assert_eq!(i128::from(state.on_hand), came_in - committed);
        prop_assert_eq!(i128::from(state.available()), came_in - committed - reserved);
        prop_assert!(state.on_hand <= MAX_ON_HAND);
    }

    #[test]
    fn what_is_reserved_is_the_sum_of_the_open_reservations(events in vec(inventory_event(), 0..40)) {
        let state = fold::<Inventory>(InventoryState::default(), &events);
        let open: u64 = orders().filter_map(|order| state.open_reservation(order)).map(u64::from).sum();
        prop_assert_eq!(state.reserved, open);
    }

    #[test]
    fn a_released_order_is_never_reserved_again(
        before in vec(inventory_command(), 0..20),
        after in vec(inventory_command(), 0..20),
    ) {
        let (state, _) = obey::<Inventory>(&before);
        let order_id = examples::order_id(1);
        let released = decide::<Inventory>(&state, &InventoryCommand::Release { order_id }).unwrap();
        let mut state = fold::<Inventory>(state, &released);
        prop_assume!(state.ending(order_id) != Some(Ending::Committed));
        for command in &after {
            state = fold::<Inventory>(state.clone(), &decide::<Inventory>(&state, command).unwrap_or_default());
            prop_assert_eq!(state.open_reservation(order_id), None);
        }
    }

    #[test]
    fn an_order_is_ready_to_ship_or_being_cancelled_but_never_both(commands in vec(order_command(), 0..40)) {
        let (_, history) = obey::<Orders>(&commands);
        let forward = history.iter().any(|event| matches!(event, OrderEvent::OrderReadyToShip(_)));
        let back = history
            .iter()
            .any(|event| matches!(event, OrderEvent::CancellationRequested(_) | OrderEvent::OrderCancelled(_)));
        prop_assert!(!(forward && back), "{:?}", history);
    }

    #[test]
    fn each_step_of_an_order_happens_once(commands in vec(order_command(), 0..40)) {
        let (_, history) = obey::<Orders>(&commands);
        for (index, event) in history.iter().enumerate() {
            prop_assert!(!history[index + 1..].contains(event), "{:?}", history);
        }
    }

    #[test]
    fn money_is_taken_once_and_given_back_once_at_most(commands in vec(payment_command(), 0..40)) {
        let (_, history) = obey::<Payment>(&commands);
        let taken: Vec<_> = history
            .iter()
            .filter_map(|event| if let PaymentEvent::PaymentCompleted(event) = event { Some(event.amount) } else { None })
            .collect();
        let given_back: Vec<_> = history
            .iter()
            .filter_map(|event| if let PaymentEvent::PaymentRefunded(event) = event { Some(event.amount) } else { None })
            .collect();
        prop_assert!(taken.len() <= 1 && (given_back.is_empty() || given_back == taken), "{:?}", history);
    }

    #[test]
    fn what_is_asked_to_go_back_in_parts_never_exceeds_the_charge(commands in vec(payment_command(), 0..40)) {
        let (_, history) = obey::<Payment>(&commands);
        let (mut taken, mut back) = (0, 0);
        for event in &history {
            match event {
                PaymentEvent::PaymentCompleted(event) => taken += event.amount.amount,
                PaymentEvent::PartialRefundRequested(event) => {
                    back += event.amount.amount;
                    prop_assert!(back <= taken, "{:?}", history);
                }
                PaymentEvent::PaymentRefunded(event) => back += event.amount.amount,
                _ => {}
            }
        }
        prop_assert!(back <= taken, "{:?}", history);
    }

    #[test]
    fn what_goes_back_beyond_the_charge_is_lost_and_nothing_else(commands in vec(payment_command(), 0..60)) {
        let (_, history) = obey::<Payment>(&commands);
        let (mut taken, mut back, mut lost) = (0, 0, 0);
        let units = |money: Option<souk_domain::Money>| money.map_or(0, |money| money.amount);
        for event in &history {
            match event {
                PaymentEvent::PaymentCompleted(event) => taken += event.amount.amount,
                PaymentEvent::PartialRefundRequested(event) => back += event.amount.amount,
                PaymentEvent::PaymentRefunded(event) => {
                    back += event.amount.amount;
                    lost += units(event.loss);
                }
                PaymentEvent::ChargebackClosed(event) if !event.won => {
                    back += event.amount.amount;
                    lost += units(event.loss);
                }
                _ => {}
            }
            prop_assert_eq!(lost, (back - taken).max(0), "{:?}", history);
        }
    }

    #[test]
    fn a_cart_holds_each_sku_once(commands in vec(cart_command(), 0..30)) {
        let (state, _) = obey::<Cart>(&commands);
        for (index, line) in state.lines.iter().enumerate() {
            prop_assert!(line.quantity > 0);
            prop_assert!(state.lines[index + 1..].iter().all(|other| other.sku_id != line.sku_id));
        }
    }
}

fn orders() -> impl Iterator<Item = OrderId> {
    (0..4).map(examples::order_id)
}

fn order_id() -> impl Strategy<Value = OrderId> {
    (0u128..4).prop_map(examples::order_id)
}

fn quantity() -> impl Strategy<Value = u32> {
    prop_oneof![8 => 0u32..20, 1 => Just(u32::MAX)]
}

fn change() -> impl Strategy<Value = i64> {
    prop_oneof![8 => -20i64..20, 1 => Just(i64::MAX), 1 => Just(i64::MIN)]
}

fn inventory_command() -> impl Strategy<Value = InventoryCommand> {
    let receive = |quantity| InventoryCommand::Receive {
        item_id: examples::ITEM,
        seller_id: examples::SELLER,
        sku: examples::sku("red"),
        quantity,
        reason: None,
    };
    prop_oneof![
        2 => quantity().prop_map(receive),
        4 => (order_id(), quantity())
            .prop_map(|(order_id, quantity)| InventoryCommand::Reserve { order_id, quantity }),
        2 => order_id().prop_map(|order_id| InventoryCommand::Release { order_id }),
        2 => order_id().prop_map(|order_id| InventoryCommand::Commit { order_id }),
        1 => change().prop_map(|change| InventoryCommand::Adjust { change, reason: None }),
    ]
}

fn inventory_event() -> impl Strategy<Value = InventoryEvent> {
    let received = |quantity| StockReceived {
        item_id: examples::ITEM,
        seller_id: examples::SELLER,
        sku: examples::sku("red"),
        quantity,
        reason: None,
    };
    prop_oneof![
        quantity().prop_map(move |quantity| received(quantity).into()),
        (order_id(), quantity()).prop_map(|(order_id, quantity)| StockReserved { order_id, quantity }.into()),
        (order_id(), quantity()).prop_map(|(order_id, quantity)| ReservationRejected {
            order_id,
            quantity,
            available: 0
        }
        .into()),
        (order_id(), quantity())
            .prop_map(|(order_id, quantity)| ReservationReleased { order_id, quantity }.into()),
        (order_id(), quantity())
            .prop_map(|(order_id, quantity)| ReservationCommitted { order_id, quantity }.into()),
        change().prop_map(|change| StockAdjusted { change, reason: None }.into()),
    ]
}

fn sku_text() -> impl Strategy<Value = &'static str> {
    select(vec!["red", "blue", "green"])
}

fn variant() -> impl Strategy<Value = Variant> {
    (sku_text(), -1i64..5).prop_map(|(text, price)| examples::variant(text, price))
}

fn item_command() -> impl Strategy<Value = ItemCommand> {
    let details = || select(vec![examples::details("Pot"), examples::details("Teapot")]);
    prop_oneof![
        vec(variant(), 0..3).prop_map(|variants| ItemCommand::List(examples::listed(variants))),
        (option::of(details()), vec(variant(), 0..4))
            .prop_map(|(details, variants)| ItemCommand::Revise { details, variants }),
        Just(ItemCommand::Withdraw { reason: None }),
        Just(ItemCommand::Relist),
    ]
}

fn item_event() -> impl Strategy<Value = ItemEvent> {
    prop_oneof![
        select(examples::item()),
        variant().prop_map(|variant| VariantAdded { variant }.into()),
        variant().prop_map(|Variant { sku_id, price, .. }| PriceChanged { sku_id, price }.into()),
    ]
}

fn cart_line() -> impl Strategy<Value = CartLine> {
    (sku_text(), quantity()).prop_map(|(text, quantity)| examples::cart_line(text, quantity))
}

fn cart_command() -> impl Strategy<Value = CartCommand> {
    let (account_id, number) = (examples::BUYER, 1);
    prop_oneof![
        4 => vec(cart_line(), 0..4)
            .prop_map(move |lines| CartCommand::SetLines { account_id, number, lines }),
        2 => vec(cart_line(), 0..4).prop_map(move |lines| CartCommand::Restore { account_id, number, lines }),
        1 => Just(CartCommand::CheckOut(examples::checked_out())),
    ]
}

fn cart_event() -> impl Strategy<Value = CartEvent> {
    prop_oneof![
        Just(CartOpened { account_id: examples::BUYER, number: 1 }.into()),
        cart_line().prop_map(|line| LineAdded { line }.into()),
        cart_line()
            .prop_map(|CartLine { sku_id, quantity, .. }| LineQuantityChanged { sku_id, quantity }.into()),
        cart_line().prop_map(|CartLine { sku_id, .. }| LineRemoved { sku_id }.into()),
        Just(examples::checked_out().into()),
    ]
}

fn order_command() -> impl Strategy<Value = OrderCommand> {
    prop_oneof![
        4 => select(vec![
            OrderCommand::Place(examples::placed()),
            OrderCommand::MarkStockReserved,
            OrderCommand::MarkPaid,
            OrderCommand::MarkReadyToShip,
            OrderCommand::Complete,
        ]),
        1 => select(vec![
            OrderCommand::RequestCancellation,
            OrderCommand::Cancel(CancelReason::BuyerRequest.into()),
            OrderCommand::Cancel(CancelReason::Timeout.into()),
        ]),
    ]
}

fn payment_command() -> impl Strategy<Value = PaymentCommand> {
    prop_oneof![
        2 => Just(PaymentCommand::Request(examples::payment_requested())),
        2 => select(vec!["ch_1", "ch_2"])
            .prop_map(|charge_id| PaymentCommand::RecordCharge { charge_id: charge_id.to_owned() }),
        1 => select(vec![FailureReason::CardDeclined, FailureReason::Cancelled])
            .prop_map(|reason| PaymentCommand::RecordFailure { reason }),
        2 => Just(PaymentCommand::RequestRefund),
        2 => select(vec!["re_1", "re_2"])
            .prop_map(|refund_id| PaymentCommand::RecordRefund {
                refund_id: refund_id.to_owned(),
                amount: examples::payment_requested().amount,
            }),
        2 => (0..4_u128, 1..2_000_i64).prop_map(|(key, amount)| PaymentCommand::RequestPartialRefund {
            refund_key: Uuid::from_u128(key),
            amount: examples::cents(amount),
        }),
        1 => (0..4_u128).prop_map(|key| PaymentCommand::RecordPartialRefund {
            refund_key: Uuid::from_u128(key),
            refund_id: "re_3".to_owned(),
        }),
        1 => (select(vec!["dp_1", "dp_2"]), select(vec![true, false])).prop_map(|(dispute_id, won)| {
            PaymentCommand::CloseChargeback { dispute_id: dispute_id.to_owned(), won }
        }),
        1 => (select(vec!["dp_1", "dp_2"]), 1..4_000_i64).prop_map(|(dispute_id, amount)| {
            PaymentCommand::OpenChargeback {
                dispute_id: dispute_id.to_owned(),
                amount: examples::cents(amount),
                reason: "fraudulent".to_owned(),
            }
        }),
    ]
}

fn shipment_command() -> impl Strategy<Value = ShipmentCommand> {
    let text = || "sandbox".to_owned();
    select(vec![
        ShipmentCommand::Request(examples::shipment_requested()),
        ShipmentCommand::RecordReady { carrier: text(), booking_id: text() },
        ShipmentCommand::RecordRefusal { reason: text() },
        ShipmentCommand::Cancel,
        ShipmentCommand::Dispatch { lines: None, carrier: None, tracking_number: None },
        ShipmentCommand::Deliver { parcel: None },
        ShipmentCommand::GiveUp { request_id: Uuid::from_u128(1), lines: None, restock: true },
    ])
}

fn ledger_command() -> impl Strategy<Value = LedgerCommand> {
    let payout_id = |n: u128| PayoutId { seller_id: examples::SELLER, request_id: Uuid::from_u128(n) };
    let entry = |(n, amount, back): (u128, i64, bool)| {
        let (from, to) = (LedgerAccount::Clearing, LedgerAccount::SellerPayable);
        let (from, to) = if back { (to, from) } else { (from, to) };
        let postings = moved(examples::cents(amount), from, to);
        LedgerCommand::Post(EntryPosted { entry_id: Uuid::from_u128(n), postings, ..examples::sale() })
    };
    prop_oneof![
        (0_u128..6, 1_i64..500, any::<bool>()).prop_map(entry),
        (0_u128..3, 1_i64..500).prop_map(move |(n, amount)| LedgerCommand::RequestPayout {
            payout_id: payout_id(n),
            amount: examples::cents(amount),
        }),
        (0_u128..3).prop_map(move |n| LedgerCommand::SettlePayout {
            payout_id: payout_id(n),
            reference: "TF1".to_owned(),
        }),
        (0_u128..3).prop_map(move |n| LedgerCommand::FailPayout {
            payout_id: payout_id(n),
            reason: "closed".to_owned(),
        }),
    ]
}

fn account_command() -> impl Strategy<Value = AccountCommand> {
    let display_name = || examples::sealed(examples::BUYER, "name");
    select(vec![
        AccountCommand::Register { role: Role::Buyer, email: None, display_name: display_name() },
        AccountCommand::GrantRole(Role::Seller),
        AccountCommand::ReviseProfile { display_name: display_name() },
        AccountCommand::Suspend { reason: "fraud".to_owned() },
        AccountCommand::Reinstate,
        AccountCommand::Forget,
    ])
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn the_accounts_of_a_seller_sum_to_zero_and_no_payout_exceeds_what_is_owed(
        commands in vec(ledger_command(), 0..40),
    ) {
        let mut state = LedgerState::default();
        for command in commands {
            for event in decide::<Ledger>(&state, &command).unwrap_or_default() {
                prop_assert!(balances(&event.postings()));
                state = Ledger::evolve(state, &event);
                if matches!(event, LedgerEvent::PayoutRequested(_)) {
                    prop_assert!(state.balance(LedgerAccount::SellerPayable, Currency::USD) >= 0);
                }
            }
            let sum: i64 = state.balances.values().flat_map(|accounts| accounts.values()).sum();
            prop_assert_eq!(sum, 0);
        }
    }

    #[test]
    fn shares_are_all_there_is(amount in 0_i64..1_000_000, weights in vec(0_i64..10_000, 1..6)) {
        let weights = weights.into_iter().enumerate().collect();
        let shares = shares(examples::cents(amount), &weights);
        prop_assert_eq!(shares.values().map(|share| share.amount).sum::<i64>(), amount);
        prop_assert!(shares.values().all(|share| share.amount >= 0));
    }
}
