//! The `Idempotency-Key` header.

use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaParamIn, MetaSchema, MetaSchemaRef};
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions};

use super::problem::{FieldError, Problem};

const NAME: &str = "Idempotency-Key";

/// A key is no longer than this.
const KEY_MAX: usize = 255;

/// The key under which a submission may be repeated, if there is one.
///
/// Read from the header itself: the framework's own reader passes over values that are no text, and would take a
/// broken key for none.
pub(super) struct IdempotencyKey(pub(super) Option<String>);

impl<'a> ApiExtractor<'a> for IdempotencyKey {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::Parameter];
    type ParamType = ();
    type ParamRawType = ();

    fn param_in() -> Option<MetaParamIn> {
        Some(MetaParamIn::Header)
    }

    fn param_schema_ref() -> Option<MetaSchemaRef> {
        let pattern = Some("^[!-~]+$".to_owned());
        let schema =
            MetaSchema { min_length: Some(1), max_length: Some(KEY_MAX), pattern, ..MetaSchema::new("string") };
        Some(MetaSchemaRef::Inline(Box::new(schema)))
    }

    async fn from_request(request: &'a Request, _: &mut RequestBody, _: ExtractParamOptions<()>) -> poem::Result<Self> {
        let mut values = request.headers().get_all(NAME).iter();
        let wrong = |detail: &str| Problem::parameters(vec![FieldError::new(NAME, detail)]);
        let Some(value) = values.next() else { return Ok(Self(None)) };
        if values.next().is_some() {
            return Err(wrong("is there more than once").into());
        }
        let plain = value.as_bytes().iter().all(u8::is_ascii_graphic) && (1..=KEY_MAX).contains(&value.len());
        match value.to_str() {
            Ok(text) if plain => Ok(Self(Some(text.to_owned()))),
            _ => Err(wrong("1 to 255 visible ASCII characters are expected").into()),
        }
    }
}

/// What a caller may do when it is not known whether its order is stored.
#[derive(Clone, Copy)]
pub(super) enum IfUnknown {
    /// Repeat it: it has a key.
    Repeat,
    /// Not repeat it blindly: that could be a second order.
    LookFirst,
}

impl IfUnknown {
    /// Why goes to the log, what may be done to the caller.
    pub(super) fn problem(self, why: &dyn std::fmt::Display) -> Problem {
        match self {
            Self::Repeat => {
                let advice = "it is not known whether the order is stored; repeat with the same Idempotency-Key";
                Problem::outcome_unknown(why, advice).repeatable()
            }
            Self::LookFirst => {
                let advice = "it is not known whether the order is stored; look for it in GET /api/orders before it is \
                              submitted again, and submit with an Idempotency-Key to be able to repeat";
                Problem::outcome_unknown(why, advice)
            }
        }
    }
}
