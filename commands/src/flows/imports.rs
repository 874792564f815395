//! What imports do and clients cannot: orders of another shop, at the prices and times of that shop, settled by invoice.
//! An order that is imported goes through the same checkout as any other.

use souk_domain::{
    AccountId, CartId, ItemId, MoneyError, OrderId, Sku, SkuId,
    cart::{CartCheckedOut, CartCommand, CartError, CartLine, CartState},
    inventory::{InventoryCommand, InventoryError, InventoryState},
    order::{OrderLine, total},
    payment::{PaymentMethod, PaymentType},
    pricing::Charges,
};
use souk_event_log::Revision;
use souk_vault::VaultError;
use uuid::Uuid;

use super::checkout::{Address, seal_address};
use crate::{Context, ExecuteError, Market, executor::ReadFailure};

/// A sale that another shop made. [`Context::occurred_at`] says when.
#[derive(Clone, Debug)]
pub struct Invoice {
    /// The other shop's own, unique among the invoices of the account.
    pub number: String,
    pub buyer: AccountId,
    /// Each SKU at most once.
    pub lines: Vec<OrderLine>,
    pub address: Address,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invoiced {
    pub order_id: OrderId,
    /// Not so if it was imported before.
    pub new: bool,
}

/// Stock of one SKU that orders to come will need.
#[derive(Clone, Debug)]
pub struct Need {
    pub item_id: ItemId,
    pub seller: AccountId,
    pub sku_id: SkuId,
    pub sku: Sku,
    pub quantity: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    #[error("an invoice has lines, and they add up")]
    NoTotal,
    #[error(transparent)]
    Money(#[from] MoneyError),
    #[error(transparent)]
    Vault(#[from] VaultError),
    #[error(transparent)]
    Cart(#[from] ExecuteError<CartError>),
    #[error(transparent)]
    Inventory(#[from] ExecuteError<InventoryError>),
}

impl From<ReadFailure> for ImportError {
    fn from(failure: ReadFailure) -> Self {
        Self::Cart(failure.into())
    }
}

/// The order that an invoice became, if it was imported before.
pub async fn imported(
    market: &Market,
    buyer: AccountId,
    number: &str,
) -> Result<Option<OrderId>, ImportError> {
    let read = |cart: &CartState| cart.checked_out;
    Ok(market.aggregates.carts.read(cart_id(buyer, number), read).await?.value)
}

/// Fills a cart of its own and checks it out at the invoice's prices; the process manager places the order.
pub async fn invoice(market: &Market, context: &Context, invoice: Invoice) -> Result<Invoiced, ImportError> {
    let Invoice { number, buyer, lines, address } = invoice;
    if let Some(order_id) = imported(market, buyer, &number).await? {
        return Ok(Invoiced { order_id, new: false });
    }
    let carts = &market.aggregates.carts;
    let cart_id = cart_id(buyer, &number);
    let cart_lines = lines.iter().map(cart_line).collect();
    // Carts that buyers fill themselves count from 1.
    let fill = CartCommand::SetLines { account_id: buyer, number: 0, lines: cart_lines };
    let filled = carts.execute(cart_id, fill, &context.step("lines")).await?;
    let (revision, position) = filled.revision.zip(filled.position).ok_or(ImportError::NoTotal)?;
    let order_id = OrderId::of_cart(cart_id, revision, position);
    let total = total(&lines).ok_or(ImportError::NoTotal)??;
    let ship_to = seal_address(market, buyer, &address).await?;
    let payment =
        PaymentMethod { payment_type: PaymentType::Invoice, token: number, brand: None, last_four: None };
    let charges = Charges::default();
    let checkout = CartCheckedOut { order_id, buyer_id: buyer, lines, total, charges, payment, ship_to };
    carts
        .execute_at(cart_id, Some(revision), CartCommand::CheckOut(checkout), &context.step("checkout"))
        .await?;
    Ok(Invoiced { order_id, new: true })
}

/// Receives what is missing of a need and answers how much that was. Asked again it finds nothing missing.
pub async fn receive_missing(market: &Market, context: &Context, need: Need) -> Result<u64, ImportError> {
    let Need { item_id, seller, sku_id, sku, quantity } = need;
    let inventory = &market.aggregates.inventory;
    let mut received = 0;
    loop {
        let seen = inventory
            .read(sku_id, |state: &InventoryState| (state.available(), state.owner.is_some()))
            .await?;
        let (available, known) = seen.value;
        let missing = quantity.saturating_sub(available);
        if missing == 0 && known {
            return Ok(received);
        }
        let part = u32::try_from(missing).unwrap_or(u32::MAX);
        let reason = Some("imported orders".to_owned());
        let command = InventoryCommand::Receive {
            item_id,
            seller_id: seller,
            sku: sku.clone(),
            quantity: part,
            reason,
        };
        match inventory
            .execute_at(sku_id, seen.revision, command, &at_revision(context, sku_id, seen.revision))
            .await
        {
            Ok(_) => received += u64::from(part),
            // Somebody buys meanwhile: look again.
            Err(ExecuteError::Stale { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Takes back goods that were sold: `context` is that of the line of the return, so that it is taken back once.
pub async fn take_back(
    market: &Market,
    context: &Context,
    returned: Need,
    reason: String,
) -> Result<(), ImportError> {
    let Need { item_id, seller, sku_id, sku, quantity } = returned;
    let quantity = u32::try_from(quantity).map_err(|_| ExecuteError::Refused(InventoryError::TooMuch))?;
    let command =
        InventoryCommand::Receive { item_id, seller_id: seller, sku, quantity, reason: Some(reason) };
    market.aggregates.inventory.execute(sku_id, command, context).await?;
    Ok(())
}

fn cart_id(buyer: AccountId, number: &str) -> CartId {
    CartId(Uuid::new_v5(&buyer.0, format!("invoice/{number}").as_bytes()))
}

fn cart_line(line: &OrderLine) -> CartLine {
    CartLine {
        item_id: line.item_id,
        seller_id: line.seller_id,
        sku_id: line.sku_id,
        sku: line.sku.clone(),
        quantity: line.quantity,
    }
}

/// What is missing at one revision is received once.
fn at_revision(context: &Context, sku_id: SkuId, revision: Option<Revision>) -> Context {
    let at = revision.map_or_else(|| "none".to_owned(), |revision| revision.to_string());
    let command_id = Uuid::new_v5(&sku_id.0, format!("imported orders/{at}").as_bytes());
    Context { command_id, ..context.clone() }
}
