//! What a user submits: checked before anything of it is stored. Pure.

use std::fmt;

use rust_decimal::Decimal;
use serde::Deserialize;
use uuid::{Uuid, uuid};

use crate::messages::OrderSubmitted;
use crate::orders::OrderItem;

/// How many items an order may have: one message, one batch of rows and one page must be able to hold it.
pub const MAX_ITEMS: usize = 100;
/// How many of one product may be ordered at once. More is a typing error, or trade that goes another way.
pub const MAX_QUANTITY: u32 = 10_000;
/// How many characters a product's id may have.
pub const MAX_PRODUCT_ID: usize = 64;
/// How many decimals a price may have: prices are in whole cents.
pub const PRICE_SCALE: u32 = 2;
/// The highest price of one piece: 1,000,000.00. A free item (0.00) is allowed.
pub const MAX_PRICE: Decimal = Decimal::from_parts(100_000_000, 0, 0, false, PRICE_SCALE);
/// The highest total: 999,999,999.99, so that it fits every column and every gateway.
pub const MAX_TOTAL: Decimal = Decimal::from_parts(1_215_752_191, 23, 0, false, PRICE_SCALE);

/// How many characters a user's name may have: it is stored with each order and travels with each message.
pub const MAX_USER_ID: usize = 200;
/// How many characters a fingerprint may have that is sent along; one of ours has 36.
const MAX_FINGERPRINT: usize = 64;
/// How many of a submission's mistakes are told: the sender of a broken one can tell the rest from these.
const MAX_TOLD: usize = 3;

/// The root of everything that is derived from a submission: a constant of this service, never changed.
const NAMESPACE: Uuid = uuid!("6f1c2a52-8f0e-4b53-9a53-2f6d1f0c7f11");

/// An order as it was asked for, not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrder {
    /// What is asked for.
    pub items: Vec<NewItem>,
}

/// An item as it was asked for, not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewItem {
    /// The product.
    pub product_id: String,
    /// How many.
    pub quantity: i64,
    /// The price of one, decimal text.
    pub price: String,
}

/// What is wrong with one field.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Which field, as `items[3].price`.
    pub path: String,
    /// What is wrong with it and what is expected, for people.
    pub message: String,
}

/// An order that passed the check; [`NewOrder::check`] alone makes it.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckedOrder {
    items: Vec<OrderItem>,
    total: Decimal,
    fingerprint: String,
}

/// [`OrderSubmitted`] as it stands in JSON, from the host or from another service, not checked yet.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SubmittedOrder {
    order_id: Uuid,
    user_id: String,
    items: Vec<SubmittedItem>,
    total: Decimal,
    #[serde(default)]
    fingerprint: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct SubmittedItem {
    product_id: String,
    quantity: i64,
    price: Decimal,
}

impl TryFrom<SubmittedOrder> for OrderSubmitted {
    type Error = String;

    fn try_from(it: SubmittedOrder) -> Result<Self, String> {
        let SubmittedOrder { order_id, user_id, items, total, fingerprint } = it;
        let mut errors = Vec::new();
        if order_id.is_nil() {
            errors.push(FieldError::new("orderId", "is an id of zeros"));
        }
        errors.extend(check_name(&user_id, MAX_USER_ID).err().map(|why| FieldError::new("userId", why)));
        let fingerprint = fingerprint.filter(|it| !it.is_empty());
        let checked = fingerprint.as_deref().map_or(Ok(()), |it| check_name(it, MAX_FINGERPRINT));
        errors.extend(checked.err().map(|why| FieldError::new("fingerprint", why)));
        let items = items.into_iter().map(NewItem::from).collect();
        match (NewOrder { items }).check_items() {
            Ok((_, sum)) if sum != total => {
                errors.push(FieldError::new("total", format_args!("is {total}, and its items cost {sum}")));
            }
            Ok((items, total)) if errors.is_empty() => {
                let fingerprint = fingerprint.unwrap_or_else(|| self::fingerprint(&items));
                return Ok(Self { order_id, user_id, items, total, fingerprint });
            }
            Ok(_) => {}
            Err(wrong) => errors.extend(wrong),
        }
        Err(told(&errors))
    }
}

impl From<SubmittedItem> for NewItem {
    fn from(it: SubmittedItem) -> Self {
        // Others write 49.9000 for 49.90: zeros behind the point are no decimals too many.
        Self { product_id: it.product_id, quantity: it.quantity, price: it.price.normalize().to_string() }
    }
}

impl NewOrder {
    /// Checks every field.
    ///
    /// # Errors
    /// One entry for each field that is wrong, in the order of the fields. With more than [`MAX_ITEMS`] items the
    /// items themselves are not looked at, so that an answer stays short.
    pub fn check(&self) -> Result<CheckedOrder, Vec<FieldError>> {
        let (items, total) = self.check_items()?;
        Ok(CheckedOrder { fingerprint: fingerprint(&items), items, total })
    }

    /// The items, and their sum.
    fn check_items(&self) -> Result<(Vec<OrderItem>, Decimal), Vec<FieldError>> {
        match self.items.len() {
            0 => return Err(vec![FieldError::new("items", "is empty; at least one item is expected")]),
            1..=MAX_ITEMS => {}
            n => {
                return Err(vec![FieldError::new(
                    "items",
                    format_args!("has {n} items; at most {MAX_ITEMS} are allowed"),
                )]);
            }
        }
        let mut errors = Vec::new();
        let mut items = Vec::with_capacity(self.items.len());
        for (index, item) in self.items.iter().enumerate() {
            match item.check() {
                Ok(item) => items.push(item),
                Err(wrong) => errors.extend(
                    wrong.into_iter().map(|(field, why)| FieldError::new(format_args!("items[{index}].{field}"), why)),
                ),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        match total(&items) {
            Some(total) => Ok((items, total)),
            None => Err(vec![FieldError::new("items", format_args!("cost more than {MAX_TOTAL} together"))]),
        }
    }
}

impl CheckedOrder {
    /// What is ordered; each price with [`PRICE_SCALE`] decimals.
    pub fn items(&self) -> &[OrderItem] {
        &self.items
    }

    /// The sum of the items, with [`PRICE_SCALE`] decimals.
    pub fn total(&self) -> Decimal {
        self.total
    }

    /// The fingerprint of what is ordered: the same for two bodies that mean the same, whatever their white space,
    /// order of fields, or `49.9` for `49.90`.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// The message that submits the order; `order_id` is a UUIDv7 that nobody has used before.
    pub fn submission(self, order_id: Uuid, user_id: impl Into<String>) -> OrderSubmitted {
        OrderSubmitted {
            order_id,
            user_id: user_id.into(),
            items: self.items,
            total: self.total,
            fingerprint: self.fingerprint,
        }
    }
}

/// The message id of a submission under an idempotency key: keys belong to their user, so two users may use the same
/// one. A submission without a key takes an id that nobody has used before, for example the order's.
pub fn submission_id(user_id: &str, idempotency_key: &str) -> Uuid {
    let user = Uuid::new_v5(&NAMESPACE, format!("user/{user_id}").as_bytes());
    Uuid::new_v5(&user, idempotency_key.as_bytes())
}

impl FieldError {
    fn new(path: impl fmt::Display, message: impl fmt::Display) -> Self {
        Self { path: path.to_string(), message: message.to_string() }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

impl NewItem {
    fn check(&self) -> Result<OrderItem, Vec<(&'static str, String)>> {
        let (product, quantity, price) =
            (check_product(&self.product_id), check_quantity(self.quantity), check_price(&self.price));
        match (product, quantity, price) {
            (Ok(()), Ok(quantity), Ok(price)) => Ok(OrderItem { product_id: self.product_id.clone(), quantity, price }),
            (product, quantity, price) => {
                let product = product.err().map(|why| ("productId", why));
                let quantity = quantity.err().map(|why| ("quantity", why));
                let price = price.err().map(|why| ("price", why));
                Err([product, quantity, price].into_iter().flatten().collect())
            }
        }
    }
}

fn check_product(id: &str) -> Result<(), String> {
    if id.trim().is_empty() { Err("is empty".to_owned()) } else { check_name(id, MAX_PRODUCT_ID) }
}

fn check_name(name: &str, most: usize) -> Result<(), String> {
    let length = name.chars().count();
    if length == 0 {
        Err("is empty".to_owned())
    } else if length > most {
        Err(format!("has {length} characters; at most {most} are allowed"))
    } else if name.chars().any(char::is_control) {
        Err("has a control character".to_owned())
    } else {
        Ok(())
    }
}

fn check_quantity(quantity: i64) -> Result<u32, String> {
    let checked = u32::try_from(quantity).ok().filter(|quantity| (1..=MAX_QUANTITY).contains(quantity));
    checked.ok_or_else(|| format!("is {quantity}; 1 to {MAX_QUANTITY} is expected"))
}

/// Reads plain decimal text: digits, perhaps a sign before and a point with digits within. Exponents, spaces and digit
/// separators, which [`Decimal`] would read, are refused.
fn check_price(text: &str) -> Result<Decimal, String> {
    let digits = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, decimals) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    if !digits(whole) || !digits(decimals) {
        return Err("is not a decimal number such as \"49.90\"".to_owned());
    }
    let absurd = || format!("is higher than {MAX_PRICE}");
    if text.starts_with('-') {
        return Err("is negative".to_owned());
    }
    if unsigned.contains('.') && decimals.len() > PRICE_SCALE as usize {
        return Err(format!("has {} decimals; at most {PRICE_SCALE} are allowed", decimals.len()));
    }
    let mut price = Decimal::from_str_exact(text).map_err(|_| absurd())?;
    if price > MAX_PRICE {
        return Err(absurd());
    }
    price.rescale(PRICE_SCALE);
    Ok(price)
}

fn total(items: &[OrderItem]) -> Option<Decimal> {
    let mut total = Decimal::new(0, PRICE_SCALE);
    for item in items {
        total = total.checked_add(item.price.checked_mul(item.quantity.into())?)?;
    }
    (total <= MAX_TOTAL).then_some(total)
}

/// The first mistakes, in one line.
fn told(errors: &[FieldError]) -> String {
    let mut told: Vec<_> = errors.iter().take(MAX_TOLD).map(ToString::to_string).collect();
    if let more @ 1.. = errors.len().saturating_sub(MAX_TOLD) {
        told.push(format!("and {more} more"));
    }
    told.join("; ")
}

/// A UUIDv5 of the canonical JSON of the items: the fields in the order of [`OrderItem`], prices with two decimals.
fn fingerprint(items: &[OrderItem]) -> String {
    let canonical = saga_core::Body::of(&items);
    Uuid::new_v5(&NAMESPACE, format!("submission/{}", canonical.as_str()).as_bytes()).to_string()
}
