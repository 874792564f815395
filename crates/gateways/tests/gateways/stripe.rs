//! The adapter for Stripe: the contract over a Stripe that answers as documented, and over `localstripe`; and what it makes
//! of answers that fail, are lost, or are none.

use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};
use souk_domain::{
    Money, OrderId,
    payment::{FailureReason, PaymentMethod},
};
use souk_gateways::{
    BuyerAction, Cancellation, Charge, GatewayError, Measured, Notice, PaymentDetails, PaymentGateway,
    Purchase, Secret, Standing,
    stripe::{
        Stripe, StripeConfig, WebhookError,
        testing::{Fault, SECRET_KEY, TestStripe, WEBHOOK_SECRET, sign},
    },
};
use tempfile::TempDir;
use uuid::Uuid;

use crate::{
    contract::{Samples, payments},
    support::{Keys, buys, card, now, usd},
};

struct Shop {
    server: TestStripe,
    stripe: Stripe,
    keys: Keys,
}

impl Shop {
    async fn open() -> Self {
        let server = TestStripe::start(now).await;
        Self::of(server.config(), server)
    }

    fn of(config: StripeConfig, server: TestStripe) -> Self {
        let stripe = Stripe::new(config, now).unwrap();
        Self { server, stripe, keys: Keys::from_seed(Uuid::nil()) }
    }

    async fn method(&self, number: &str) -> PaymentMethod {
        self.stripe.tokenize(self.keys.next(), self.keys.account(), &card(number)).await.unwrap()
    }

    async fn purchase(&self, number: &str) -> Purchase {
        buys(self.keys.next(), &self.method(number).await, usd(1599))
    }

    async fn charged(&self) -> (Purchase, String) {
        let purchase = self.purchase("4242424242424242").await;
        match self.stripe.charge(&purchase).await.unwrap() {
            Charge::Charged { charge_id } => (purchase, charge_id),
            other => panic!("{other:?}"),
        }
    }

    fn succeeded(&self) -> usize {
        self.server.all("pi_").iter().filter(|intent| intent["status"] == "succeeded").count()
    }
}

fn is_unknown<T>(answer: &Result<T, GatewayError>) -> bool {
    matches!(answer, Err(GatewayError::Unknown(_)))
}

fn is_unavailable<T>(answer: &Result<T, GatewayError>) -> bool {
    matches!(answer, Err(GatewayError::Unavailable(_)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_adapter_keeps_the_contract_over_a_stripe_as_documented() {
    let shop = Shop::open().await;
    let server = shop.server.clone();
    let samples = Samples {
        pays: card("4242424242424242"),
        declined: card("4000000000000002"),
        asks: card("4000002500003155"),
        answer: Box::new(move |charge_id, confirm| {
            server.confirm(&charge_id, confirm);
            Box::pin(async {})
        }),
        amount: usd(1599),
    };
    payments(Arc::new(Measured::new("stripe", shop.stripe)), shop.keys, samples).await;
}

/// `localstripe` of PyPI, which keeps intents, methods and refunds like Stripe. What it lacks is put in front of it:
/// idempotency keys. It knows no search and no disputes, and takes any amount for a refund.
struct LocalStripe(Child, #[expect(dead_code, reason = "its folder")] TempDir);

impl LocalStripe {
    async fn start(python: &PathBuf) -> (Self, reqwest::Url) {
        let port = std::net::TcpListener::bind("[::]:0").unwrap().local_addr().unwrap().port();
        let folder = tempfile::tempdir().unwrap();
        let child = Command::new(python)
            .args(["-m", "localstripe", "--from-scratch", "--port", &port.to_string()])
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let local = Self(child, folder);
        let url: reqwest::Url = format!("http://127.0.0.1:{port}").parse().unwrap();
        for _ in 0..600 {
            if reqwest::get(url.clone()).await.is_ok() {
                return (local, url);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("localstripe does not start");
    }
}

impl Drop for LocalStripe {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A Python that has `localstripe`: `SOUK_TEST_PYTHON`, which `scripts/test` sets.
fn python() -> Option<PathBuf> {
    let python = PathBuf::from(std::env::var_os("SOUK_TEST_PYTHON")?);
    let found = Command::new(&python).args(["-c", "import localstripe"]).status();
    assert!(found.is_ok_and(|status| status.success()), "SOUK_TEST_PYTHON has no localstripe");
    Some(python)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_adapter_keeps_the_contract_over_localstripe() {
    let Some(python) = python() else {
        eprintln!(
            "SKIPPED: no localstripe; set SOUK_TEST_PYTHON to a Python of tests/python/requirements.txt"
        );
        return;
    };
    let (_local, behind) = LocalStripe::start(&python).await;
    let server = TestStripe::before(behind.clone(), now).await;
    let answer = move |charge_id: String, confirm: bool| {
        let behind = behind.clone();
        let work: futures::future::BoxFuture<'static, ()> = Box::pin(async move {
            let http = reqwest::Client::new();
            let intent = format!("{behind}v1/payment_intents/{charge_id}");
            let shown = http.get(&intent).bearer_auth(SECRET_KEY).send().await.unwrap();
            let shown: Value = serde_json::from_slice(&shown.bytes().await.unwrap()).unwrap();
            let secret = shown["client_secret"].as_str().unwrap();
            let body = json!({ "client_secret": secret, "success": confirm }).to_string();
            let answer = http.post(format!("{intent}/_authenticate")).bearer_auth(SECRET_KEY).body(body);
            assert!(answer.send().await.unwrap().status().is_success());
        });
        work
    };
    let samples = Samples {
        pays: card("4242424242424242"),
        // The well-known 4000000000000002 is declined when it is attached to a customer, which we do not do.
        declined: card("4000000000000341"),
        asks: card("4000002500003155"),
        answer: Box::new(answer),
        amount: usd(1599),
    };
    let stripe = Stripe::new(server.config(), now).unwrap();
    payments(Arc::new(Measured::new("stripe", stripe)), Keys::from_seed(Uuid::nil()), samples).await;
}

#[tokio::test]
async fn a_token_of_the_browser_stands_for_its_card() {
    let shop = Shop::open().await;
    let tokenize = async |token: &str| {
        let details = PaymentDetails::CardToken { token: token.into() };
        shop.stripe.tokenize(shop.keys.next(), shop.keys.account(), &details).await
    };
    let method = tokenize("pm_card_visa").await.unwrap();
    assert_eq!(method.last_four.as_deref(), Some("4242"));
    for wrong in ["pm_nobody", "tok_1", "pm_../customers"] {
        let refused = tokenize(wrong).await;
        assert!(
            matches!(&refused, Err(GatewayError::Invalid { field, .. }) if field == "paymentInfo.token"),
            "{refused:?}"
        );
    }
    let charge = shop.stripe.charge(&buys(shop.keys.next(), &method, usd(100))).await.unwrap();
    assert!(matches!(charge, Charge::Charged { .. }));
    let upi = PaymentDetails::Upi { vpa: "success@upi".into() };
    let refused = shop.stripe.tokenize(shop.keys.next(), shop.keys.account(), &upi).await;
    assert!(
        matches!(refused, Err(GatewayError::Invalid { field, .. }) if field == "paymentInfo.paymentType")
    );
}

#[tokio::test]
async fn a_charge_happens_once_whatever_becomes_of_its_answers() {
    let shop = Shop::open().await;
    let faults = [
        Fault::CutAfter,
        Fault::CutBefore,
        Fault::Garbage,
        Fault::Status(500),
        Fault::Slow(Duration::from_secs(1)),
    ];
    let impatient = StripeConfig { timeout: Duration::from_millis(300), ..shop.server.config() };
    let stripe = Stripe::new(impatient, now).unwrap();
    for (count, fault) in faults.into_iter().enumerate() {
        // At the making of the intent, and at its confirmation.
        for step in ["POST /v1/payment_intents", "POST /v1/payment_intents/pi_"] {
            let purchase = shop.purchase("4242424242424242").await;
            shop.server.fail(step, fault.clone());
            let answer = stripe.charge(&purchase).await;
            assert!(is_unknown(&answer), "{step} {fault:?}: {answer:?}");
            let charge = shop.stripe.charge(&purchase).await.unwrap();
            assert!(matches!(charge, Charge::Charged { .. }), "{step} {fault:?}: {charge:?}");
            assert_eq!(shop.stripe.find(&purchase).await.unwrap(), Some(charge));
        }
        assert_eq!(shop.succeeded(), 2 * (count + 1));
    }
}

#[tokio::test]
async fn what_stripe_did_not_take_did_not_happen() {
    let shop = Shop::open().await;
    for status in [409, 429, 503, 401] {
        let purchase = shop.purchase("4242424242424242").await;
        shop.server.fail("POST /v1/payment_intents", Fault::Status(status));
        let answer = shop.stripe.charge(&purchase).await;
        assert!(is_unavailable(&answer), "{status}: {answer:?}");
        assert_eq!(shop.stripe.find(&purchase).await.unwrap(), None);
    }
    let nowhere = StripeConfig { url: "http://127.0.0.1:9".parse().unwrap(), ..shop.server.config() };
    let stripe = Stripe::new(nowhere, now).unwrap();
    let purchase = shop.purchase("4242424242424242").await;
    assert!(is_unavailable(&stripe.charge(&purchase).await));
}

#[tokio::test]
async fn an_unknown_charge_can_be_cancelled_and_never_happens() {
    let shop = Shop::open().await;
    for fault in [Fault::CutBefore, Fault::CutAfter, Fault::Status(500)] {
        let purchase = shop.purchase("4242424242424242").await;
        shop.server.fail("POST /v1/payment_intents", fault);
        assert!(is_unknown(&shop.stripe.charge(&purchase).await));
        assert_eq!(shop.stripe.cancel(&purchase).await.unwrap(), Cancellation::Cancelled);
        // It was on its way all the time.
        let late = shop.stripe.charge(&purchase).await.unwrap();
        assert_eq!(late, Charge::Failed(FailureReason::Cancelled));
    }
    assert_eq!(shop.succeeded(), 0);
}

#[tokio::test]
async fn declines_say_why_and_close_the_intent() {
    let shop = Shop::open().await;
    for (number, reason) in [
        ("4000000000000002", FailureReason::CardDeclined),
        ("4000000000009995", FailureReason::InsufficientFunds),
    ] {
        let purchase = shop.purchase(number).await;
        assert_eq!(shop.stripe.charge(&purchase).await.unwrap(), Charge::Failed(reason));
        assert_eq!(shop.stripe.find(&purchase).await.unwrap(), Some(Charge::Failed(reason)));
    }
    let open = shop.server.all("pi_").into_iter().filter(|intent| intent["status"] != "canceled").count();
    assert_eq!(open, 0, "nobody can try another card");
}

#[tokio::test]
async fn after_stripe_has_forgotten_the_key_the_charge_is_found_by_its_metadata() {
    let shop = Shop::open().await;
    let (purchase, charge_id) = shop.charged().await;
    shop.server.forget_keys().await;
    // Two days later.
    let at = now() + chrono::Duration::days(2);
    shop.server.change(&purchase.method.token, |method| {
        method["created"] = json!(now().timestamp() - (at - now()).num_seconds());
    });
    let again = shop.stripe.charge(&purchase).await.unwrap();
    assert_eq!(again, Charge::Charged { charge_id: charge_id.clone() });
    assert_eq!(shop.succeeded(), 1);
    let other = Purchase { amount: usd(1), ..purchase };
    shop.server.forget_keys().await;
    assert!(
        matches!(shop.stripe.charge(&other).await, Err(GatewayError::Invalid { field, .. }) if field == "key")
    );

    let (key, part) = (shop.keys.next(), usd(1000));
    let refund = shop.stripe.refund(key, &charge_id, part).await.unwrap();
    shop.server.forget_keys().await;
    assert_eq!(shop.stripe.refund(key, &charge_id, part).await.unwrap(), refund);
    assert_eq!(shop.server.all("re_").len(), 1);
}

#[tokio::test]
async fn a_refund_happens_once_whatever_becomes_of_its_answers() {
    let shop = Shop::open().await;
    for fault in [Fault::CutAfter, Fault::CutBefore, Fault::Garbage, Fault::Status(500)] {
        let (_, charge_id) = shop.charged().await;
        let key = shop.keys.next();
        shop.server.fail("POST /v1/refunds", fault.clone());
        assert!(is_unknown(&shop.stripe.refund(key, &charge_id, usd(1599)).await));
        let refund = shop.stripe.refund(key, &charge_id, usd(1599)).await.unwrap();
        let of = |refund: &&Value| refund["payment_intent"] == charge_id.as_str();
        let made = shop.server.all("re_");
        let ids: Vec<_> = made.iter().filter(of).map(|refund| refund["id"].as_str().unwrap()).collect();
        assert_eq!(ids, [refund], "{fault:?}");
    }
}

#[tokio::test]
async fn an_authorization_is_captured() {
    let shop = Shop::open().await;
    let (purchase, charge_id) = shop.charged().await;
    shop.server.change(&charge_id, |intent| intent["status"] = json!("requires_capture"));
    assert_eq!(shop.stripe.charge(&purchase).await.unwrap(), Charge::Charged { charge_id });
    assert_eq!(shop.succeeded(), 1);
}

#[tokio::test]
async fn the_buyer_is_sent_to_his_bank_or_confirms_in_the_page() {
    let shop = Shop::open().await;
    let purchase = shop.purchase("4000002500003155").await;
    let Charge::ActionRequired { charge_id } = shop.stripe.charge(&purchase).await.unwrap() else {
        panic!("it asks")
    };
    let Some(BuyerAction::ClientSecret { client_secret }) = shop.stripe.action(&charge_id).await.unwrap()
    else {
        panic!("a secret for the script")
    };
    assert!(client_secret.starts_with(&charge_id));

    let returns = StripeConfig {
        return_url: Some("https://shop.example/back".parse().unwrap()),
        ..shop.server.config()
    };
    let stripe = Stripe::new(returns, now).unwrap();
    let purchase = shop.purchase("4000002500003155").await;
    let Charge::ActionRequired { charge_id } = stripe.charge(&purchase).await.unwrap() else {
        panic!("it asks")
    };
    let Some(BuyerAction::Redirect { url }) = stripe.action(&charge_id).await.unwrap() else {
        panic!("an address")
    };
    assert!(url.starts_with("https://hooks.stripe.com/"));
}

#[tokio::test]
async fn only_what_stripe_signed_lately_is_believed() {
    let shop = Shop::open().await;
    let (body, good) = shop.server.event("evt_1", "payment_intent.succeeded", "pi_1");
    let verify = |signature: &str, body: &str| shop.stripe.verify(signature, body.as_bytes());
    let event = verify(&good, &body).unwrap();
    assert_eq!((event.id.as_str(), event.kind.as_str()), ("evt_1", "payment_intent.succeeded"));

    let at = |offset: i64| sign(WEBHOOK_SECRET, now().timestamp() + offset, &body);
    assert!(verify(&at(-299), &body).is_ok());
    for stale in [at(-301), at(301)] {
        assert!(matches!(verify(&stale, &body), Err(WebhookError::Stale)));
    }
    let (time, hex) = good.split_once(",v1=").unwrap();
    // While a secret is changed there are two signatures, and other schemes are passed over.
    let other = sign("whsec_other", now().timestamp(), &body);
    let (_, other_hex) = other.split_once(",v1=").unwrap();
    assert!(verify(&format!("{time},v0={hex},v1={other_hex},v1={hex}"), &body).is_ok());
    let forged = [
        other.clone(),
        time.to_owned(),
        format!("v1={hex}"),
        format!("{time},v0={hex}"),
        format!("{time},v1=é"),
    ];
    for forged in forged {
        assert!(matches!(verify(&forged, &body), Err(WebhookError::Signature)), "{forged}");
    }
    assert!(matches!(verify(&good, &body.replace("evt_1", "evt_2")), Err(WebhookError::Signature)));
    let nonsense = "no event";
    assert!(matches!(
        verify(&sign(WEBHOOK_SECRET, now().timestamp(), nonsense), nonsense),
        Err(WebhookError::Malformed)
    ));
    let deaf = StripeConfig { webhook_secret: None, ..shop.server.config() };
    let deaf = Stripe::new(deaf, now).unwrap();
    assert!(matches!(deaf.verify(&good, body.as_bytes()), Err(WebhookError::NotConfigured)));
}

#[tokio::test]
async fn an_event_says_how_things_stand_now() {
    let shop = Shop::open().await;
    let (purchase, charge_id) = shop.charged().await;
    let order = OrderId(purchase.key);
    let notice = async |kind: &str, object: &str| {
        let (body, signature) = shop.server.event("evt_1", kind, object);
        let event = shop.stripe.verify(&signature, body.as_bytes()).unwrap();
        shop.stripe.notice(&event).await
    };
    let charge = Charge::Charged { charge_id: charge_id.clone() };
    // Sent before it was paid, it arrives after.
    for kind in
        ["payment_intent.succeeded", "payment_intent.payment_failed", "payment_intent.requires_action"]
    {
        let said = notice(kind, &charge_id).await.unwrap();
        assert_eq!(said, Some(Notice::Charge { order, amount: usd(1599), charge: charge.clone() }));
    }
    let key = shop.keys.next();
    let refund_id = shop.stripe.refund(key, &charge_id, usd(1000)).await.unwrap();
    let said = notice("refund.updated", &refund_id).await.unwrap();
    assert_eq!(said, Some(Notice::Refund { order, key, amount: usd(1000), refund_id: refund_id.clone() }));
    shop.server.change(&refund_id, |refund| refund["status"] = json!("failed"));
    assert_eq!(notice("refund.updated", &refund_id).await.unwrap(), None, "it never left");

    for (status, standing) in [
        ("warning_needs_response", None),
        ("needs_response", Some(Standing::Open)),
        ("under_review", Some(Standing::Open)),
        ("won", Some(Standing::Won)),
        ("lost", Some(Standing::Lost)),
    ] {
        let dispute_id = shop.server.dispute(&charge_id, 599, status);
        let said = notice("charge.dispute.created", &dispute_id).await.unwrap();
        let expected = standing.map(|standing| Notice::Dispute {
            order,
            charge: charge.clone(),
            dispute_id,
            amount: usd(599),
            reason: "fraudulent".into(),
            standing,
        });
        assert_eq!(said, expected, "{status}");
    }
    shop.server.change(&charge_id, |intent| intent["metadata"] = json!({}));
    assert_eq!(notice("payment_intent.succeeded", &charge_id).await.unwrap(), None, "of another shop");
    assert_eq!(notice("customer.created", "cus_1").await.unwrap(), None);
    assert_eq!(notice("payment_intent.succeeded", "../refunds").await.unwrap(), None);
}

#[tokio::test]
async fn nothing_that_is_printed_tells_a_secret() {
    let shop = Shop::open().await;
    let config = shop.server.config();
    let shown = format!("{config:?} {:?}", shop.stripe);
    assert!(!shown.contains(SECRET_KEY) && !shown.contains(WEBHOOK_SECRET), "{shown}");
    let bad = Stripe::new(StripeConfig { secret_key: Secret::new("sk_wrong"), ..config }, now).unwrap();
    let error = bad.charge(&shop.purchase("4242424242424242").await).await.unwrap_err();
    assert!(!error.to_string().contains("sk_wrong"), "{error}");
    let tiny = Money::new(0, usd(0).currency);
    let free = buys(shop.keys.next(), &shop.method("4242424242424242").await, tiny);
    assert!(
        matches!(shop.stripe.charge(&free).await, Err(GatewayError::Invalid { field, .. }) if field == "amount")
    );
}
