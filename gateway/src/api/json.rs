//! JSON that can be read in one way only: an object is no list of its fields, no name comes twice, and 5.0 is 5.

use std::{collections::BTreeMap, fmt, marker::PhantomData};

use http::{HeaderMap, header};
use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, Error, MapAccess, Unexpected, Visitor, value::MapAccessDeserializer},
};

use crate::problem::Problem;

/// Reads a body that must be one JSON object.
///
/// # Errors
/// When it is announced as something else, or is something else.
pub(super) fn read<T: DeserializeOwned>(headers: &HeaderMap, body: &[u8]) -> Result<T, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
        return Err(Problem::MediaType);
    }
    let Object(read) = serde_json::from_slice(body).map_err(|error| Problem::Body(error.to_string().into()))?;
    Ok(read)
}

/// A `T` from an object; serde would take a list of its fields too.
pub(super) struct Object<T>(pub(super) T);

/// A map in which no name comes twice; of two, serde would take the last.
#[derive(Default)]
pub(super) struct Distinct(pub(super) BTreeMap<String, String>);

/// A whole number, however it is written; serde would refuse 5.0, which many programs write for 5.
#[derive(Clone, Copy)]
pub(super) struct Whole(pub(super) u64);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for Fields<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Fields(PhantomData)).map(Self)
    }
}

impl<'de> Deserialize<'de> for Distinct {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Names;

        impl<'de> Visitor<'de> for Names {
            type Value = BTreeMap<String, String>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of texts")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut read = BTreeMap::new();
                while let Some((name, value)) = map.next_entry()? {
                    if read.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name comes twice"));
                    }
                }
                Ok(read)
            }
        }

        deserializer.deserialize_map(Names).map(Self)
    }
}

impl<'de> Deserialize<'de> for Whole {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Number;

        impl Visitor<'_> for Number {
            type Value = u64;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a whole number, zero or more")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<u64, E> {
                Ok(number)
            }

            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "whole, and within 32 bits")]
            fn visit_f64<E: Error>(self, number: f64) -> Result<u64, E> {
                let is_whole = number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number);
                if is_whole { Ok(number as u64) } else { Err(E::invalid_value(Unexpected::Float(number), &self)) }
            }
        }

        deserializer.deserialize_u64(Number).map(Self)
    }
}
