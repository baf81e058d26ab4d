//! How ids, times and numbers are written into columns, and read back.

use chrono::{DateTime, SecondsFormat, TimeZone, Utc};
use rusqlite::ToSql;
use rusqlite::types::{ToSqlOutput, ValueRef};
use uuid::Uuid;
use uuid::fmt::Hyphenated;

use crate::commit::Name;
use crate::store::StoreError;
use crate::store::sql::corrupt;

/// The last time that has four digits for its year; a later one is stored as this, because it would not compare.
const LAST_MICROSECOND: i64 = 253_402_300_799_999_999;
/// The beginning of the year 0; an earlier time is stored as this.
const FIRST_MICROSECOND: i64 = -62_167_219_200_000_000;

/// RFC 3339, UTC, microseconds: always 27 characters, so texts compare as the times do.
pub(super) fn time(at: DateTime<Utc>) -> String {
    let micros = at.timestamp_micros().clamp(FIRST_MICROSECOND, LAST_MICROSECOND);
    let at = Utc.timestamp_micros(micros).single().unwrap_or(at);
    at.to_rfc3339_opts(SecondsFormat::Micros, true)
}

pub(super) fn read_time(text: &str, place: &str) -> Result<DateTime<Utc>, StoreError> {
    DateTime::parse_from_rfc3339(text).map(|at| at.with_timezone(&Utc)).map_err(|error| corrupt(place, text, &error))
}

/// Lower case, with hyphens.
pub(super) fn id(id: Uuid) -> IdText {
    let mut text = [0; Hyphenated::LENGTH];
    id.hyphenated().encode_lower(&mut text);
    IdText(text)
}

/// An id as it is written into a column.
#[derive(Clone, Copy)]
pub(super) struct IdText([u8; Hyphenated::LENGTH]);

impl IdText {
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl ToSql for IdText {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(&self.0)))
    }
}

pub(super) fn read_id(text: &str, place: &str) -> Result<Uuid, StoreError> {
    text.parse().map_err(|error| corrupt(place, text, &error))
}

/// SQLite's integers are signed; no counter of ours comes near the limit.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

pub(super) fn read_number<T: TryFrom<i64>>(number: i64, place: &str) -> Result<T, StoreError> {
    T::try_from(number).map_err(|_| StoreError::Corrupt(format!("{place} holds {number}, which is out of range")))
}

/// A JSON array of ids, for `json_each`.
pub(super) fn ids<'a>(ids: impl IntoIterator<Item = &'a Uuid>) -> String {
    list(ids.into_iter().map(|it| format!("\"{}\"", id(*it).as_str())))
}

/// A JSON array of items that are JSON already.
pub(super) fn list(items: impl Iterator<Item = String>) -> String {
    let mut json = String::from("[");
    for (index, item) in items.enumerate() {
        if index > 0 {
            json.push(',');
        }
        json.push_str(&item);
    }
    json.push(']');
    json
}

pub(super) fn name(text: String) -> Name {
    Name::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_any_time_when_written_then_it_has_one_width_and_order() {
        let times = [
            DateTime::<Utc>::MIN_UTC,
            DateTime::<Utc>::UNIX_EPOCH,
            Utc.timestamp_micros(1_795_437_296_000_000).unwrap(),
            Utc.timestamp_micros(1_795_437_296_000_001).unwrap(),
            DateTime::<Utc>::MAX_UTC,
        ];
        let texts: Vec<_> = times.iter().map(|at| time(*at)).collect();
        assert!(texts.iter().all(|text| text.len() == "2026-11-23T12:34:56.123456Z".len()), "{texts:?}");
        assert!(texts.is_sorted(), "{texts:?}");
        assert_eq!(read_time(&texts[3], "here").unwrap(), times[3]);
    }
}
