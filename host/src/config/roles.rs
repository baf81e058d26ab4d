//! What a host does of all that there is to do.

use super::keys::Refused;

/// What a host does. Several hosts on one database and one broker share the work, each what its roles say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Answers orders over REST. Without it only health and metrics are answered.
    pub api: bool,
    /// Takes the order saga's messages from the bus.
    pub saga: bool,
    /// Performs payments and refunds, and notifies.
    pub activities: bool,
    /// Looks for orders that hang.
    pub expiry: bool,
    /// Sends the outbox, fires timers, removes what is old.
    pub relay: bool,
}

impl Roles {
    /// Everything.
    pub const ALL: Self = Self { api: true, saga: true, activities: true, expiry: true, relay: true };
    /// What is expected where roles are named.
    pub const EXPECTED: &'static str =
        "one or more of api, saga, activities, expiry, relay, separated by commas, or all";

    /// Reads a list of roles.
    pub(super) fn parse(text: &str) -> Result<Self, Refused> {
        if text.trim() == "all" {
            return Ok(Self::ALL);
        }
        let mut roles = Self { api: false, saga: false, activities: false, expiry: false, relay: false };
        for name in text.split(',') {
            let role = match name.trim() {
                "api" => &mut roles.api,
                "saga" => &mut roles.saga,
                "activities" => &mut roles.activities,
                "expiry" => &mut roles.expiry,
                "relay" => &mut roles.relay,
                _ => return Err(Refused::Unexpected),
            };
            if std::mem::replace(role, true) {
                return Err(Refused::because(format!("{} is named twice", name.trim())));
            }
        }
        Ok(roles)
    }
}

impl Default for Roles {
    fn default() -> Self {
        Self::ALL
    }
}

impl std::str::FromStr for Roles {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|refused| match refused {
            Refused::Unexpected => format!("expected {}", Self::EXPECTED),
            Refused::Because(why) => format!("expected {}; {why}", Self::EXPECTED),
        })
    }
}
