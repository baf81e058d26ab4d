//! What an order's saga remembers of its payment.

use serde::{Deserialize, Serialize};

/// What became of an order's payment, as its saga has heard.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "status")]
pub enum Payment {
    /// Nothing was heard.
    #[default]
    Open,
    /// Charged; the gateway names the charge so.
    Approved {
        /// The gateway's name for the charge.
        reference: String,
    },
    /// Declined; the order's status stays.
    Declined {
        /// Why, in the gateway's words.
        reason: String,
    },
    /// No attempt succeeded; the order's status stays, and an operator may redrive it.
    Failed {
        /// What was wrong at the last attempt.
        fault: String,
    },
    /// Charged after the order had expired; the money is on its way back.
    Refunding {
        /// The gateway's name for the charge.
        reference: String,
    },
    /// The money is back.
    Refunded,
    /// The money could not be given back: somebody must look.
    RefundFailed {
        /// What was wrong at the last attempt.
        fault: String,
    },
}
