//! The values of `tinyfaas.toml`: each read as what its setting needs, or a sentence
//! that says what it must be.

use std::time::Duration;

use tinyfaas_model::{Runtime, parse_duration};
use toml::de::DeValue;

/// The longest description, in characters.
const DESCRIPTION_CHARS_MAX: usize = 500;
/// How much of a key or value is repeated in a message, in characters.
const SHOWN_CHARS_MAX: usize = 60;

/// The beginning of a text, as much as a message bears.
pub(super) fn cut(text: &str) -> String {
    text.chars().take(SHOWN_CHARS_MAX).collect()
}

/// A value and the setting that it is for.
#[derive(Clone, Copy)]
pub(super) struct Named<'a> {
    pub(super) key: &'a str,
    pub(super) value: &'a DeValue<'a>,
}

impl<'a> Named<'a> {
    pub(super) fn wrong(self, wanted: &str) -> String {
        format!("{} is {}; it must be {wanted}", self.key, self.found())
    }

    fn found(self) -> String {
        match self.value {
            DeValue::String(text) => format!("{:?}", cut(text)),
            DeValue::Integer(number) => cut(&number.to_string()),
            DeValue::Float(number) => cut(number.as_str()),
            DeValue::Boolean(truth) => truth.to_string(),
            DeValue::Datetime(_) => "a date".to_owned(),
            DeValue::Array(_) => "a list".to_owned(),
            DeValue::Table(_) => "a table".to_owned(),
        }
    }

    /// The members of a list, each by the list's name; a value that is no list is
    /// its only member.
    pub(super) fn members(self) -> impl Iterator<Item = Named<'a>> {
        let (list, alone) = match self.value {
            DeValue::Array(list) => (Some(list), None),
            _ => (None, Some(self)),
        };
        let named = move |value| Named { key: self.key, value };
        list.into_iter()
            .flat_map(|list| list.iter())
            .map(move |value| named(value.get_ref()))
            .chain(alone)
    }

    pub(super) fn runtime(self) -> Result<Runtime, String> {
        let name = match self.value {
            DeValue::String(name) => Some(name),
            _ => None,
        };
        name.and_then(|name| Runtime::from_name(name)).ok_or_else(|| {
            let known = Runtime::ALL.map(|runtime| format!("\"{runtime}\""));
            self.wrong(&format!("one of {}", known.join(", ")))
        })
    }

    /// A number that the server's configuration bounds.
    pub(super) fn number(self, least: usize, most: usize) -> Result<usize, String> {
        let allowed = format!("from {least} to {most}, the most that this server allows");
        self.integer()
            .filter(|number| (least..=most).contains(number))
            .ok_or_else(|| self.wrong(&format!("a whole number {allowed}")))
    }

    /// A whole number that is not negative.
    pub(super) fn integer(self) -> Option<usize> {
        match self.value {
            DeValue::Integer(number) => usize::from_str_radix(number.as_str(), number.radix()).ok(),
            _ => None,
        }
    }

    pub(super) fn time(self, most: Duration) -> Result<Duration, String> {
        let time = match self.value {
            DeValue::Integer(seconds) if seconds.radix() == 10 => parse_duration(seconds.as_str()),
            DeValue::String(text) => parse_duration(text),
            _ => {
                return Err(
                    self.wrong("a time such as \"30s\" or \"5min\", or a number of seconds")
                );
            }
        };
        let time = time.map_err(|why| format!("{} is {}: {why}", self.key, self.found()))?;
        if time.is_zero() || time > most {
            return Err(self.wrong(&format!(
                "longer than 0 and at most {most:?}, the most that this server allows"
            )));
        }
        Ok(time)
    }

    pub(super) fn truth(self) -> Result<bool, String> {
        match self.value {
            DeValue::Boolean(truth) => Ok(*truth),
            _ => Err(self.wrong("true or false")),
        }
    }

    pub(super) fn description(self) -> Result<String, String> {
        self.line(DESCRIPTION_CHARS_MAX)
    }

    /// Text for people, in one line.
    pub(super) fn line(self, chars_max: usize) -> Result<String, String> {
        match self.value {
            DeValue::String(text)
                if text.chars().count() <= chars_max && !text.chars().any(char::is_control) =>
            {
                Ok(text.clone().into_owned())
            }
            _ => Err(self.wrong(&format!("one line of text, at most {chars_max} characters"))),
        }
    }

    /// Words with a space between each two, for programs: ASCII that needs no
    /// escaping in quotes.
    pub(super) fn words(self, chars_max: usize) -> Result<String, String> {
        let plain = |c: char| c.is_ascii_graphic() && !matches!(c, '"' | '\\');
        match self.value {
            DeValue::String(text)
                if text.len() <= chars_max
                    && text.split(' ').all(|word| !word.is_empty() && word.chars().all(plain)) =>
            {
                Ok(text.clone().into_owned())
            }
            _ => Err(self.wrong(&format!(
                "words of ASCII characters without quotes and backslashes, a space between each \
                 two, at most {chars_max} characters in all"
            ))),
        }
    }
}
