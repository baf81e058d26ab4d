//! The parts of a server's URL that are needed here.

use std::ops::Range;

/// A URL such as `amqp://user:password@host:port/rest`, taken apart without changing a byte.
#[derive(Debug, Clone)]
pub(crate) struct ServerUrl<'a> {
    text: &'a str,
    address: Range<usize>,
}

impl<'a> ServerUrl<'a> {
    /// Takes it apart.
    ///
    /// # Panics
    /// When there is no `scheme://host`.
    pub(crate) fn new(text: &'a str) -> Self {
        let Some(scheme) = text.find("://") else { panic!("a URL such as amqp://localhost:5672 is expected") };
        let start = scheme + "://".len();
        let end = text[start..].find(['/', '?', '#']).map_or(text.len(), |at| start + at);
        let host = text[start..end].rfind('@').map_or(start, |at| start + at + 1);
        assert!(host < end, "a URL with a host is expected");
        Self { text, address: host..end }
    }

    /// Host and port; the scheme's own port when none is named.
    pub(crate) fn address(&self) -> String {
        let address = &self.text[self.address.clone()];
        if address.rsplit(':').next().is_some_and(|port| port.parse::<u16>().is_ok()) {
            return address.to_owned();
        }
        let port = match &self.text[..self.text.find("://").unwrap_or_default()] {
            "postgres" | "postgresql" => 5432,
            "amqp" => 5672,
            "amqps" => 5671,
            "http" => 80,
            other => panic!("the URL names no port, and {other} has none of its own"),
        };
        format!("{address}:{port}")
    }

    /// The host alone.
    pub(crate) fn host(&self) -> String {
        let address = self.address();
        address.rsplit_once(':').map_or_else(|| address.clone(), |(host, _)| host.to_owned())
    }

    /// User and password as they stand there, still encoded.
    pub(crate) fn login(&self) -> Option<(&'a str, &'a str)> {
        let start = self.text.find("://")? + "://".len();
        let login = self.text[start..self.address.start].strip_suffix('@')?;
        Some(login.split_once(':').unwrap_or((login, "")))
    }

    /// The same URL with another host and port.
    pub(crate) fn at(&self, address: &str) -> String {
        format!("{}{address}{}", &self.text[..self.address.start], &self.text[self.address.end..])
    }

    /// The same URL with another path; what follows a `?` stays.
    pub(crate) fn with_path(&self, path: &str) -> String {
        let rest = &self.text[self.address.end..];
        let query = rest.find(['?', '#']).map_or("", |at| &rest[at..]);
        format!("{}/{path}{query}", &self.text[..self.address.end])
    }

    /// The same URL without its password, which no list of processes should show.
    pub(crate) fn without_password(&self) -> String {
        match self.login() {
            Some((user, _)) => {
                let start = self.text.find("://").unwrap_or_default() + "://".len();
                format!("{}{user}@{}", &self.text[..start], &self.text[self.address.start..])
            }
            None => self.text.to_owned(),
        }
    }
}

/// Percent-decoding, as far as passwords need it.
pub(crate) fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = (first == b'%').then(|| tail.get(..2)).flatten();
        match escaped.and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_is_taken_apart() {
        let url = ServerUrl::new("postgres://us%40er:p%2Fw@db.example:6432/orders?sslmode=disable");
        assert_eq!(url.address(), "db.example:6432");
        assert_eq!(url.host(), "db.example");
        assert_eq!(url.login(), Some(("us%40er", "p%2Fw")));
        assert_eq!(url.at("127.0.0.1:1"), "postgres://us%40er:p%2Fw@127.0.0.1:1/orders?sslmode=disable");
        assert_eq!(url.with_path("other"), "postgres://us%40er:p%2Fw@db.example:6432/other?sslmode=disable");
        assert_eq!(url.without_password(), "postgres://us%40er@db.example:6432/orders?sslmode=disable");
        assert_eq!(decode("p%2Fw%"), "p/w%");
    }

    #[test]
    fn what_is_left_out_is_the_default() {
        let url = ServerUrl::new("amqp://localhost");
        assert_eq!((url.address(), url.login()), ("localhost:5672".to_owned(), None));
        assert_eq!(url.with_path("v"), "amqp://localhost/v");
        assert_eq!(ServerUrl::new("amqps://u@[::1]/v").address(), "[::1]:5671");
        assert_eq!(ServerUrl::new("amqps://u@[::1]/v").login(), Some(("u", "")));
    }
}
