//! Registering, logging in, staying in, being thrown out.

use serde_json::json;
use souk_domain::account::Role;

use crate::support::{PASSWORD, Shop};

#[tokio::test]
async fn an_account_from_registration_to_a_rotated_session() {
    let shop = Shop::open().await;
    let body =
        json!({ "email": "Ann@example.org", "password": PASSWORD, "displayName": "Ann", "role": "buyer" });
    let created =
        shop.post("/v1/accounts", body.clone()).with("idempotency-key", "k1").send().await.expect(201);
    let repeated =
        shop.post("/v1/accounts", body.clone()).with("idempotency-key", "k1").send().await.expect(201);
    assert_eq!(created.body, repeated.body);
    shop.post("/v1/accounts", body.clone()).send().await.problem(409, "address-taken");
    let mut other = body;
    other["displayName"] = json!("Eve");
    shop.post("/v1/accounts", other)
        .with("idempotency-key", "k1")
        .send()
        .await
        .problem(422, "idempotency-key-reused");

    let login = json!({ "email": "ann@example.org", "password": PASSWORD, "otp": "123456" });
    let session = shop.post("/v1/sessions", login).send().await.expect(201);
    assert_eq!(
        (session.text("tokenType").as_str(), session.body["expiresIn"].as_i64()),
        ("Bearer", Some(900))
    );
    let bearer = format!("Bearer {}", session.text("accessToken"));
    let me = shop.get("/v1/accounts/me").with("authorization", &bearer).send().await.expect(200);
    assert_eq!(me.body["accountId"], created.body["accountId"]);
    assert_eq!((me.text("displayName").as_str(), &me.body["roles"]), ("Ann", &json!(["buyer"])));

    let refresh = |token: String| shop.post("/v1/sessions/refresh", json!({ "refreshToken": token }));
    let next = refresh(session.text("refreshToken")).send().await.expect(201);
    refresh(session.text("refreshToken")).send().await.problem(401, "session-ended");
    refresh(next.text("refreshToken")).send().await.problem(401, "session-ended");
}

#[tokio::test]
async fn who_may_not_get_in() {
    let shop = Shop::open().await;
    shop.join("ann", "buyer").await;
    let log_in = |email: &str, password: &str| {
        shop.post("/v1/sessions", json!({ "email": email, "password": password }))
    };
    let refused =
        log_in("ann@example.org", "wrong password").send().await.problem(401, "invalid-credentials");
    assert_eq!(refused.header("www-authenticate"), "Bearer");
    log_in("nobody@example.org", PASSWORD).send().await.problem(401, "invalid-credentials");
    assert_eq!(shop.post("/v1/sessions", json!({})).send().await.expect(422).fields(), ["email", "password"]);

    shop.get("/v1/cart").send().await.problem(401, "unauthenticated");
    for header in ["Bearer x.y.z", "Basic YTpi", "Bearer", ""] {
        let answer =
            shop.get("/v1/cart").with("authorization", header).send().await.problem(401, "unauthenticated");
        assert_eq!(answer.header("www-authenticate"), "Bearer");
    }
    let seller = shop.join("sam", "seller").await;
    shop.get("/v1/cart").by(&seller).send().await.problem(403, "forbidden");
    shop.get("/v1/events").by(&seller).send().await.problem(403, "forbidden");
    shop.get("/v1/admin/accounts").by(&seller).send().await.problem(403, "forbidden");
}

#[tokio::test]
async fn too_many_failures_are_slowed_down() {
    let shop = Shop::open().await;
    let wrong = json!({ "email": "ann@example.org", "password": "not the password" });
    let mut statuses = Vec::new();
    for _ in 0..11 {
        statuses.push(shop.post("/v1/sessions", wrong.clone()).send().await.status.as_u16());
    }
    assert_eq!(statuses[..10], [401; 10]);
    assert_eq!(statuses[10], 429);
    let answer = shop.post("/v1/sessions", wrong).send().await.problem(429, "too-many-requests");
    assert_eq!(answer.header("retry-after"), "60");
}

#[tokio::test]
async fn a_suspended_account_is_out_at_once_and_a_forgotten_one_for_good() {
    let shop = Shop::open().await;
    let admin = shop.appoint("root", Role::Admin).await;
    let ann = shop.join("ann", "buyer").await;
    let act = |what: &str| shop.call("POST", &format!("/v1/admin/accounts/{}/{what}", ann.id)).by(&admin);
    let login = json!({ "email": "ann@example.org", "password": PASSWORD });

    let suspended = act("suspend").json(json!({ "reason": "fraud" })).send().await.expect(200);
    assert_eq!(suspended.text("standing"), "suspended");
    shop.get("/v1/cart").by(&ann).send().await.problem(401, "unauthenticated");
    shop.post("/v1/sessions", login.clone()).send().await.problem(403, "account-suspended");
    let list = shop
        .get("/v1/admin/accounts")
        .by(&admin)
        .with("souk-min-position", &suspended.position())
        .send()
        .await;
    let rows = list.expect(200).body["accounts"].clone();
    let row = rows.as_array().unwrap().iter().find(|row| row["accountId"] == *ann.id).unwrap();
    assert_eq!((&row["email"], &row["reason"]), (&json!("ann@example.org"), &json!("fraud")));

    act("reinstate").send().await.expect(200);
    shop.post("/v1/sessions", login.clone()).send().await.expect(201);
    let granted = act("roles").json(json!({ "role": "analyst" })).send().await.expect(200);
    assert_eq!(granted.body["roles"], json!(["buyer", "analyst"]));
    assert_eq!(act("roles").json(json!({ "role": "king" })).send().await.expect(422).fields(), ["role"]);

    let forgotten = act("forget").send().await.expect(200);
    shop.post("/v1/sessions", login).send().await.problem(401, "invalid-credentials");
    let list = shop
        .get("/v1/admin/accounts")
        .by(&admin)
        .with("souk-min-position", &forgotten.position())
        .send()
        .await;
    assert!(!list.expect(200).text.contains("ann@example.org"));
    let unknown = "/v1/admin/accounts/00000000-0000-0000-0000-000000000000/suspend";
    shop.call("POST", unknown).by(&admin).send().await.problem(404, "not-found");
}
