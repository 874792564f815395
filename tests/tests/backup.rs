//! Backups of a market at work, and what comes back of them.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::join_all;
use serde_json::{Value, json};
use souk_tests::{Person, Server, binary, card, traversable};
use sqlx::{AssertSqlSafe, Row};
use tokio::process::{Child, Command};

/// A follower of the log, as an operator would start one.
fn follow(server: &Server, target: &Path) -> Child {
    server.command(&["backup", &target.to_string_lossy(), "--follow"]).spawn().unwrap()
}

/// How many events the log has.
fn events(server: &Server) -> u64 {
    let sql = "SELECT count(*) FROM events";
    server.log_database().query_row(sql, [], |row| row.get::<_, i64>(0)).unwrap() as u64
}

fn manifest(target: &Path) -> Option<Value> {
    serde_json::from_slice(&std::fs::read(target.join("manifest.json")).ok()?).ok()
}

fn events_in(target: &Path) -> u64 {
    manifest(target)
        .map_or(0, |manifest| manifest["head"]["position"].as_u64().map_or(0, |position| position + 1))
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_mins(1), "after a minute not yet: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits until every view holds what the log holds, and takes their rows. Times of the views' own bookkeeping are not in
/// them.
async fn rows_of_views(server: &Server) -> BTreeMap<String, Value> {
    let pool = server.pool().await;
    let head = events(server) as i64 - 1;
    let began = Instant::now();
    let sql = "select coalesce(min(position), -1)::bigint from views.projections where state = 'active'";
    while sqlx::query_scalar::<_, i64>(sql).fetch_one(&pool).await.unwrap() < head {
        assert!(began.elapsed() < Duration::from_mins(1), "the views do not catch up");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let views = sqlx::query("select viewname::text from pg_views where schemaname = 'views' order by 1");
    let mut rows = BTreeMap::new();
    for view in views.fetch_all(&pool).await.unwrap() {
        let name: String = view.get(0);
        let sql = format!(
            "select coalesce(jsonb_agg(to_jsonb(t) order by to_jsonb(t)::text), '[]') from views.{name} t"
        );
        let all: Value = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&pool).await.unwrap();
        rows.insert(name, all);
    }
    rows
}

/// Keeps buying until told to stop.
async fn shops(buyer: Person, mug: String, enough: Arc<AtomicBool>) -> u32 {
    let mut orders = 0;
    while !enough.load(Ordering::Relaxed) {
        let payment = card(["4242424242424242", "4000000000000002"][orders as usize % 2]);
        buyer.buys(&[(&mug, 1)], payment, ["GB", "AQ"][usize::from(orders % 4 == 2)]).await;
        orders += 1;
    }
    orders
}

#[tokio::test]
async fn a_market_comes_back_from_the_backup_that_followed_it() {
    let mut server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("backup");
    let seller = server.seller("sam").await;
    let admin = server.staff("ada", "admin").await;
    let mug = seller.lists("MUG", 1_000).await;
    let gil = server.buyer("gil").await;
    gil.buys(&[(&mug, 2)], card("4242424242424242"), "GB").await;

    let mut following = follow(&server, &target);
    let buyers = join_all(["bea", "ben", "bob"].map(|name| server.buyer(name))).await;
    let enough = Arc::new(AtomicBool::new(false));
    let shopping: Vec<_> = buyers
        .iter()
        .map(|buyer| tokio::spawn(shops(buyer.clone(), mug.clone(), Arc::clone(&enough))))
        .collect();
    // Killed in the middle, more than once; whoever comes next goes on.
    for _ in 0..3 {
        let before = events_in(&target);
        until("the backup grows", || events_in(&target) > before + 30).await;
        following.kill().await.unwrap();
        following = follow(&server, &target);
    }
    let forget = format!("/v1/admin/accounts/{}/forget", gil.account_id);
    admin.post(&forget, json!({})).await.expect(200);
    let late = server.buyer("lou").await;
    late.buys(&[(&mug, 1)], card("4242424242424242"), "GB").await;
    enough.store(true, Ordering::Relaxed);
    let orders: u32 = join_all(shopping).await.into_iter().map(Result::unwrap).sum();
    assert!(orders >= 3, "{orders}");

    let views = rows_of_views(&server).await;
    assert!(views["orders"].as_array().unwrap().len() as u32 == orders + 2, "{}", views["orders"]);
    let search = "/v1/items?term=mug&facets=brand&record=false";
    let found = server.until(&late, search, |found| found["total"] == json!(1)).await.body;
    let mine = |list: Value| list["orders"][0]["orderId"].as_str().unwrap().to_owned();
    let order = mine(late.get("/v1/orders").await.expect(200));
    let order_before = late.order(&order).await;
    assert!(order_before.to_string().contains("Mill Lane"), "{order_before}");
    until("the backup is complete", || events_in(&target) == events(&server)).await;
    // Everything goes at once.
    server.kill().await;
    following.kill().await.unwrap();

    let mut restored = Server::unstarted().await;
    std::fs::create_dir(restored.data_dir()).unwrap();
    std::fs::copy(server.data_dir().join("master.key"), restored.data_dir().join("master.key")).unwrap();
    let said = restored.run(&["restore", &target.to_string_lossy()]).await;
    assert!(said.contains("events, 7 accounts"), "{said}");
    restored.resume().await;
    assert_eq!(rows_of_views(&restored).await, views, "every view was built anew to the same content");
    assert_eq!(
        restored.until(&restored.stranger(), search, |found| found["total"] == json!(1)).await.body,
        found
    );

    let password = "correct horse battery";
    let late = restored.stranger().logged_in("lou@example.com", password).await;
    assert_eq!(late.order(&order).await, order_before, "what was sealed is read again");
    let refused = json!({"email": "gil@example.com", "password": password});
    restored.stranger().post("/v1/sessions", refused).await.refused(401);
    let admin = restored.stranger().logged_in("ada@example.com", password).await;
    let accounts = admin.get("/v1/admin/accounts?size=100").await.expect(200);
    let accounts = accounts["accounts"].as_array().unwrap();
    let forgotten = accounts.iter().find(|account| account["accountId"] == json!(gil.account_id)).unwrap();
    assert!(forgotten["email"].is_null() && forgotten["displayName"].is_null(), "{forgotten}");
    let again = restored.buyer("gil").await;
    assert_ne!(again.account_id, gil.account_id, "the address is free");
    // And it goes on: stock, bank and wallet are where they were.
    let bought = again.buys(&[(&mug, 1)], card("4242424242424242"), "GB").await;
    assert_eq!(bought["status"], json!("completed"));
    assert!(restored.run(&["events", "verify"]).await.contains("no damage"));
}

#[tokio::test]
async fn a_restore_that_is_refused_or_killed_does_no_harm() {
    let mut server = Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let target = folder.path().join("backup").to_string_lossy().into_owned();
    let seller = server.seller("sam").await;
    for n in 0..20 {
        seller.lists(&format!("MUG-{n}"), 10).await;
    }
    let said = server.run(&["backup", &target]).await;
    assert!(said.contains("the keys of 1 people") && said.contains("master key"), "{said}");
    assert!(server.run(&["backup", &target]).await.contains("the keys of 1 people"), "and again");
    let head = server.run(&["events", "verify"]).await;
    let key = std::fs::read(server.data_dir().join("master.key")).unwrap();
    server.stop().await;

    let refused = async |restored: &Server, arguments: &[&str]| {
        let output = restored.command(arguments).output().await.unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    let restored = Server::unstarted().await;
    let error = refused(&restored, &["restore", &target]).await;
    assert!(error.contains("the master key is missing"), "{error}");
    let error = refused(&restored, &["restore", &target, "--master-key", &"ab".repeat(32)]).await;
    assert!(error.contains("another master key"), "{error}");
    let error = refused(&restored, &["restore", &folder.path().to_string_lossy()]).await;
    assert!(error.contains("no backup was ever completed"), "{error}");
    let error = refused(&server, &["restore", &target]).await;
    assert!(error.contains("is in the way"), "{error}");

    // Killed at any moment, it is done again.
    let mut killed = 0;
    for wait in [0, 10, 30, 60, 100, 150, 250] {
        let restored = Server::unstarted().await;
        std::fs::create_dir(restored.data_dir()).unwrap();
        let path = restored.data_dir().join("master.key");
        std::fs::write(&path, &key).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        let mut restoring = restored.command(&["restore", &target]).spawn().unwrap();
        tokio::time::sleep(Duration::from_millis(wait)).await;
        restoring.kill().await.unwrap();
        if !restored.data_dir().join("events.sqlite").exists() {
            killed += 1;
            if restored.data_dir().join("events.sqlite.unfinished").exists() {
                let error = refused(&restored, &["serve"]).await;
                assert!(error.contains("run `souk restore` again"), "{error}");
            }
            let mut restoring = restored.command(&["restore", &target]);
            if !restoring.output().await.unwrap().status.success() {
                // It had come as far as the database, which is not the directory's own.
                restored.run(&["restore", &target, "--keep-vault"]).await;
            }
        }
        assert_eq!(restored.run(&["events", "verify"]).await, head);
    }
    println!("{killed} of 7 restores were killed before their end");
}

#[tokio::test]
async fn a_private_postgresql_is_backed_up_and_restored() {
    let folder = tempfile::tempdir().unwrap();
    traversable(folder.path());
    let souk = |data: &str| {
        let mut command = Command::new(binary());
        command.arg("--data-dir").arg(folder.path().join(data)).kill_on_drop(true);
        command
    };
    let run = async |command: &mut Command| {
        let output = command.output().await.unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{out}\n{err}");
        out.into_owned()
    };
    let password = folder.path().join("password");
    std::fs::write(&password, "correct horse battery\n").unwrap();
    let create = |data| {
        let mut command = souk(data);
        command.args(["account", "create", "--email", "ana@example.com", "--role", "analyst"]);
        command.stdin(std::fs::File::open(&password).unwrap());
        command
    };
    run(&mut create("data")).await;
    let target = folder.path().join("backup");
    // No server runs: the command starts what it needs.
    run(souk("data").arg("backup").arg(&target)).await;
    std::fs::create_dir(folder.path().join("other")).unwrap();
    std::fs::copy(folder.path().join("data/master.key"), folder.path().join("other/master.key")).unwrap();
    // As a restore that was killed after it had made the database.
    std::fs::write(folder.path().join("other/events.sqlite.unfinished"), "half of it").unwrap();
    run(souk("other").arg("restore").arg(&target)).await;
    let taken = create("other").output().await.unwrap();
    assert!(String::from_utf8_lossy(&taken.stderr).contains("there is an account"), "{taken:?}");
}

#[tokio::test]
async fn anchors_show_that_the_tail_was_cut() {
    let folder = tempfile::tempdir().unwrap();
    let anchors = folder.path().join("anchors").to_string_lossy().into_owned();
    let mut server = Server::with("{}", &["--anchor", &anchors, "--anchor-every", "1h"]).await;
    server.seller("sam").await.lists("MUG", 3).await;
    server.run(&["events", "anchor", &anchors]).await;
    let held = server.run(&["events", "verify", "--anchors", &anchors]).await;
    assert!(held.contains("no damage") && held.contains("anchors, all held"), "{held}");
    server.buyer("bea").await;
    // The last one is published at the end.
    server.stop().await;
    let held = server.run(&["events", "verify", "--anchors", &anchors]).await;
    assert!(held.contains("anchors, all held"), "{held}");

    let last = events(&server) - 1;
    server
        .log_database()
        .execute_batch(&format!(
            "DROP TRIGGER events_are_never_deleted; DELETE FROM event_rows WHERE position = {last}"
        ))
        .unwrap();
    assert!(server.run(&["events", "verify"]).await.contains("no damage"), "the chain alone is content");
    let output = server.command(&["events", "verify", "--anchors", &anchors]).output().await.unwrap();
    assert_eq!(output.status.code(), Some(1));
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains(&format!("position {last} is missing: the log ends at {}", last - 1)), "{error}");
}
