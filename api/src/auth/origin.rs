//! Where requests to an open server may come from. A browser lets any page send requests to this machine,
//! and a name of anybody's lead to it (DNS rebinding): so Host must be ours, and Origin too where there is
//! one. With keys neither matters, since no page has a key that was not given to it.

use std::net::IpAddr;

use poem::Request;
use poem::http::header;

use crate::problem::{Code, Problem};

/// The names and origins that are let in.
#[derive(Debug, Clone)]
pub struct Door {
    hosts: Vec<String>,
    origins: Vec<String>,
}

impl Door {
    /// This machine by its own names.
    pub fn loopback() -> Self {
        Self::new(IpAddr::from([127, 0, 0, 1]), &[], &[])
    }

    /// `address` is where the server listens, `hosts` are further names of it, `origins` those of pages
    /// elsewhere.
    pub fn new(address: IpAddr, hosts: &[String], origins: &[String]) -> Self {
        let mut known: Vec<String> =
            ["localhost", "127.0.0.1", "[::1]"].map(str::to_owned).to_vec();
        known.push(match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        });
        known.extend(hosts.iter().map(|host| host.to_ascii_lowercase()));
        Self { hosts: known, origins: origins.to_vec() }
    }

    /// Whether the request came by a name of ours, and from no page but ours.
    pub fn check(&self, request: &Request) -> Result<(), Problem> {
        let mut hosts = request.headers().get_all(header::HOST).iter();
        let host =
            hosts.next().and_then(|host| host.to_str().ok()).filter(|_| hosts.next().is_none());
        // A target in absolute form names the host, too (RFC 9112, section 3.2.2).
        let target = request.uri().authority().map(|authority| authority.as_str());
        let Some(host) = host.filter(|host| self.knows(host) && target.is_none_or(|t| t == *host))
        else {
            let detail = "this server has no keys and answers to localhost alone; set UPFLOW_ALLOWED_HOSTS to the names it is reached by";
            return Err(Problem::new(Code::HostNotAllowed, detail));
        };
        let mut origins = request.headers().get_all(header::ORIGIN).iter();
        let ours = origins.all(|origin| {
            let origin = origin.to_str().unwrap_or_default();
            let own = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            own == Some(host) || self.origins.iter().any(|known| known == origin)
        });
        if ours {
            return Ok(());
        }
        let detail = "this server has no keys and takes no requests of other sites' pages; set UPFLOW_CORS_ORIGINS to those that may";
        Err(Problem::new(Code::OriginNotAllowed, detail))
    }

    fn knows(&self, host: &str) -> bool {
        let host = host.to_ascii_lowercase();
        let name = match host.rsplit_once(':') {
            Some((name, port)) if port.chars().all(|c| c.is_ascii_digit()) => name,
            _ => &host,
        };
        self.hosts.iter().any(|known| known == name)
    }
}

/// As a browser writes it in `Origin`: a scheme, a host, and a port unless it is the usual one.
pub fn is_origin(text: &str) -> bool {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    host.is_some_and(|host| {
        let named = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || ".-:[]".contains(c);
        !host.is_empty() && host.chars().all(named)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(host: &str, origin: Option<&str>) -> Result<(), u16> {
        let origins = ["https://app.example".to_owned()];
        let door = Door::new(IpAddr::from([10, 0, 0, 1]), &["Files.example".to_owned()], &origins);
        let mut request = Request::builder().header("host", host);
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        door.check(&request.finish()).map_err(|problem| problem.status())
    }

    #[test]
    fn only_our_names_and_the_configured_ones_are_hosts() {
        for good in ["localhost", "LOCALHOST:8000", "127.0.0.1:1", "[::1]:8000", "[::1]"] {
            assert_eq!(asked(good, None), Ok(()), "{good}");
        }
        assert_eq!(asked("files.example:443", None), Ok(()));
        assert_eq!(asked("10.0.0.1:8000", None), Ok(()));
        for bad in
            ["", "evil.example", "localhost.evil.example", "127.0.0.1.evil:80", "a@localhost"]
        {
            assert_eq!(asked(bad, None), Err(421), "{bad}");
        }
    }

    #[test]
    fn only_our_own_pages_and_the_configured_ones_are_origins() {
        let at = |origin| asked("localhost:8000", Some(origin));
        assert_eq!(at("http://localhost:8000"), Ok(()));
        assert_eq!(at("https://app.example"), Ok(()));
        for bad in [
            "null",
            "http://localhost:8001",
            "http://localhost",
            "http://app.example",
            "https://evil.example",
            "http://localhost:8000.evil.example",
        ] {
            assert_eq!(at(bad), Err(403), "{bad}");
        }
    }

    #[test]
    fn an_origin_has_neither_path_nor_wildcard() {
        assert!(is_origin("https://app.example") && is_origin("http://localhost:3000"));
        for bad in
            ["*", "null", "app.example", "https://app.example/", "https://*.example", "https://"]
        {
            assert!(!is_origin(bad), "{bad}");
        }
    }
}
