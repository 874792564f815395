//! kill -9: whatever the bank answered, it still knows.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use souk_domain::payment::FailureReason;
use souk_gateways::{
    Charge, PaymentDetails, PaymentGateway,
    sandbox::{OPENING_BALANCE, SandboxBank, Script},
};
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::support::{Keys, TestBank, buys, now, usd};

const FILE: &str = "SOUK_TEST_BANK";
const SEED: Uuid = Uuid::from_u128(1);

/// Not a test of its own: the process that is killed. Charges wallets without end and prints each key that is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run by the test below"]
async fn charge_until_killed() {
    let Ok(file) = std::env::var(FILE) else { return };
    let bank = SandboxBank::open(file.as_ref(), Script::default(), now).unwrap();
    let keys = Keys::from_seed(SEED);
    loop {
        let mut calls = JoinSet::new();
        for _ in 0..16 {
            let (bank, key, keys) = (bank.clone(), keys.next(), keys.clone());
            calls.spawn(async move {
                let wallet = bank.tokenize(key, keys.account(), &PaymentDetails::Wallet).await.unwrap();
                let charge = bank.charge(&buys(key, &wallet, usd(1))).await.unwrap();
                assert!(matches!(charge, Charge::Charged { .. }), "{charge:?}");
                // One write per line: a line is whole or missing its end.
                std::io::stdout().write_all(format!("charged {key}\n").as_bytes()).unwrap();
            });
        }
        calls.join_all().await;
    }
}

#[tokio::test]
async fn what_was_answered_survives_a_kill() {
    let test = TestBank::new();
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::charge_until_killed", "--ignored", "--nocapture"])
        .env(FILE, test.file())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let key = |line: std::io::Result<String>| line.unwrap().strip_prefix("charged ")?.parse::<Uuid>().ok();
    let mut answered: Vec<_> = lines.by_ref().filter_map(key).take(500).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    answered.extend(lines.filter_map(key));
    assert!(answered.len() >= 500, "the child ended early");

    let bank = test.reopened();
    let method = bank.tokenize(test.keys.next(), test.keys.account(), &PaymentDetails::Wallet).await.unwrap();
    for key in &answered {
        let found = bank.find(&buys(*key, &method, usd(1))).await.unwrap();
        assert!(matches!(found, Some(Charge::Charged { .. })), "{key}: {found:?}");
    }

    // Neither is money lost in between: what the wallets lack is what was charged.
    let file = rusqlite::Connection::open(test.file()).unwrap();
    let sum = |sql: &str| file.query_row::<i64, _, _>(sql, [], |row| row.get(0)).unwrap();
    let charged = sum("SELECT sum(amount) FROM charges WHERE outcome = 'charged'");
    let (wallets, balances) = (sum("SELECT count(*) FROM wallets"), sum("SELECT sum(balance) FROM wallets"));
    assert_eq!(wallets * OPENING_BALANCE - balances, charged);

    // And the bank goes on.
    let wallet = bank.tokenize(test.keys.next(), test.keys.account(), &PaymentDetails::Wallet).await.unwrap();
    let charge = bank.charge(&buys(test.keys.next(), &wallet, usd(OPENING_BALANCE + 1))).await.unwrap();
    assert_eq!(charge, Charge::Failed(FailureReason::InsufficientFunds));
}
