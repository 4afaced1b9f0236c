//! A form (`multipart/form-data`, RFC 7578), taken apart as it comes.
//!
//! Owns the streaming splitter (RFC 2046 section 5.1); it does no input or output
//! and keeps no more of a body than a part's head or a delimiter may be long. Must
//! not know what the fields mean.

use memchr::memmem;

/// The longest head of a part, in bytes.
const HEAD_BYTES_MAX: usize = 8 << 10;
/// Header lines of a part.
const HEAD_LINES_MAX: usize = 16;
/// The longest boundary, in characters: RFC 2046 section 5.1.1.
const BOUNDARY_CHARS_MAX: usize = 70;
/// Parts of a form.
const PARTS_MAX: usize = 2048;

/// Why a body is no form. All of it is the client's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum FormError {
    /// The content type does not say how the parts are told apart.
    #[error("the content type multipart/form-data needs a boundary; curl's --form adds one")]
    NoBoundary,
    /// A part has no head that could be read.
    #[error("a part of the form has no readable head: {0}")]
    BadHead(&'static str),
    /// There are too many.
    #[error("the form has more than the {PARTS_MAX} parts that are allowed")]
    TooManyParts,
    /// It ended before its end.
    #[error("the form is cut off: its closing boundary is missing")]
    CutOff,
    /// The archive stands in it twice.
    #[error("the form holds the field \"archive\" twice; send one")]
    ArchiveTwice,
    /// It has a field that is not known.
    #[error("there is no field {name} in this form; {instead}")]
    UnknownField {
        /// The field, fit to be shown.
        name: String,
        /// What there is instead.
        instead: String,
    },
    /// A field that must be text is none.
    #[error("the form's field {0:?} is not UTF-8")]
    NotUtf8(String),
}

/// What has come of a form.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// A part begins: the field's name.
    Part(String),
    /// Some of its content.
    Content(Vec<u8>),
}

/// Takes a form apart.
#[derive(Debug)]
pub(crate) struct FormSplitter {
    /// What ends a part: a line break, two hyphens, the boundary.
    delimiter: Vec<u8>,
    /// What has come and is not judged yet.
    held: Vec<u8>,
    at: At,
    parts: usize,
}

/// Where in the form the next byte stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Preamble,
    AfterDelimiter,
    Head,
    Content,
    Epilogue,
}

impl FormSplitter {
    /// A splitter for a body of this content type.
    pub(crate) fn new(content_type: &str) -> Result<Self, FormError> {
        let boundary = parameter(content_type, "boundary")
            .filter(|boundary| (1..=BOUNDARY_CHARS_MAX).contains(&boundary.len()))
            .ok_or(FormError::NoBoundary)?;
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        // The first delimiter needs no line break before it.
        Ok(Self { delimiter, held: b"\r\n".to_vec(), at: At::Preamble, parts: 0 })
    }

    /// Takes the next bytes of the body and appends what they hold to `pieces`.
    pub(crate) fn feed(&mut self, bytes: &[u8], pieces: &mut Vec<Piece>) -> Result<(), FormError> {
        self.held.extend_from_slice(bytes);
        let mut taken = 0;
        while let Some(count) = self.step(taken, pieces)? {
            taken += count;
        }
        self.held.drain(..taken);
        self.let_go(pieces);
        Ok(())
    }

    /// Ends the body.
    pub(crate) fn finish(self) -> Result<(), FormError> {
        if self.at == At::Epilogue { Ok(()) } else { Err(FormError::CutOff) }
    }

    /// Looks at what is held from there on; how much of it is done with, or that
    /// more is needed.
    fn step(&mut self, from: usize, pieces: &mut Vec<Piece>) -> Result<Option<usize>, FormError> {
        let held = &self.held[from..];
        match self.at {
            At::Epilogue => Ok(None),
            At::Preamble | At::Content => {
                let Some(end) = memmem::find(held, &self.delimiter) else { return Ok(None) };
                if self.at == At::Content && end > 0 {
                    pieces.push(Piece::Content(held[..end].to_vec()));
                }
                self.at = At::AfterDelimiter;
                Ok(Some(end + self.delimiter.len()))
            }
            At::AfterDelimiter => {
                if held.starts_with(b"--") {
                    self.at = At::Epilogue;
                    return Ok(Some(2));
                }
                let padding = held.iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
                let rest = &held[padding..];
                if rest.starts_with(b"\r\n") {
                    self.at = At::Head;
                    return Ok(Some(padding + 2));
                }
                let may_come = rest.is_empty() || rest == b"\r" || (padding == 0 && rest == b"-");
                if may_come && padding < HEAD_BYTES_MAX {
                    return Ok(None);
                }
                Err(FormError::BadHead("its boundary is followed by something else"))
            }
            At::Head => {
                let Some(end) = memmem::find(held, b"\r\n\r\n") else {
                    return if held.len() > HEAD_BYTES_MAX {
                        Err(FormError::BadHead("it is too long"))
                    } else {
                        Ok(None)
                    };
                };
                pieces.push(Piece::Part(name_of(&held[..end + 4])?));
                self.parts += 1;
                if self.parts > PARTS_MAX {
                    return Err(FormError::TooManyParts);
                }
                self.at = At::Content;
                Ok(Some(end + 4))
            }
        }
    }

    /// Passes on what cannot be a part of a delimiter any more.
    fn let_go(&mut self, pieces: &mut Vec<Piece>) {
        match self.at {
            At::Epilogue => self.held.clear(),
            At::Preamble | At::Content => {
                let sure = self.held.len().saturating_sub(self.delimiter.len() - 1);
                if sure > 0 {
                    let rest = self.held.split_off(sure);
                    let content = std::mem::replace(&mut self.held, rest);
                    if self.at == At::Content {
                        pieces.push(Piece::Content(content));
                    }
                }
            }
            At::AfterDelimiter | At::Head => {}
        }
    }
}

/// The field's name in a part's head.
fn name_of(head: &[u8]) -> Result<String, FormError> {
    let mut lines = [httparse::EMPTY_HEADER; HEAD_LINES_MAX];
    let (_, lines) = match httparse::parse_headers(head, &mut lines) {
        Ok(httparse::Status::Complete(parsed)) => parsed,
        Ok(httparse::Status::Partial) => return Err(FormError::BadHead("it is cut off")),
        Err(_) => return Err(FormError::BadHead("it has lines that are no headers")),
    };
    let disposition = lines
        .iter()
        .find(|line| line.name.eq_ignore_ascii_case("content-disposition"))
        .ok_or(FormError::BadHead("it has no Content-Disposition"))?;
    let text = String::from_utf8_lossy(disposition.value);
    if !text.trim_start().to_ascii_lowercase().starts_with("form-data") {
        return Err(FormError::BadHead("its Content-Disposition is not form-data"));
    }
    parameter(&text, "name").ok_or(FormError::BadHead("its Content-Disposition has no name"))
}

/// The parameter of a header's value: `value; name="text"` or `; name=text`.
fn parameter(value: &str, wanted: &str) -> Option<String> {
    let mut rest = value.split_once(';')?.1;
    loop {
        let (name, after) = rest.split_once('=')?;
        let (text, after) = match after.trim_start().strip_prefix('"') {
            Some(quoted) => unquoted(quoted)?,
            None => {
                let end = after.find(';').unwrap_or(after.len());
                (after[..end].trim().to_owned(), &after[end..])
            }
        };
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(text);
        }
        rest = after.split_once(';')?.1;
    }
}

/// The text up to the closing quote, and what stands behind it.
fn unquoted(quoted: &str) -> Option<(String, &str)> {
    let mut text = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((text, &quoted[at + 1..])),
            '\\' => text.push(characters.next()?.1),
            other => text.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TYPE: &str = "multipart/form-data; charset=utf-8; boundary=\"xX\"";

    /// The fields of a body that comes in pieces of this size.
    fn fields(body: &[u8], piece_bytes: usize) -> Result<Vec<(String, Vec<u8>)>, FormError> {
        let mut splitter = FormSplitter::new(TYPE)?;
        let mut fields: Vec<(String, Vec<u8>)> = Vec::new();
        for bytes in body.chunks(piece_bytes.max(1)) {
            let mut pieces = Vec::new();
            splitter.feed(bytes, &mut pieces)?;
            for piece in pieces {
                match piece {
                    Piece::Part(name) => fields.push((name, Vec::new())),
                    Piece::Content(content) => {
                        fields.last_mut().expect("a part has begun").1.extend(content);
                    }
                }
            }
            assert!(splitter.held.len() <= HEAD_BYTES_MAX + piece_bytes);
        }
        splitter.finish()?;
        Ok(fields)
    }

    fn check(body: &str, expected: Result<&[(&str, &str)], &str>) {
        for piece_bytes in [1, 2, 7, 10_000] {
            match (fields(body.as_bytes(), piece_bytes), expected) {
                (Ok(found), Ok(expected)) => {
                    let found: Vec<_> = found
                        .iter()
                        .map(|(name, content)| {
                            (name.as_str(), std::str::from_utf8(content).unwrap())
                        })
                        .collect();
                    assert_eq!(found, expected, "{body:?} by {piece_bytes}");
                }
                (Err(error), Err(part)) => {
                    assert!(error.to_string().contains(part), "{body:?}: {error}");
                }
                (found, expected) => panic!("{body:?}: {found:?} instead of {expected:?}"),
            }
        }
    }

    const A: &str = "Content-Disposition: form-data; name=\"a\"\r\n\r\n";

    #[test]
    fn fields_are_told_apart() {
        check(&format!("--xX\r\n{A}1\r\n--xX--"), Ok(&[("a", "1")]));
        check(&format!("--xX\r\n{A}\r\n--xX--\r\n"), Ok(&[("a", "")]));
        check(&format!("hello\r\n--xX \t\r\n{A}1\r\n2\r\n--xX--bye"), Ok(&[("a", "1\r\n2")]));
        check(&format!("--xX\r\n{A}--xX\r\n--x\r\n--xX--"), Ok(&[("a", "--xX\r\n--x")]));
        let b = "content-type: x/y\r\nCONTENT-DISPOSITION: Form-Data; filename=\"a;name=c\"; name=b\r\n\r\n";
        check(&format!("--xX\r\n{A}1\r\n--xX\r\n{b}2\r\n--xX--"), Ok(&[("a", "1"), ("b", "2")]));
        let odd = "Content-Disposition: form-data; name=\"a\\\"b\"\r\n\r\n";
        check(&format!("--xX\r\n{odd}\r\n--xX--"), Ok(&[("a\"b", "")]));
        check("--xX--", Ok(&[]));
    }

    #[test]
    fn what_is_no_form_is_refused() {
        check("", Err("cut off"));
        check("hello", Err("cut off"));
        check(&format!("--xX\r\n{A}1"), Err("cut off"));
        check(&format!("--xX\r\n{A}1\r\n--xX"), Err("cut off"));
        check(&format!("--xX\r\n{A}1\r\n--xX-"), Err("cut off"));
        check(&format!("--xXy\r\n{A}1\r\n--xX--"), Err("followed by something else"));
        check("--xX\r\nContent-Type: x\r\n\r\n\r\n--xX--", Err("no Content-Disposition"));
        check("--xX\r\nContent-Disposition: form-data\r\n\r\n\r\n--xX--", Err("no name"));
        check("--xX\r\nContent-Disposition: file; name=a\r\n\r\n\r\n--xX--", Err("not form-data"));
        check("--xX\r\n: :\r\n\r\n\r\n--xX--", Err("no headers"));
        check(&format!("--xX\r\nA: {}", "x".repeat(9000)), Err("too long"));
        for bad in ["multipart/form-data", "multipart/form-data; boundary=", "a; boundary=\"x"] {
            assert_eq!(FormSplitter::new(bad).err(), Some(FormError::NoBoundary), "{bad}");
        }
    }

    proptest! {
        /// However a body is cut into pieces, the same comes of it.
        #[test]
        fn pieces_do_not_matter(
            contents in prop::collection::vec("[-xX\r\n]{0,12}", 1..4),
            cut in prop::option::of(0..60usize),
            piece_bytes in 1..9usize,
        ) {
            let mut body = String::new();
            for content in &contents {
                body += &format!("--xX\r\n{A}{content}\r\n");
            }
            body += "--xX--\r\n";
            if let Some(cut) = cut {
                body.truncate(body.len().saturating_sub(cut));
            }
            prop_assert_eq!(fields(body.as_bytes(), piece_bytes), fields(body.as_bytes(), 1 << 20));
        }
    }
}
