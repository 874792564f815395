//! Who asks: bearer tokens, checked on every route by the type that its handler asks for.

mod attempts;
mod revocations;
mod tokens;

use std::sync::Arc;

use axum::{
    extract::FromRequestParts,
    http::{header, request::Parts},
};
use souk_domain::{AccountId, account::Role};

pub(crate) use self::{
    attempts::{Attempts, Origin},
    revocations::Revocations,
    tokens::{LIFETIME, Tokens},
};
use crate::{
    Api,
    problem::{Kind, Problem},
};

/// Somebody who is logged in, in any role.
#[derive(Clone, Debug)]
pub(crate) struct Person {
    pub(crate) account: AccountId,
    pub(crate) roles: Vec<Role>,
}

impl Person {
    pub(crate) fn is(&self, role: Role) -> bool {
        self.roles.contains(&role)
    }

    pub(crate) fn require(&self, roles: &[Role]) -> Result<(), Problem> {
        if roles.iter().any(|role| self.is(*role)) {
            return Ok(());
        }
        let names: Vec<_> = roles.iter().map(|role| format!("{role:?}").to_lowercase()).collect();
        Err(Problem::new(Kind::Forbidden).detail(format_args!("This takes the role {}.", names.join(" or "))))
    }
}

/// Who may or may not be logged in. A token that is there must be good.
#[derive(Clone, Debug)]
pub(crate) struct Visitor(pub(crate) Option<Person>);

impl FromRequestParts<Arc<Api>> for Visitor {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let Some(value) = parts.headers.get(header::AUTHORIZATION) else { return Ok(Self(None)) };
        let unauthenticated = |why: &str| Problem::new(Kind::Unauthenticated).detail(why);
        let (scheme, token) = value.to_str().unwrap_or_default().split_once(' ').unwrap_or_default();
        if !scheme.eq_ignore_ascii_case("bearer") {
            return Err(unauthenticated("The Authorization header must hold a Bearer token."));
        }
        let claims = api
            .tokens
            .read(token.trim(), api.market.clock.now())
            .ok_or_else(|| unauthenticated("The access token is not valid, or has expired."))?;
        let account = AccountId(claims.sub);
        if api.revocations.is_revoked(account, claims.iat) {
            return Err(unauthenticated("The account is not active."));
        }
        Ok(Self(Some(Person { account, roles: claims.roles })))
    }
}

impl FromRequestParts<Arc<Api>> for Person {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
        let Visitor(person) = Visitor::from_request_parts(parts, api).await?;
        person.ok_or_else(|| {
            Problem::new(Kind::Unauthenticated).detail("Send an access token as Authorization: Bearer.")
        })
    }
}

macro_rules! role {
    ($(#[$doc:meta])* $name:ident: $($role:ident)|+) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        pub(crate) struct $name(pub(crate) Person);

        impl FromRequestParts<Arc<Api>> for $name {
            type Rejection = Problem;

            async fn from_request_parts(parts: &mut Parts, api: &Arc<Api>) -> Result<Self, Problem> {
                let person = Person::from_request_parts(parts, api).await?;
                person.require(&[$(Role::$role),+])?;
                Ok(Self(person))
            }
        }
    };
}

role!(Buyer: Buyer);
role!(Seller: Seller);
role!(Admin: Admin);
role!(SellerOrAdmin: Seller | Admin);
role!(BuyerOrAdmin: Buyer | Admin);
role!(
    /// Who reads the log.
    Reader: Analyst | Admin
);
role!(
    /// Who may see orders.
    Trader: Buyer | Seller | Admin
);
role!(
    /// Who may see how orders were.
    Witness: Buyer | Seller | Admin | Analyst
);
