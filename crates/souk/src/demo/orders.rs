//! The demo's orders: one for each way in which an order ends.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};
use uuid::Uuid;

use super::SELLERS;
use crate::{
    client::{Cart, Order, Session},
    import::product::item_id,
    progress::Progress,
};

pub(super) const HEADPHONES_SKU: &str = "auralis-one-wireless-headphones-black";

/// How long an order may take to end.
const PATIENCE: Duration = Duration::from_secs(30);

struct Scenario {
    /// What it ends as: completed, or the reason of its cancellation.
    end: &'static str,
    item: Uuid,
    sku: Option<&'static str>,
    quantity: u32,
    payment: Value,
    country: &'static str,
    cancel: bool,
}

fn card(number: &str) -> Value {
    json!({ "paymentType": "card", "cardNo": number, "expiry": "12/39", "cvc": "123" })
}

fn from(seller: usize, source: &str) -> Uuid {
    item_id(SELLERS[seller].id(), source).0
}

pub(super) fn headphones() -> Uuid {
    from(1, "auralis-one-wireless-headphones")
}

fn scenarios() -> [Scenario; 5] {
    let plain = |end, item| Scenario {
        end,
        item,
        sku: None,
        quantity: 1,
        payment: card("4242424242424242"),
        country: "GB",
        cancel: false,
    };
    [
        Scenario { sku: Some(HEADPHONES_SKU), ..plain("completed", headphones()) },
        // There is one of these.
        Scenario { quantity: 2, ..plain("outOfStock", from(1, "auralis-no-1-collector-s-headphones")) },
        Scenario {
            payment: card("4000000000000002"),
            ..plain("paymentDeclined", from(0, "kessari-chef-s-knife-20-cm"))
        },
        // Nobody delivers to Antarctica.
        Scenario {
            country: "AQ",
            payment: json!({ "paymentType": "upi", "vpa": "success@upi" }),
            ..plain("shippingUnavailable", from(0, "nordveil-carafe-with-cork-stopper"))
        },
        Scenario {
            cancel: true,
            sku: Some("tindle-silicone-spatula-set-red"),
            payment: json!({ "paymentType": "wallet" }),
            ..plain("buyerRequest", from(0, "tindle-silicone-spatula-set"))
        },
    ]
}

#[cfg(test)]
pub(super) fn wanted() -> Vec<(Uuid, Option<&'static str>)> {
    scenarios().iter().map(|scenario| (scenario.item, scenario.sku)).collect()
}

/// Places those that are not there yet, one after another, and answers them all.
pub(super) async fn place(buyer: &Session) -> anyhow::Result<Vec<Order>> {
    let known = buyer.orders().await?;
    let scenarios = scenarios();
    let progress = Progress::new("orders", scenarios.len() as u64);
    let (mut placed, mut placed_now) = (Vec::new(), false);
    for scenario in &scenarios {
        let known = known.iter().find(|order| scenario.is_end_of(order));
        placed_now |= known.is_none();
        let order = match known {
            Some(order) => order.clone(),
            None => {
                scenario.play(buyer).await.with_context(|| format!("the order that ends {}", scenario.end))?
            }
        };
        placed.push(order);
        progress.add(1);
    }
    if placed_now {
        // What the last cancelled order put back.
        empty_cart(buyer, None).await?;
    }
    progress.finish();
    Ok(placed)
}

impl Scenario {
    fn is_end_of(&self, order: &Order) -> bool {
        order.reason.as_deref().unwrap_or(&order.status) == self.end
    }

    async fn play(&self, buyer: &Session) -> anyhow::Result<Order> {
        // The lines of a cancelled order come back into the cart some time after it: then the amount is another one.
        let mut attempts = 0;
        let order = loop {
            let cart = self.fill_cart(buyer).await?;
            match buyer.check_out(&cart, &self.payment, self.country, None).await {
                Ok(order) => break order,
                Err(error) if attempts < 10 => {
                    tracing::debug!(%error, "checking out again");
                    attempts += 1;
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
                Err(error) => return Err(error),
            }
        };
        if self.cancel {
            buyer.cancel(order.id).await?;
        }
        let began = Instant::now();
        loop {
            // The view of orders may not have it yet.
            if let Ok(order) = buyer.order(order.id).await
                && ["completed", "cancelled"].contains(&&*order.status)
            {
                return Ok(order);
            }
            if began.elapsed() > PATIENCE {
                bail!("it did not end within {PATIENCE:?}");
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// With this line and no other.
    async fn fill_cart(&self, buyer: &Session) -> anyhow::Result<Cart> {
        let cart = buyer.set_line(self.item, self.sku, self.quantity).await?;
        if cart.lines.len() == 1 {
            Ok(cart)
        } else {
            empty_cart(buyer, Some(self.item)).await.map(|emptied| emptied.unwrap_or(cart))
        }
    }
}

/// Takes every line out but those of one item.
async fn empty_cart(buyer: &Session, but: Option<Uuid>) -> anyhow::Result<Option<Cart>> {
    let mut cart = None;
    for line in buyer.cart().await?.lines {
        if Some(line.item_id) != but {
            cart = Some(buyer.set_line(line.item_id, Some(&line.sku), 0).await?);
        }
    }
    Ok(cart)
}
