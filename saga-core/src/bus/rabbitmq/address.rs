//! The broker's address.

use std::fmt;

use url::Url;

use super::BuildError;

/// Where the broker is, and who we are there.
#[derive(Debug, Clone)]
pub(super) struct Server {
    pub(super) tls: bool,
    /// As a socket address takes it: an IPv6 address stands in brackets.
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) user: String,
    pub(super) password: Password,
    pub(super) virtual_host: String,
}

/// A password, which does not print itself.
#[derive(Clone)]
pub(super) struct Password(pub(super) String);

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

impl Server {
    /// Reads `amqp[s]://user:password@host:port/vhost`. No error tells what was in the URL beyond the part that is wrong,
    /// and none tells the password.
    pub(super) fn parse(url: &str) -> Result<Self, BuildError> {
        let wrong = |why: &str| BuildError::Url(why.to_owned());
        let url = Url::parse(url).map_err(|error| BuildError::Url(error.to_string()))?;
        let tls = match url.scheme() {
            "amqp" => false,
            "amqps" => true,
            other => return Err(BuildError::Url(format!("it begins with {other}:// instead of amqp:// or amqps://"))),
        };
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("options behind a ? or # are not read: set them on the builder"));
        }
        let host = url.host_str().filter(|host| !host.is_empty()).ok_or_else(|| wrong("it names no host"))?;
        let path = url.path().strip_prefix('/').unwrap_or_default();
        if path.contains('/') {
            return Err(wrong("a slash inside the virtual host is written %2F"));
        }
        let decode = |part: &str, what: &str| {
            decode(part).ok_or_else(|| BuildError::Url(format!("its {what} is no percent-encoded UTF-8")))
        };
        let (user, password) = match (url.username(), url.password()) {
            ("", None) => ("guest".to_owned(), "guest".to_owned()),
            (user, password) => (decode(user, "user")?, decode(password.unwrap_or_default(), "password")?),
        };
        let virtual_host = Some(decode(path, "virtual host")?).filter(|it| !it.is_empty()).unwrap_or("/".to_owned());
        if virtual_host.len() > crate::wire::MAX_NAME {
            return Err(wrong("its virtual host is longer than 255 bytes"));
        }
        let port = url.port().unwrap_or(if tls { 5671 } else { 5672 });
        Ok(Self { tls, host: host.to_owned(), port, user, password: Password(password), virtual_host })
    }

    /// The host as a certificate names it.
    pub(super) fn certificate_name(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }
}

/// The address without user and password.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "amqps" } else { "amqp" };
        let virtual_host = self.virtual_host.replace('/', "%2F");
        write!(f, "{scheme}://{}:{}/{virtual_host}", self.host, self.port)
    }
}

fn decode(part: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(part.len());
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        let digit = |byte: Option<u8>| byte.and_then(|it| char::from(it).to_digit(16));
        bytes.push(match byte {
            b'%' => u8::try_from(digit(rest.next())? * 16 + digit(rest.next())?).ok()?,
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Server {
        Server::parse(url).unwrap_or_else(|error| panic!("{url}: {error}"))
    }

    #[test]
    fn given_a_full_url_when_read_then_each_part_is_there_and_the_password_is_not_printed() {
        let server = parse("amqps://ann:p%40ss%2Fw%C3%B6rd@mq.example:5671/shop%2Feu");
        assert!(server.tls);
        assert_eq!((server.host.as_str(), server.port), ("mq.example", 5671));
        assert_eq!((server.user.as_str(), server.password.0.as_str()), ("ann", "p@ss/wörd"));
        assert_eq!(server.virtual_host, "shop/eu");
        let printed = format!("{server} {server:?}");
        assert!(!printed.contains("p@ss") && !printed.contains("p%40ss"), "{printed}");
        assert_eq!(server.to_string(), "amqps://mq.example:5671/shop%2Feu");
    }

    #[test]
    fn given_a_short_url_when_read_then_the_rest_is_what_brokers_take_for_granted() {
        let server = parse("amqp://localhost");
        assert_eq!((server.tls, server.port, server.virtual_host.as_str()), (false, 5672, "/"));
        assert_eq!((server.user.as_str(), server.password.0.as_str()), ("guest", "guest"));
        assert_eq!(parse("amqps://localhost/").port, 5671);
        assert_eq!(parse("amqp://localhost/%2f").virtual_host, "/");
        let v6 = parse("amqp://ann@[::1]:5673");
        assert_eq!((v6.host.as_str(), v6.certificate_name(), v6.password.0.as_str()), ("[::1]", "::1", ""));
    }

    #[test]
    fn given_a_wrong_url_when_read_then_the_error_says_why_and_tells_no_secret() {
        for (url, why) in [
            ("http://a:secret@b", "http"),
            ("amqp://a:secret@b/c/d", "%2F"),
            ("amqp://a:secret@b?heartbeat=5", "builder"),
            ("amqp://a:secret%zz@b", "password"),
            ("amqp:///vhost", "host"),
            ("a:secret@b", ""),
            ("amqp://a:secret@b:99999", "port"),
            ("amqp://a:secret@[b", ""),
        ] {
            let error = Server::parse(url).expect_err(url).to_string();
            assert!(error.contains(why), "{url}: {error}");
            assert!(!error.contains("secret"), "{url}: {error}");
        }
    }
}
