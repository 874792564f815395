//! Access tokens: JWTs, HMAC-SHA256 under a key of the vault's.

use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};
use souk_domain::{AccountId, account::Role};
use uuid::Uuid;

/// Of an access token, in seconds.
pub(crate) const LIFETIME: i64 = 15 * 60;

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Claims {
    pub(crate) sub: Uuid,
    pub(crate) roles: Vec<Role>,
    /// Seconds of Unix time.
    pub(crate) iat: i64,
    pub(crate) exp: i64,
}

pub(crate) struct Tokens {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

impl Tokens {
    pub(crate) fn new(key: &[u8]) -> Self {
        let mut validation = Validation::new(Algorithm::HS256);
        // By our own clock, below; there is only one audience.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims = ["exp", "sub"].map(ToOwned::to_owned).into();
        Self { encoding: EncodingKey::from_secret(key), decoding: DecodingKey::from_secret(key), validation }
    }

    pub(crate) fn issue(
        &self,
        account: AccountId,
        roles: impl IntoIterator<Item = Role>,
        now: DateTime<Utc>,
    ) -> Result<String, jsonwebtoken::errors::Error> {
        let iat = now.timestamp();
        let claims = Claims { sub: account.0, roles: roles.into_iter().collect(), iat, exp: iat + LIFETIME };
        jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
    }

    pub(crate) fn read(&self, token: &str, now: DateTime<Utc>) -> Option<Claims> {
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation).ok()?.claims;
        (now.timestamp() < claims.exp).then_some(claims)
    }
}

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn a_token_is_good_for_fifteen_minutes() {
        let tokens = Tokens::new(&[7; 32]);
        let account = AccountId(Uuid::from_u128(1));
        let token = tokens.issue(account, [Role::Buyer, Role::Admin], at(0)).unwrap();
        let claims = tokens.read(&token, at(LIFETIME - 1)).unwrap();
        assert_eq!((claims.sub, claims.roles), (account.0, vec![Role::Buyer, Role::Admin]));
        assert_eq!(tokens.read(&token, at(LIFETIME)), None);
    }

    #[test]
    fn nobody_else_makes_tokens() {
        let tokens = Tokens::new(&[7; 32]);
        let token = tokens.issue(AccountId(Uuid::nil()), [Role::Buyer], at(0)).unwrap();
        assert_eq!(Tokens::new(&[8; 32]).read(&token, at(1)), None);
        let parts: Vec<_> = token.split('.').collect();
        let forged = URL_SAFE_NO_PAD.encode(
            String::from_utf8(URL_SAFE_NO_PAD.decode(parts[1]).unwrap()).unwrap().replace("buyer", "admin"),
        );
        assert_eq!(tokens.read(&format!("{}.{forged}.{}", parts[0], parts[2]), at(1)), None);
        let none = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        assert_eq!(tokens.read(&format!("{none}.{}.", parts[1]), at(1)), None);
    }
}
