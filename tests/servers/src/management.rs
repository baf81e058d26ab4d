//! The management interface of a RabbitMQ that somebody else runs.

use std::env;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::url::{ServerUrl, decode};

/// The variable that says where the management interface is.
pub(crate) const URL_VARIABLE: &str = "TEST_AMQP_MANAGEMENT_URL";

/// So long an answer may take.
const ANSWER_LIMIT: Duration = Duration::from_secs(30);

/// Creates a virtual host on the server of that URL, with all rights for the URL's user.
///
/// # Panics
/// When it cannot, with what is to be done.
pub(crate) fn create_vhost(amqp: &str, name: &str) {
    let server = ServerUrl::new(amqp);
    let (user, password) = server.login().unwrap_or(("guest", "guest"));
    let default = || format!("http://{}:15672", server.host());
    let management = env::var(URL_VARIABLE).ok().filter(|url| !url.is_empty()).unwrap_or_else(default);
    let rights = r#"{"configure":".*","write":".*","read":".*"}"#;
    let login = ServerUrl::new(&management).login().unwrap_or((user, password));
    let steps = [(format!("/api/vhosts/{name}"), "{}"), (format!("/api/permissions/{name}/{user}"), rights)];
    for (path, body) in steps {
        put(&management, login, &path, body).unwrap_or_else(|why| {
            panic!(
                "TEST_AMQP_URL names a server on which each test needs a virtual host of its own. None can be created: \
                 {why}. Enable the plugin rabbitmq_management, give the user the tag administrator, and set \
                 {URL_VARIABLE} if it is not at port 15672; or leave TEST_AMQP_URL out."
            )
        });
    }
}

fn put(management: &str, login: (&str, &str), path: &str, body: &str) -> Result<(), String> {
    let address = ServerUrl::new(management).address();
    let login = STANDARD.encode(format!("{}:{}", decode(login.0), decode(login.1)));
    let request = format!(
        "PUT {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Basic {login}\r\nContent-Type: application/json\r\n\
         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    );
    let ask = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(&address)?;
        stream.set_read_timeout(Some(ANSWER_LIMIT))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = ask().map_err(|error| format!("{address}: {error}"))?;
    let status = answer.split_ascii_whitespace().nth(1).unwrap_or_default();
    if status.starts_with('2') {
        Ok(())
    } else {
        Err(format!("{address} answers {}", answer.lines().next().unwrap_or_default()))
    }
}
