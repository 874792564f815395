//! `souk account create`: the way to accounts that nobody can make for himself, admins and analysts.

use std::io::{BufRead, IsTerminal};

use anyhow::{Context as _, bail, ensure};
use souk_commands::{
    Context,
    clock::fresh_id,
    flows::accounts::{self, RegisterError, Registration},
};
use souk_domain::{AccountId, account::Role};
use souk_gateways::sandbox::Script;

use crate::{cli::AccountRole, config::Config, wiring::Site};

/// As the HTTP interface asks for them.
const SHORTEST_PASSWORD: usize = 8;
const LONGEST_PASSWORD: usize = 200;

pub(crate) async fn create(
    config: Config,
    email: String,
    role: AccountRole,
    display_name: Option<String>,
) -> anyhow::Result<()> {
    let password = tokio::task::spawn_blocking(read_password).await??;
    let display_name = display_name.unwrap_or_else(|| email.split('@').next().unwrap_or_default().to_owned());
    ensure!(email.contains('@') && !email.contains(char::is_whitespace), "--email: {email} is no address");
    let site = Site::enter(&config, "souk account create").await?;
    let market = site.market(Script::default()).await?;
    let id = fresh_id();
    let registration = Registration {
        account_id: AccountId(id),
        email: email.clone(),
        password,
        display_name,
        role: role.into(),
    };
    let made = accounts::register(&market, &Context::new(id, "operator"), registration).await;
    drop(market);
    site.leave().await?;
    match made {
        Ok(made) => {
            println!("{}", made.value);
            Ok(())
        }
        Err(RegisterError::AddressTaken) => bail!("there is an account with the address {email}"),
        Err(error) => Err(error.into()),
    }
}

fn read_password() -> anyhow::Result<String> {
    let input = std::io::stdin();
    if input.is_terminal() {
        eprint!("password (it is shown as you type; pipe it in to hide it): ");
    }
    let mut line = String::new();
    input.lock().read_line(&mut line).context("the password comes on standard input")?;
    let password = line.trim_end_matches(['\n', '\r']).to_owned();
    let length = password.chars().count();
    ensure!(
        (SHORTEST_PASSWORD..=LONGEST_PASSWORD).contains(&length),
        "a password, on standard input, has {SHORTEST_PASSWORD} to {LONGEST_PASSWORD} characters"
    );
    Ok(password)
}

impl From<AccountRole> for Role {
    fn from(role: AccountRole) -> Self {
        match role {
            AccountRole::Buyer => Self::Buyer,
            AccountRole::Seller => Self::Seller,
            AccountRole::Admin => Self::Admin,
            AccountRole::Analyst => Self::Analyst,
        }
    }
}
