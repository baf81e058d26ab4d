//! What may be shown of a URL, and which keys are likely to hold a secret.

/// The URL without what may be secret in it: no user and password, no query, no fragment.
///
/// Works on what is no URL too: it is told by its last `@`, so a password with a slash or an `@` in it stays hidden.
pub fn redact_url(url: &str) -> String {
    let (scheme, rest) = match url.split_once("://") {
        Some((scheme, rest)) => (format!("{scheme}://"), rest),
        None => (String::new(), url),
    };
    let (user, place) = match rest.rsplit_once('@') {
        Some((_, place)) => ("***@", place),
        None => ("", rest),
    };
    match place.split_once(['?', '#']) {
        Some((place, _)) => format!("{scheme}{user}{place}?***"),
        None => format!("{scheme}{user}{place}"),
    }
}

/// Whether a key that nobody knows may be a mistyped one for a secret: its value is then not shown.
pub(super) fn may_be_secret(key: &str) -> bool {
    const TELLING: [&str; 6] = ["auth", "secret", "passw", "token", "credential", "key"];
    let last = key.rsplit('.').next().unwrap_or(key);
    TELLING.iter().any(|word| key.contains(word)) || distance(last, "secret") <= 3 || distance(key, "auth.secret") <= 4
}

/// The Levenshtein distance: how many letters must be changed, added or removed.
pub(super) fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, &right) in b.iter().enumerate() {
            let replaced = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_urls_with_secrets_when_redacted_then_only_the_place_is_left() {
        for (url, shown) in [
            ("postgres://user:pass@host/db", "postgres://***@host/db"),
            ("postgres://user:p@ss/w@host/db", "postgres://***@host/db"),
            ("user:pass@host", "***@host"),
            ("amqp://host/vhost?password=pass#pass", "amqp://host/vhost?***"),
            ("sqlite://data/orders.db", "sqlite://data/orders.db"),
        ] {
            assert_eq!(redact_url(url), shown);
        }
    }

    #[test]
    fn given_words_when_measured_then_the_distance_is_levenshtein_s() {
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "abc"), 3);
        assert_eq!(distance("abc", "abc"), 0);
    }

    #[test]
    fn given_mistyped_secrets_when_asked_then_they_are_taken_for_secret() {
        for key in ["auth.secert", "ath.secrt", "sercet", "http.password"] {
            assert!(may_be_secret(key), "{key}");
        }
        for key in ["http.lisen", "payment.dealy", "store.uri"] {
            assert!(!may_be_secret(key), "{key}");
        }
    }
}
