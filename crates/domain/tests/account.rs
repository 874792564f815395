//! Accounts: registered once, given roles, suspended and reinstated, and forgotten for good.

use souk_domain::{
    Sealed,
    account::{
        Account, AccountCommand, AccountError, AccountEvent, AccountForgotten, AccountRegistered,
        AccountReinstated, AccountSuspended, ProfileRevised, Role, RoleGranted,
    },
    testing::{
        Given,
        examples::{BUYER, sealed},
    },
};

#[test]
fn an_account_is_registered_once() {
    let account =
        Given::<Account>::nothing().when(register()).then([registered()]).when(register()).then_nothing();
    assert_eq!(account.state().roles, [Role::Buyer].into());
}

#[test]
fn a_role_is_granted_once() {
    let account = Given::<Account>::events([registered()])
        .when(AccountCommand::GrantRole(Role::Buyer))
        .then_nothing()
        .when(AccountCommand::GrantRole(Role::Seller))
        .then([RoleGranted { role: Role::Seller }.into()])
        .when(AccountCommand::GrantRole(Role::Seller))
        .then_nothing();
    assert_eq!(account.state().roles, [Role::Buyer, Role::Seller].into());
}

#[test]
fn a_suspended_account_changes_nothing_until_it_is_reinstated() {
    Given::<Account>::events([registered()])
        .when(AccountCommand::Reinstate)
        .then_nothing()
        .when(suspend())
        .then([suspended()])
        .when(suspend())
        .then_nothing()
        .when(revise())
        .then_refused(AccountError::Suspended)
        .when(AccountCommand::Reinstate)
        .then([AccountReinstated {}.into()])
        .when(revise())
        .then([ProfileRevised { display_name: name() }.into()]);
}

#[test]
fn the_forgotten_stay_forgotten() {
    let refused = || AccountError::Forgotten;
    for history in [vec![registered()], vec![registered(), suspended()]] {
        Given::<Account>::events(history)
            .when(AccountCommand::Forget)
            .then([AccountForgotten {}.into()])
            .when(AccountCommand::Forget)
            .then_nothing()
            .when(register())
            .then_nothing()
            .when(AccountCommand::GrantRole(Role::Admin))
            .then_refused(refused())
            .when(AccountCommand::Reinstate)
            .then_refused(refused())
            .when(revise())
            .then_refused(refused());
    }
}

#[test]
fn who_is_not_registered_has_no_account() {
    for command in [AccountCommand::GrantRole(Role::Admin), revise(), suspend(), AccountCommand::Forget] {
        Given::<Account>::nothing().when(command).then_refused(AccountError::NotFound);
    }
}

fn name() -> Sealed {
    sealed(BUYER, "name")
}

fn register() -> AccountCommand {
    AccountCommand::Register { role: Role::Buyer, email: None, display_name: name() }
}

fn revise() -> AccountCommand {
    AccountCommand::ReviseProfile { display_name: name() }
}

fn suspend() -> AccountCommand {
    AccountCommand::Suspend { reason: "fraud".to_owned() }
}

fn registered() -> AccountEvent {
    AccountRegistered { role: Role::Buyer, email: None, display_name: name() }.into()
}

fn suspended() -> AccountEvent {
    AccountSuspended { reason: "fraud".to_owned() }.into()
}
