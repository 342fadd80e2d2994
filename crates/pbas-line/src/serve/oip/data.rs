//! A tensor's data in JSON, nested or flat: numbers or texts, kept as small as they are. (As JSON values they would take sixteen times the room
//! of the body, which a client could use to fill the memory.)

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, SeqAccess, Visitor};

/// More texts than any request may have pictures.
const MOST_TEXTS: usize = 4096;

/// Numbers or texts, in row-major order.
#[derive(Debug, Default, PartialEq)]
pub struct Data {
    /// Numbers. Whole ones of up to 24 bits are exact.
    pub numbers: Vec<f32>,
    /// Texts.
    pub texts: Vec<String>,
    /// Whether a number is none of the whole ones from 0 to 255.
    pub beyond_bytes: bool,
}

impl<'de> serde::Deserialize<'de> for Data {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut data = Self::default();
        Into { data: &mut data, outermost: true }.deserialize(deserializer)?;
        Ok(data)
    }
}

/// Puts a value at the end of the data.
struct Into<'a> {
    data: &'a mut Data,
    outermost: bool,
}

impl<'de> DeserializeSeed<'de> for Into<'_> {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.outermost { deserializer.deserialize_seq(self) } else { deserializer.deserialize_any(self) }
    }
}

impl<'de> Visitor<'de> for Into<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of numbers or of texts, nested or flat")
    }

    fn visit_u64<E>(self, v: u64) -> Result<(), E> {
        self.data.beyond_bytes |= v > 255;
        self.data.numbers.push(v as f32);
        Ok(())
    }

    fn visit_i64<E>(self, v: i64) -> Result<(), E> {
        self.data.beyond_bytes |= !(0..256).contains(&v);
        self.data.numbers.push(v as f32);
        Ok(())
    }

    fn visit_f64<E>(self, v: f64) -> Result<(), E> {
        self.data.beyond_bytes |= !(0.0..=255.0).contains(&v) || v.fract() != 0.0;
        self.data.numbers.push(v as f32);
        Ok(())
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<(), E> {
        if self.data.texts.len() == MOST_TEXTS {
            return Err(E::custom(format!("expected at most {MOST_TEXTS} texts")));
        }
        self.data.texts.push(v.to_owned());
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Into { data: self.data, outermost: false })?.is_some() {}
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(json: &str) -> Result<Data, serde_json::Error> {
        serde_json::from_str(json)
    }

    #[test]
    fn nested_and_flat_are_the_same() {
        assert_eq!(of("[[1,2],[3,[255]]]").unwrap(), of("[1,2,3,255.0]").unwrap());
        assert_eq!(of("[1,2,3,255]").unwrap().numbers, [1.0, 2.0, 3.0, 255.0]);
        assert_eq!(of(r#"[["a"],"b"]"#).unwrap().texts, ["a", "b"]);
    }

    #[test]
    fn numbers_beyond_bytes_are_noticed() {
        for whole in ["[0,255]", "[0.0,7.0]", "[]"] {
            assert!(!of(whole).unwrap().beyond_bytes, "{whole}");
        }
        for beyond in ["[256]", "[-1]", "[0.5]", "[1.00000001]", "[1e300]"] {
            assert!(of(beyond).unwrap().beyond_bytes, "{beyond}");
        }
    }

    #[test]
    fn what_is_no_array_is_refused() {
        for bad in ["1", "\"a\"", "{}", "null", "[null]", "[{}]", "[true]", "[1"] {
            assert!(of(bad).is_err(), "{bad}");
        }
        assert!(of(&"[".repeat(100_000)).is_err());
        assert!(of(&format!("[{}\"\"]", "\"\",".repeat(MOST_TEXTS))).is_err());
    }
}
