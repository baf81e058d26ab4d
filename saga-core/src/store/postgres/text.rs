//! How texts, times and numbers are written into columns, and read back.

use std::borrow::Cow;

use chrono::{DateTime, TimeZone, Utc};
use serde::Serialize;
use sqlx::encode::{Encode, IsNull};
use sqlx::error::BoxDynError;
use sqlx::postgres::{PgArgumentBuffer, PgHasArrayType, PgTypeInfo, PgValueRef};
use sqlx::{Decode, Postgres, Type};

use crate::commit::Name;

/// What U+0000 is written as, with [`NUL`] behind it; itself it is doubled.
const ESCAPE: char = '\u{2400}';
const NUL: char = '0';

/// A text as a column can hold it: PostgreSQL's texts have no U+0000, and nothing else is changed.
pub(super) fn stored(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', ESCAPE]) {
        return Cow::Borrowed(text);
    }
    let mut stored = String::with_capacity(text.len() + 8);
    for char in text.chars() {
        match char {
            '\0' => stored.extend([ESCAPE, NUL]),
            ESCAPE => stored.extend([ESCAPE, ESCAPE]),
            other => stored.push(other),
        }
    }
    Cow::Owned(stored)
}

/// A text as it was before it was [`stored`].
pub(super) fn restored(text: String) -> String {
    if !text.contains(ESCAPE) {
        return text;
    }
    let mut restored = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(char) = chars.next() {
        match char {
            ESCAPE => match chars.next() {
                Some(NUL) => restored.push('\0'),
                Some(ESCAPE) => restored.push(ESCAPE),
                other => {
                    // Written by hand: it means itself.
                    restored.push(ESCAPE);
                    restored.extend(other);
                }
            },
            other => restored.push(other),
        }
    }
    restored
}

/// A name as it was before it was [`stored`].
pub(super) fn name(text: String) -> Name {
    Name::Owned(restored(text))
}

/// Microseconds from 2000-01-01 to 1970-01-01, the beginnings of PostgreSQL's and of chrono's time.
const EPOCH: i64 = -946_684_800_000_000;

/// A moment as PostgreSQL sends it: microseconds from the beginning of 2000. What chrono can not hold, as `infinity`,
/// is an error of its row, and not a panic.
#[derive(Debug, Clone, Copy)]
pub(super) struct Time(i64);

impl Time {
    /// Earlier than every other: `-infinity`.
    pub(super) const FIRST: Self = Self(i64::MIN);

    pub(super) fn read(self) -> Option<DateTime<Utc>> {
        Utc.timestamp_micros(self.0.checked_sub(EPOCH)?).single()
    }
}

impl Type<Postgres> for Time {
    fn type_info() -> PgTypeInfo {
        <DateTime<Utc> as Type<Postgres>>::type_info()
    }
}

impl Encode<'_, Postgres> for Time {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        <i64 as Encode<Postgres>>::encode(self.0, buffer)
    }
}

impl<'r> Decode<'r, Postgres> for Time {
    fn decode(value: PgValueRef<'r>) -> Result<Self, BoxDynError> {
        <i64 as Decode<Postgres>>::decode(value).map(Self)
    }
}

/// A time that PostgreSQL can hold, the nearest one.
pub(super) fn time(at: DateTime<Utc>) -> DateTime<Utc> {
    /// The beginning of the year -4000; PostgreSQL's first is in -4713.
    const FIRST: i64 = -188_395_027_200_000_000;
    if at.timestamp_micros() < FIRST { Utc.timestamp_micros(FIRST).single().unwrap_or(at) } else { at }
}

/// PostgreSQL's integers are signed; no counter of ours comes near the limit.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// As [`number`], of a limit or a length.
pub(super) fn count(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// A value as JSON text, written straight into the message to the server. JSON escapes U+0000.
pub(super) struct Json<'a, T>(pub(super) &'a T);

impl<T> Type<Postgres> for Json<'_, T> {
    fn type_info() -> PgTypeInfo {
        <str as Type<Postgres>>::type_info()
    }
}

impl<T> PgHasArrayType for Json<'_, T> {
    fn array_type_info() -> PgTypeInfo {
        <String as PgHasArrayType>::array_type_info()
    }
}

impl<T: Serialize> Encode<'_, Postgres> for Json<'_, T> {
    fn encode_by_ref(&self, buffer: &mut PgArgumentBuffer) -> Result<IsNull, BoxDynError> {
        serde_json::to_writer(&mut **buffer, self.0)?;
        Ok(IsNull::No)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn given_any_text_when_stored_then_it_has_no_nul_and_comes_back() {
        for text in ["", "plain ✓", "\0", "a\0b\0", "␀", "␀0", "\0␀\0␀␀", "␀␀0\0"] {
            let stored = stored(text);
            assert!(!stored.contains('\0'), "{stored:?}");
            assert_eq!(restored(stored.into_owned()), text);
        }
        assert_eq!(restored("written by hand: ␀x ␀".to_owned()), "written by hand: ␀x ␀");
    }

    #[test]
    fn given_texts_that_look_alike_when_stored_then_they_stay_different() {
        assert_ne!(stored("\0"), stored("␀0"));
        assert_ne!(stored("␀"), stored("␀␀"));
    }

    #[test]
    fn given_a_time_beyond_what_can_be_held_when_it_is_read_then_it_is_no_time() {
        assert_eq!(Time(0).read(), Some("2000-01-01T00:00:00Z".parse().unwrap()));
        assert_eq!((Time(i64::MAX).read(), Time(i64::MIN).read()), (None, None));
        assert_eq!(time(DateTime::<Utc>::MIN_UTC).to_rfc3339(), "-4000-01-01T00:00:00+00:00");
    }
}
