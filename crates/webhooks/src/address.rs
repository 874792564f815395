//! Where a webhook may be sent to. A URL comes from a partner, and the request goes out from inside our network: it must
//! not reach what only we can reach. So an address is checked where the connection is made, and the one that was
//! checked is the one that is used; a name that resolves to something else the next moment gains nothing.

use std::{
    error::Error,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// In bytes.
const LONGEST_URL: usize = 2_048;

/// Which addresses may be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Those of the public internet.
    Public,
    /// Any: for receivers within an intranet, and tests.
    Anywhere,
}

/// A URL that webhooks may be sent to, as far as it tells by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target(Url);

/// Written to follow "this".
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TargetError {
    #[error("is no URL")]
    Malformed,
    #[error("has {LONGEST_URL} bytes at most")]
    TooLong,
    #[error("must begin with https:// or http://")]
    Scheme,
    #[error("must hold no user or password: the signature says who sends")]
    Credentials,
    #[error("must hold no fragment: it would not be sent")]
    Fragment,
    #[error("leads to an address that is not public")]
    NotPublic,
}

impl Target {
    pub fn parse(text: &str, reach: Reach) -> Result<Self, TargetError> {
        if text.len() > LONGEST_URL {
            return Err(TargetError::TooLong);
        }
        let url = Url::parse(text).map_err(|_| TargetError::Malformed)?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(TargetError::Scheme);
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(TargetError::Credentials);
        }
        if url.fragment().is_some() {
            return Err(TargetError::Fragment);
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(TargetError::Malformed);
        }
        let target = Self(url);
        if target.is_within(reach) { Ok(target) } else { Err(TargetError::NotPublic) }
    }

    /// As far as the URL tells: a name is looked up when something is sent. The parser has read `0x7f.1` and the like as
    /// addresses.
    pub(crate) fn is_within(&self, reach: Reach) -> bool {
        let host = self.0.host_str().unwrap_or_default().trim_end_matches('.');
        let local = host == "localhost" || host.ends_with(".localhost");
        reach == Reach::Anywhere || !(local || literal(host).is_some_and(|address| !is_public(address)))
    }

    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    pub(crate) fn url(&self) -> Url {
        self.0.clone()
    }
}

/// The address that a host is, if it is no name.
fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

/// What IANA's registries of special-purpose addresses (RFC 6890 and its updates) leave to the public internet.
pub(crate) fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    !matches!(
        address.octets(),
        [0 | 10 | 127 | 224..=255, ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 0, 0 | 2, _]
            | [192, 88, 99, _]
            | [192, 168, ..]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _]
    )
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    // Addresses of version 4 in other clothes: mapped, and translated by NAT64.
    if let Some(address) = address.to_ipv4_mapped() {
        return is_public_v4(address);
    }
    let segments = address.segments();
    if segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0] {
        let [.., a, b, c, d] = address.octets();
        return is_public_v4(Ipv4Addr::new(a, b, c, d));
    }
    // Global unicast is 2000::/3; in it lie 2001::/23 (Teredo, benchmarks, …), documentation, and 6to4.
    let global = segments[0] & 0xe000 == 0x2000;
    let special = match segments {
        [0x2001, second, ..] => second < 0x200 || second == 0xdb8,
        [0x2002, ..] => true,
        [0x3fff, second, ..] => second < 0x1000,
        _ => false,
    };
    global && !special
}

/// Looks names up as the system does, and leaves only the addresses that may be reached.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Resolver(pub(crate) Reach);

#[derive(Debug)]
struct NotPublic;

impl fmt::Display for NotPublic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name leads to no public address")
    }
}

impl Error for NotPublic {}

impl Resolve for Resolver {
    fn resolve(&self, name: Name) -> Resolving {
        let reach = self.0;
        Box::pin(async move {
            // The connector puts the URL's port in the place of 0.
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> =
                found.filter(|address| reach == Reach::Anywhere || is_public(address.ip())).collect();
            if allowed.is_empty() {
                return Err(NotPublic.into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_our_own_are_not_public() {
        for address in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.168.1.1",
            "198.18.0.1",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd12:3456::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.169.0.1",
            "223.255.255.255",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2001:4860:4860::8888",
            "2606:4700:4700::1111",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_url_that_cannot_be_is_refused() {
        for (text, error) in [
            ("", TargetError::Malformed),
            ("hooks.example/in", TargetError::Malformed),
            ("https://", TargetError::Malformed),
            ("ftp://hooks.example/in", TargetError::Scheme),
            ("file:///etc/passwd", TargetError::Scheme),
            ("https://me:secret@hooks.example", TargetError::Credentials),
            ("https://hooks.example/in#part", TargetError::Fragment),
            (&format!("https://hooks.example/{}", "x".repeat(2_100)), TargetError::TooLong),
        ] {
            assert_eq!(Target::parse(text, Reach::Anywhere), Err(error), "{text}");
        }
    }

    #[test]
    fn an_address_is_found_however_it_is_written() {
        for text in [
            "http://127.0.0.1:8080/",
            "http://localhost/",
            "http://LOCALHOST./",
            "http://db.localhost/",
            "http://0x7f.1/",
            "http://2130706433/",
            "http://127.1/",
            "http://[::1]/",
            "http://[::ffff:169.254.169.254]/",
            "https://10.0.0.1/",
            "http://１２７.0.0.1/",
        ] {
            assert_eq!(Target::parse(text, Reach::Public), Err(TargetError::NotPublic), "{text}");
            assert!(Target::parse(text, Reach::Anywhere).is_ok(), "{text}");
        }
        for text in
            ["https://hooks.example/in?key=1", "http://1.1.1.1/", "https://[2606:4700:4700::1111]:8443/"]
        {
            assert_eq!(Target::parse(text, Reach::Public).unwrap().as_str(), text);
        }
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_is_not_resolved() {
        let names =
            async |reach| Resolver(reach).resolve("localhost".parse().unwrap()).await.map(Iterator::count);
        assert!(names(Reach::Anywhere).await.unwrap() > 0);
        assert_eq!(
            names(Reach::Public).await.unwrap_err().to_string(),
            "the name leads to no public address"
        );
    }
}
