//! The body of a submission: read by hand, so that each bad field has its entry in the answer.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use order_saga::{CheckedOrder, NewItem, NewOrder};
use poem::error::ReadBodyError;
use poem::http::{HeaderValue, header};
use poem::{Request, RequestBody};
use poem_openapi::registry::{MetaMediaType, MetaRequest, Registry};
use poem_openapi::types::Type;
use poem_openapi::{ApiExtractor, ApiExtractorType, ExtractParamOptions, Object};

use super::State;
use super::json::Json;
use super::problem::{FieldError, Kind, Problem};

/// A body is no longer than this: a hundred items need a tenth of it.
pub(crate) const BODY_LIMIT: usize = 64 * 1024;

/// A body comes within this time: one of 64 KiB needs it on the slowest line only, and who sends it byte by byte must not
/// hold a connection for long.
const BODY_TIME_LIMIT: Duration = Duration::from_secs(30);

/// An answer names no more bad fields than this: a body of 64 KiB can have thousands.
const ERRORS_MAX: usize = 100;

/// A name that nobody knows is repeated up to this length.
const NAME_SHOWN: usize = 64;

/// An order to submit.
#[derive(Debug, Object)]
#[oai(deny_unknown_fields)]
struct OrderRequest {
    /// What is ordered.
    #[oai(validator(min_items = 1, max_items = 100))]
    items: Vec<ItemRequest>,
}

/// One item to order.
#[derive(Debug, Object)]
#[oai(rename_all = "camelCase", deny_unknown_fields)]
struct ItemRequest {
    /// The product, without control characters, not blank.
    #[oai(validator(
        min_length = 1,
        max_length = 64,
        pattern = r"^[^\x00-\x1f\x7f-\x9f]*[^\s\x00-\x1f\x7f-\x9f][^\x00-\x1f\x7f-\x9f]*$"
    ))]
    product_id: String,
    /// How many.
    #[oai(validator(minimum(value = "1"), maximum(value = "10000")))]
    quantity: u32,
    /// The price of one, a decimal as a string with at most two decimals, at most 1000000.00.
    #[oai(validator(pattern = r"^0*(1000000(\.00?)?|[0-9]{1,6}(\.[0-9]{1,2})?)$"))]
    price: String,
}

/// A submission that passed the check.
pub(crate) struct OrderBody(pub(crate) CheckedOrder);

impl<'a> ApiExtractor<'a> for OrderBody {
    const TYPES: &'static [ApiExtractorType] = &[ApiExtractorType::RequestObject];
    type ParamType = ();
    type ParamRawType = ();

    fn register(registry: &mut Registry) {
        OrderRequest::register(registry);
    }

    fn request_meta() -> Option<MetaRequest> {
        let content = MetaMediaType { content_type: "application/json", schema: OrderRequest::schema_ref() };
        Some(MetaRequest { description: Some("The order, at most 64 KiB."), content: vec![content], required: true })
    }

    async fn from_request(
        request: &'a Request,
        body: &mut RequestBody,
        _: ExtractParamOptions<()>,
    ) -> poem::Result<Self> {
        Ok(Self(read(request, body).await?))
    }
}

async fn read(request: &Request, body: &mut RequestBody) -> Result<CheckedOrder, Problem> {
    check_type(request)?;
    // What is left of a body that was not read to its end is no request.
    let last = |problem: Problem| problem.header(header::CONNECTION, HeaderValue::from_static("close"));
    let too_large = || last(Problem::new(Kind::TooLarge)).detail("a body has at most 65536 bytes");
    let announced = request.header(header::CONTENT_LENGTH).and_then(|length| length.parse::<u64>().ok());
    if announced.is_some_and(|length| length > BODY_LIMIT as u64) {
        return Err(too_large());
    }
    let unread = |_| last(Problem::new(Kind::BadJson)).detail("the body can not be read");
    let state = request.data::<Arc<State>>().ok_or_else(|| Problem::internal(&"the request has no state"))?;
    let bytes = state.within(BODY_TIME_LIMIT, body.take().map_err(unread)?.into_bytes_limit(BODY_LIMIT)).await;
    let bytes = bytes.ok_or_else(|| last(Problem::new(Kind::TooSlow)))?;
    let bytes = bytes.map_err(|error| match error {
        ReadBodyError::PayloadTooLarge => too_large(),
        error => unread(error),
    })?;
    let json = Json::read(&bytes).map_err(|detail| Problem::new(Kind::BadJson).detail(detail))?;
    check(json).map_err(|mut errors| {
        let problem = Problem::new(Kind::InvalidOrder);
        let count = errors.len();
        errors.truncate(ERRORS_MAX);
        let errors_left = count - errors.len();
        let problem = problem.errors(errors);
        if errors_left > 0 { problem.detail(format!("{errors_left} more errors are not shown")) } else { problem }
    })
}

fn check_type(request: &Request) -> Result<(), Problem> {
    let refused = |detail: &str| Problem::new(Kind::UnsupportedMediaType).detail(detail);
    let content_type = request.header(header::CONTENT_TYPE).unwrap_or_default().to_ascii_lowercase();
    let mut parts = content_type.split(';').map(str::trim);
    let json = parts.next() == Some("application/json");
    let utf8 = parts.all(|part| part.strip_prefix("charset=").is_none_or(|set| set.trim_matches('"') == "utf-8"));
    if !json || !utf8 {
        return Err(refused("application/json in UTF-8 is expected"));
    }
    if request.header(header::CONTENT_ENCODING).is_some_and(|encoding| !encoding.eq_ignore_ascii_case("identity")) {
        return Err(refused("a body without Content-Encoding is expected"));
    }
    Ok(())
}

/// Reads an order out of JSON: what has the wrong shape is told together with what has a wrong value.
fn check(json: Json) -> Result<CheckedOrder, Vec<FieldError>> {
    let mut reader = Reader { errors: Vec::new() };
    let mut members = reader.object(Place::Body, json, &["items"]);
    let items = reader.array(take(&mut members, "items"));
    let order = NewOrder { items };
    match order.check() {
        Ok(checked) if reader.errors.is_empty() => Ok(checked),
        Ok(_) => Err(reader.errors),
        Err(wrong) => {
            // A field of a wrong type was replaced by a value that is surely right, so nothing is told twice; only the
            // list itself has no such value.
            let told: Vec<_> = reader.errors.iter().map(|error| error.field.clone()).collect();
            let wrong = wrong.into_iter().filter(|error| !told.contains(&error.path));
            reader.errors.extend(wrong.map(|error| FieldError::new(error.path, error.message)));
            Err(reader.errors)
        }
    }
}

struct Reader {
    errors: Vec<FieldError>,
}

/// Where an object stands: written out when something is wrong with it.
#[derive(Clone, Copy)]
enum Place {
    Body,
    Item(usize),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Body => f.write_str("body"),
            Self::Item(index) => write!(f, "items[{index}]"),
        }
    }
}

impl Place {
    fn member(self, name: &str) -> String {
        match self {
            Self::Body => name.to_owned(),
            Self::Item(_) => format!("{self}.{name}"),
        }
    }
}

impl Reader {
    fn wrong(&mut self, field: impl Into<String>, detail: impl Into<String>) {
        self.errors.push(FieldError::new(field, detail));
    }

    /// The members of an object, each once; unknown, repeated and missing ones are told.
    fn object(&mut self, place: Place, json: Json, known: &[&str]) -> Vec<(String, Json)> {
        let Json::Object(members) = json else {
            self.wrong(place.to_string(), format!("is {}; an object is expected", json.kind()));
            return Vec::new();
        };
        let mut kept: Vec<(String, Json)> = Vec::with_capacity(known.len());
        for (name, value) in members {
            if !known.contains(&name.as_str()) {
                let shown: String = name.chars().take(NAME_SHOWN).collect();
                self.wrong(place.member(&shown), format!("is unknown; {} is expected", known.join(", ")));
            } else if kept.iter().any(|(other, _)| *other == name) {
                self.wrong(place.member(&name), "is there more than once");
            } else {
                kept.push((name, value));
            }
        }
        for name in known {
            if !kept.iter().any(|(other, _)| other == name) {
                self.wrong(place.member(name), "is missing");
            }
        }
        kept
    }

    fn array(&mut self, json: Option<Json>) -> Vec<NewItem> {
        match json {
            Some(Json::Array(items)) => {
                // More than can be ordered are counted, not read.
                let readable = items.len() <= order_saga::MAX_ITEMS;
                let read = |(index, item)| if readable { self.item(index, item) } else { placeholder() };
                items.into_iter().enumerate().map(read).collect()
            }
            Some(other) => {
                self.wrong("items", format!("is {}; an array is expected", other.kind()));
                Vec::new()
            }
            // Said before: it is missing.
            None => vec![placeholder()],
        }
    }

    fn item(&mut self, index: usize, json: Json) -> NewItem {
        let place = Place::Item(index);
        let mut members = self.object(place, json, &["productId", "quantity", "price"]);
        let mut item = placeholder();
        match take(&mut members, "productId") {
            Some(Json::String(text)) => item.product_id = text,
            Some(other) => {
                self.wrong(place.member("productId"), format!("is {}; a string is expected", other.kind()));
            }
            None => {}
        }
        match take(&mut members, "quantity") {
            Some(Json::Integer(number)) => item.quantity = number,
            Some(other) => {
                self.wrong(place.member("quantity"), format!("is {}; a whole number is expected", other.kind()));
            }
            None => {}
        }
        match take(&mut members, "price") {
            Some(Json::String(text)) => item.price = text,
            Some(other) => {
                let detail = format!("is {}; a decimal as a string, such as \"49.90\", is expected", other.kind());
                self.wrong(place.member("price"), detail);
            }
            None => {}
        }
        item
    }
}

/// An item that passes every check: it stands where one could not be read.
fn placeholder() -> NewItem {
    NewItem { product_id: "-".to_owned(), quantity: 1, price: "0".to_owned() }
}

fn take(members: &mut Vec<(String, Json)>, name: &str) -> Option<Json> {
    let index = members.iter().position(|(other, _)| other == name)?;
    Some(members.swap_remove(index).1)
}
