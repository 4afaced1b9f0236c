//! How the text of a setting is read.
//!
//! Owns the notations for ports, addresses, sizes and numbers; that for times is
//! the model's, as functions' folders use it too, that for keys the gateway's. Must
//! not know which settings there are.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;

use tinyfaas_gateway::PskKeys;
use tinyfaas_model::notation::number_and_unit;
use tinyfaas_model::parse_duration;

/// What kind of value a setting has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A port: negative is off, 0 is the kernel's choice.
    Port,
    /// A port that has a usual value in some cases only; empty leaves it to them.
    PortIfWanted,
    /// IP addresses or `localhost`, separated by commas; `all` or empty is all.
    Addresses,
    /// A time: `300s`, `10min`, `500ms`, `1h`, or seconds.
    Duration,
    /// A size: `64MiB`, `8KiB`, `1GiB`, or bytes.
    Bytes,
    /// A size, at most so many bytes.
    BytesUpTo(u64),
    /// A size, at least and at most so many bytes.
    BytesBetween(u64, u64),
    /// A whole number, 1 at least.
    Count,
    /// `yes` or `no`.
    YesNo,
    /// Any text.
    Text,
    /// Host names, separated by commas.
    Names,
    /// Origins of web pages (RFC 6454), separated by commas, or `*`.
    Origins,
    /// A user's name or number.
    User,
    /// A name that somebody else has given: letters, digits, `-`, `_` and `.`.
    Word,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A file that is there, or none.
    File,
    /// An address that begins with `https://`.
    HttpsUrl,
    /// E-mail addresses, separated by commas, or none.
    Emails,
    /// Pre-shared keys, a list: secret, so that no message holds the text.
    Keys,
}

/// A setting's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// `None` is off.
    Port(Option<u16>),
    /// A port of which nothing is said.
    Unset,
    /// Empty is all.
    Addresses(Vec<IpAddr>),
    /// A length of time.
    Duration(Duration),
    /// A number of bytes.
    Bytes(u64),
    /// A number of things.
    Count(usize),
    /// Yes or no.
    Truth(bool),
    /// A text.
    Text(String),
    /// A text that is never shown.
    Secret(Secret),
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The text, for who needs it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(not shown)")
    }
}

impl Kind {
    /// Whether no message may show the text.
    pub(crate) const fn is_secret(self) -> bool {
        matches!(self, Self::Keys)
    }

    /// Reads a text as this kind.
    ///
    /// # Errors
    /// Says what would be right.
    pub(crate) fn parse(self, text: &str) -> Result<Value, String> {
        let text = text.trim();
        match self {
            Self::Port => port(text).map(Value::Port),
            Self::PortIfWanted if text.is_empty() => Ok(Value::Unset),
            Self::PortIfWanted => port(text).map(Value::Port),
            Self::Addresses => addresses(text).map(Value::Addresses),
            Self::Duration => {
                parse_duration(text).map(Value::Duration).map_err(|error| error.to_string())
            }
            Self::Bytes => bytes(text).map(Value::Bytes),
            Self::BytesUpTo(most) => match bytes(text)? {
                bytes if bytes > most => {
                    Err(format!("too large; give at most {most} bytes ({} MiB)", most >> 20))
                }
                bytes => Ok(Value::Bytes(bytes)),
            },
            Self::BytesBetween(least, most) => match bytes(text)? {
                bytes if bytes < least => Err(format!("too small; give at least {least} bytes")),
                _ => Self::BytesUpTo(most).parse(text),
            },
            Self::Count => count(text).map(Value::Count),
            Self::YesNo => match text {
                "yes" | "true" => Ok(Value::Truth(true)),
                "no" | "false" => Ok(Value::Truth(false)),
                _ => Err("use one of: yes, no".to_owned()),
            },
            // What is not UTF-8 was read with this character in its place.
            Self::Text | Self::File | Self::Keys if text.contains(char::REPLACEMENT_CHARACTER) => {
                Err("it is not UTF-8".to_owned())
            }
            Self::Text => Ok(Value::Text(text.to_owned())),
            Self::Names => names(text).map(Value::Text),
            Self::Origins => origins(text).map(Value::Text),
            Self::User => user(text).map(Value::Text),
            Self::Word => word(text).map(Value::Text),
            Self::Choice(words) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
            Self::Choice(words) => Err(format!("use one of: {}", words.join(", "))),
            Self::File => file(text).map(Value::Text),
            Self::HttpsUrl => https_url(text).map(Value::Text),
            Self::Emails => emails(text).map(Value::Text),
            Self::Keys => keys(text).map(Value::Secret),
        }
    }
}

fn port(text: &str) -> Result<Option<u16>, String> {
    let number: i64 = text.parse().map_err(|_| {
        "not a whole number; give a port, 0 for any free one, -1 for none".to_owned()
    })?;
    if number < 0 {
        return Ok(None);
    }
    u16::try_from(number).map(Some).map_err(|_| "ports end at 65535".to_owned())
}

fn addresses(text: &str) -> Result<Vec<IpAddr>, String> {
    let mut all = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty() && *part != "all") {
        if part == "localhost" {
            all.extend([IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)]);
            continue;
        }
        let bare = part.strip_prefix('[').and_then(|part| part.strip_suffix(']')).unwrap_or(part);
        let address = bare.parse().map_err(|_| {
            format!(
                "{part:?} is no IP address; give addresses separated by commas, localhost or all"
            )
        })?;
        all.push(address);
    }
    all.dedup();
    Ok(all)
}

fn names(text: &str) -> Result<String, String> {
    let in_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    let wrong = text.split(',').map(str::trim).find(|name| !name.chars().all(in_names));
    wrong.map_or(Ok(text.to_owned()), |name| {
        Err(format!("{name:?} is no host name; give names such as faas.example, without a port"))
    })
}

/// As browsers write them in a request's Origin header: that is compared as it stands.
fn origins(text: &str) -> Result<String, String> {
    let in_scheme = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "+-.".contains(c);
    let in_host = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "-._:[]".contains(c);
    let is_origin = |origin: &str| {
        let parts = origin.split_once("://");
        parts.is_some_and(|(scheme, host)| {
            !scheme.is_empty()
                && scheme.chars().all(in_scheme)
                && !host.is_empty()
                && host.chars().all(in_host)
        })
    };
    let mut all = text.split(',').map(str::trim);
    match all.find(|origin| !matches!(*origin, "" | "*") && !is_origin(origin)) {
        None => Ok(text.to_owned()),
        Some(wrong) => Err(format!(
            "{wrong:?} is no origin; give what the browser shows up to the path, in lower case, \
             such as https://app.example or http://localhost:3000, or * for any"
        )),
    }
}

/// A name that is somebody else's: whether there is one of that name, they know.
fn word(text: &str) -> Result<String, String> {
    let in_words = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    match text.chars().all(in_words) {
        true => Ok(text.to_owned()),
        false => Err("no such name; it has letters, digits, '-', '_' and '.' only".to_owned()),
    }
}

/// What useradd takes for a name, and numbers; whether there is such a user is
/// found out at start.
fn user(text: &str) -> Result<String, String> {
    let in_names = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_' | '$');
    if text.starts_with('-') || !text.chars().all(in_names) {
        return Err("no user has such a name; give a user's name or number".to_owned());
    }
    Ok(text.to_owned())
}

/// Whether it can be read is found out by who reads it: it may be root's own.
fn file(text: &str) -> Result<String, String> {
    match Path::new(text).metadata() {
        _ if text.is_empty() => Ok(String::new()),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(text.to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err("there is no such file".to_owned())
        }
        Err(error) => Err(format!("it cannot be read: {error}")),
        // A pipe, say, could keep the start waiting for ever.
        Ok(found) if !found.is_file() => Err("it is not an ordinary file".to_owned()),
        Ok(_) => Ok(text.to_owned()),
    }
}

fn https_url(text: &str) -> Result<String, String> {
    let rest = text.strip_prefix("https://").unwrap_or_default();
    let is_host = rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '[');
    if !is_host || !rest.chars().all(|c| c.is_ascii_graphic()) {
        return Err("not the address of a server with TLS; write https://HOST/PATH".to_owned());
    }
    Ok(text.to_owned())
}

fn emails(text: &str) -> Result<String, String> {
    let is_email = |part: &str| {
        let (name, host) = part.split_once('@').unwrap_or_default();
        !name.is_empty() && !host.is_empty() && part.chars().all(|c| c.is_ascii_graphic())
    };
    let mut parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    match parts.find(|part| !is_email(part)) {
        Some(wrong) => Err(format!("{wrong:?} is no e-mail address; write NAME@HOST")),
        None => Ok(text.to_owned()),
    }
}

fn keys(text: &str) -> Result<Secret, String> {
    let keys = PskKeys::parse_list(text).map_err(|mistakes| mistakes.lines.join("; "))?;
    if keys.is_empty() && !text.is_empty() {
        return Err("there is no key in it; write IDENTITY:KEY,IDENTITY:KEY".to_owned());
    }
    Ok(Secret(text.to_owned()))
}

fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || "not a size; write 512KiB, 64MiB, 1GiB or a number of bytes".to_owned();
    let (number, unit) = number_and_unit(text).ok_or_else(wrong)?;
    let each = match unit {
        "" | "B" => 1,
        "k" | "K" | "KiB" => 1 << 10,
        "kB" => 1_000,
        "M" | "MiB" => 1 << 20,
        "MB" => 1_000_000,
        "G" | "GiB" => 1 << 30,
        "GB" => 1_000_000_000,
        _ => return Err(wrong()),
    };
    number
        .checked_mul(each)
        .filter(|bytes| *bytes <= 1 << 50)
        .ok_or_else(|| "larger than a pebibyte; give a smaller size".to_owned())
}

fn count(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(count) if (1..=1_000_000_000).contains(&count) => Ok(count),
        Ok(_) => Err("out of range; give a whole number from 1 to 1000000000".to_owned()),
        Err(_) => Err("not a whole number; give one from 1 to 1000000000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(kind: Kind, text: &str, expected: Option<Value>) {
        assert_eq!(kind.parse(text).ok(), expected, "{text:?} as {kind:?}");
    }

    #[test]
    fn times() {
        check(Kind::Duration, " 10 min ", Some(Value::Duration(Duration::from_secs(600))));
        check(Kind::Duration, "1d", None);
    }

    #[test]
    fn sizes() {
        check(Kind::Bytes, "64MiB", Some(Value::Bytes(64 << 20)));
        check(Kind::Bytes, "10", Some(Value::Bytes(10)));
        check(Kind::Bytes, "1 GB", Some(Value::Bytes(1_000_000_000)));
        check(Kind::Bytes, "1TiB", None);
        check(Kind::Bytes, "18446744073709551615G", None);
    }

    #[test]
    fn addresses_of_both_families() {
        let list = |texts: &[&str]| {
            Some(Value::Addresses(texts.iter().map(|t| t.parse().expect("an address")).collect()))
        };
        check(Kind::Addresses, "", list(&[]));
        check(Kind::Addresses, "all", list(&[]));
        check(Kind::Addresses, "localhost", list(&["127.0.0.1", "::1"]));
        check(Kind::Addresses, "[::1], 10.0.0.1", list(&["::1", "10.0.0.1"]));
        check(Kind::Addresses, "example.org", None);
    }

    #[test]
    fn names_of_hosts_and_users() {
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        check(Kind::Names, "", text(""));
        check(Kind::Names, "faas.example, my_box-2,", text("faas.example, my_box-2,"));
        check(Kind::Names, "faas.example:8080", None);
        check(Kind::Names, "http://faas.example", None);
        check(Kind::Names, "a b", None);
        check(Kind::Text, "/srv/\u{fffd}", None);
        check(Kind::User, "tiny_faas-1", text("tiny_faas-1"));
        check(Kind::User, "a b", None);
        check(Kind::User, "/root", None);
        check(Kind::Word, "tls-server_2.0", text("tls-server_2.0"));
        check(Kind::Word, "", text(""));
        check(Kind::Word, "a/b", None);
    }

    #[test]
    fn origins_of_pages() {
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        check(Kind::Origins, "", text(""));
        check(Kind::Origins, "*", text("*"));
        let two = "https://app.example, http://localhost:3000,";
        check(Kind::Origins, two, text(two));
        check(Kind::Origins, "http://[::1]:80", text("http://[::1]:80"));
        for wrong in ["app.example", "https://app.example/", "https://", "HTTPS://a", "null", "a b"]
        {
            check(Kind::Origins, wrong, None);
        }
    }

    #[test]
    fn numbers_and_words() {
        check(Kind::Count, "64", Some(Value::Count(64)));
        check(Kind::Count, "0", None);
        check(Kind::Count, "many", None);
        check(Kind::Choice(&["a", "b"]), "b", Some(Value::Text("b".into())));
        check(Kind::Choice(&["a", "b"]), "B", None);
        check(Kind::YesNo, "yes", Some(Value::Truth(true)));
        check(Kind::YesNo, "false", Some(Value::Truth(false)));
        check(Kind::YesNo, "", None);
        check(Kind::BytesUpTo(1024), "1KiB", Some(Value::Bytes(1024)));
        check(Kind::BytesUpTo(1024), "1025", None);
        check(Kind::BytesBetween(512, 1024), "512", Some(Value::Bytes(512)));
        check(Kind::BytesBetween(512, 1024), "511", None);
        check(Kind::BytesBetween(512, 1024), "1025", None);
        check(Kind::PortIfWanted, "", Some(Value::Unset));
        check(Kind::PortIfWanted, "-1", Some(Value::Port(None)));
    }

    #[test]
    fn addresses_of_authorities_and_people() {
        let text = |text: &str| Some(Value::Text(text.to_owned()));
        for good in ["https://ca.example/dir", "https://127.0.0.1:14000/dir", "https://[::1]/d"] {
            check(Kind::HttpsUrl, good, text(good));
        }
        for bad in
            ["", "ca.example", "http://ca.example/dir", "https://", "https:///x", "https://a b"]
        {
            check(Kind::HttpsUrl, bad, None);
        }
        for good in ["", "ada@gw.example", "ada@a, bob@b"] {
            check(Kind::Emails, good, text(good));
        }
        for bad in ["ada", "@a", "ada@", "a b@c", "mailto ada@a"] {
            check(Kind::Emails, bad, None);
        }
    }

    #[test]
    fn files_are_there() {
        let place = tempfile::tempdir().expect("room");
        let path = place.path().join("keys");
        std::fs::write(&path, "").expect("writable");
        let path = path.to_str().expect("UTF-8");
        check(Kind::File, path, Some(Value::Text(path.to_owned())));
        check(Kind::File, "", Some(Value::Text(String::new())));
        check(Kind::File, "/no/such", None);
        check(Kind::File, "/proc", None);
        check(Kind::File, "/dev/null", None);
    }

    #[test]
    fn keys_are_never_shown() {
        let value = Kind::Keys.parse(" a:hidden, b:0x0011 ").expect("two keys");
        assert!(!format!("{value:?}").contains("hidden"));
        let Value::Secret(secret) = value else { panic!("a secret") };
        assert_eq!(secret.expose(), "a:hidden, b:0x0011");
        check(Kind::Keys, "", Some(Value::Secret(Secret(String::new()))));
        for wrong in ["hidden", "a:hidden:hidden", ",", "a:hidden,a:hidden", "a:hex:hidden"] {
            let mistake = Kind::Keys.parse(wrong).expect_err(wrong);
            assert!(!mistake.contains("hidden"), "{mistake}");
        }
    }
}
