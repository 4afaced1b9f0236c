//! The CoRE link format (RFC 6690): what `/.well-known/core` answers, and the
//! filters of its queries. Knows no functions and no payload limits.

use std::fmt::{self, Write};

/// A resource that is told of.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Link {
    /// Its path with the slash at its front, not yet escaped.
    pub path: String,
    /// Its attributes by name, in the order in which they are written. A name is
    /// one of RFC 6690's or RFC 7252's (`rt`, `if`, `sz`, `ct`, `obs`, `title`).
    pub attributes: Vec<(&'static str, Value)>,
}

/// What an attribute says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    /// That it is there (`obs`, RFC 7641 section 6).
    Flag,
    /// A number (`sz`; a `ct` of one format, RFC 7252 section 7.2.1).
    Number(u32),
    /// Text, written in quotes; of `rt`, `if`, `rel` and `ct` a list with spaces
    /// between its members (RFC 6690 section 2).
    Text(String),
}

/// A filter of a query (RFC 6690 section 4.1).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Filter<'a> {
    name: &'a str,
    /// None: the attribute need only be there.
    pattern: Option<&'a str>,
}

impl<'a> Filter<'a> {
    /// Reads a Uri-Query option: `name=value`, `name=prefix*`, or a name alone.
    #[must_use]
    pub fn read(query: &'a str) -> Filter<'a> {
        match query.split_once('=') {
            Some((name, pattern)) => Filter { name, pattern: Some(pattern) },
            None => Filter { name: query, pattern: None },
        }
    }

    /// Whether the link is one that is asked for. Its path goes by the name `href`.
    #[must_use]
    pub fn matches(&self, link: &Link) -> bool {
        if self.name == "href" {
            return self.takes(&link.path);
        }
        link.attributes.iter().filter(|(name, _)| *name == self.name).any(|(name, value)| {
            match value {
                Value::Flag => self.takes(""),
                Value::Number(number) => self.takes(&number.to_string()),
                Value::Text(text) if is_list(name) => {
                    self.takes(text) || text.split(' ').any(|member| self.takes(member))
                }
                Value::Text(text) => self.takes(text),
            }
        })
    }

    fn takes(&self, value: &str) -> bool {
        match self.pattern {
            None => true,
            Some(pattern) => match pattern.strip_suffix('*') {
                Some(prefix) => value.starts_with(prefix),
                None => value == pattern,
            },
        }
    }
}

fn is_list(name: &str) -> bool {
    matches!(name, "rt" | "if" | "rel" | "ct")
}

/// Writes the links that all filters take, in link format (content format 40).
#[must_use]
pub fn write<'l>(links: impl IntoIterator<Item = &'l Link>, filters: &[Filter<'_>]) -> String {
    let mut text = String::new();
    for link in links {
        if filters.iter().all(|filter| filter.matches(link)) {
            if !text.is_empty() {
                text.push(',');
            }
            write!(text, "{link}").expect("a string takes all");
        }
    }
    text
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('<')?;
        for byte in self.path.bytes() {
            // What stands in a path as it is (RFC 3986 section 3.3).
            if byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/".contains(&byte) {
                f.write_char(char::from(byte))?;
            } else {
                write!(f, "%{byte:02X}")?;
            }
        }
        f.write_char('>')?;
        for (name, value) in &self.attributes {
            match value {
                Value::Flag => write!(f, ";{name}")?,
                Value::Number(number) => write!(f, ";{name}={number}")?,
                Value::Text(text) => {
                    write!(f, ";{name}=\"")?;
                    for character in text.chars() {
                        if matches!(character, '"' | '\\') {
                            f.write_char('\\')?;
                        }
                        f.write_char(character)?;
                    }
                    f.write_char('"')?;
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> [Link; 3] {
        let link = |path: &str, attributes: &[(&'static str, Value)]| Link {
            path: path.into(),
            attributes: attributes.to_vec(),
        };
        let text = |text: &str| Value::Text(text.into());
        [
            link(
                "/echo",
                &[("rt", text("Type1 Type2")), ("if", text("If1")), ("ct", Value::Number(40))],
            ),
            link(
                "/sensors/a b",
                &[("rt", text("Type3")), ("sz", Value::Number(1280)), ("obs", Value::Flag)],
            ),
            link("/plain", &[("title", text("say \"hi\" \\o/ now"))]),
        ]
    }

    fn check(queries: &[&str], expected: &str) {
        let filters: Vec<_> = queries.iter().map(|query| Filter::read(query)).collect();
        assert_eq!(write(&links(), &filters), expected, "{queries:?}");
    }

    #[test]
    fn links_and_filters() {
        let echo = r#"</echo>;rt="Type1 Type2";if="If1";ct=40"#;
        let sensor = r#"</sensors/a%20b>;rt="Type3";sz=1280;obs"#;
        let plain = r#"</plain>;title="say \"hi\" \\o/ now""#;
        check(&[], &[echo, sensor, plain].join(","));
        check(&["rt=Type1"], echo);
        check(&["rt=Type2"], echo);
        check(&["rt=Type1 Type2"], echo);
        check(&["rt=Type*"], &[echo, sensor].join(","));
        check(&["rt=*"], &[echo, sensor].join(","));
        check(&["rt=Type"], "");
        check(&["if=If*"], echo);
        check(&["sz=*"], sensor);
        check(&["sz=1280"], sensor);
        check(&["ct=40"], echo);
        check(&["obs"], sensor);
        check(&["href=/echo"], echo);
        check(&["href=/sensors*"], sensor);
        check(&["href=/sensors/a b"], sensor);
        check(&["title=say*"], plain);
        check(&["title=now"], "");
        check(&["rt=Type*", "obs"], sensor);
        check(&["none=*"], "");
    }

    #[test]
    fn nothing_breaks_out_of_a_path() {
        let link = Link { path: "/a>;rt=\"x\",</b\u{e9}%".into(), attributes: Vec::new() };
        assert_eq!(link.to_string(), "</a%3E;rt=%22x%22,%3C/b%C3%A9%25>");
    }
}
