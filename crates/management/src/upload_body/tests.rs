use base64::Engine;
use proptest::prelude::*;

use super::base64_stream::ENGINE;
use super::*;

fn run(body: &[u8], chunk: usize) -> Result<(UploadRest, Vec<u8>), BodyFormError> {
    let mut filter = UploadFilter::new(1 << 16);
    let mut zip = Vec::new();
    for part in body.chunks(chunk.max(1)) {
        filter.feed(part, &mut zip)?;
    }
    Ok((filter.finish()?, zip))
}

/// For every way of cutting it up, the body gives this rest and this zip.
fn check(body: &str, rest: &str, zip: Option<&[u8]>) {
    for chunk in [1, 2, 3, 7, body.len()] {
        let (found, bytes) = run(body.as_bytes(), chunk).unwrap();
        assert_eq!(String::from_utf8_lossy(&found.json), rest, "{body} by {chunk}");
        assert_eq!(found.has_zip.then_some(bytes.as_slice()), zip, "{body} by {chunk}");
    }
}

fn check_refused(body: &str, expected: &str) {
    for chunk in [1, body.len()] {
        let error = run(body.as_bytes(), chunk).unwrap_err().to_string();
        assert!(error.contains(expected), "{body}: {error}");
    }
}

#[test]
fn the_zip_is_diverted() {
    check(r#"{"name":"a","zip":"aGk=","x":1}"#, r#"{"name":"a","zip":"","x":1}"#, Some(b"hi"));
    check(r#"{"ZIP" : "aGk="}"#, r#"{"ZIP" : ""}"#, Some(b"hi"));
    check(r#"{"\u007aip":"aGk="}"#, r#"{"\u007aip":""}"#, Some(b"hi"));
    check(r#"{"zip":""}"#, r#"{"zip":""}"#, Some(b""));
    check("{\"zip\":\"aG\n\r\nk=\\n\"}", r#"{"zip":""}"#, Some(b"hi"));
    check(r#"{"zip":"\/\/\/\/"}"#, r#"{"zip":""}"#, Some(b"\xff\xff\xff"));
    check(r#"{"zip":"\u002B\u002b+/"}"#, r#"{"zip":""}"#, Some(b"\xfb\xef\xbf"));
}

#[test]
fn other_zips_pass() {
    let nested = r#"{"a":{"zip":"!"},"b":["zip","!"],"c":"zip"}"#;
    check(nested, nested, None);
    let value = r#"{"x":"zip","zip":["aGk="]}"#;
    check(value, value, None);
    let number = r#"{"zip":3,"y":"aGk="}"#;
    check(number, number, None);
    let tricky = r#"{"a":"\"zip\":\"","b\\":"\\","zip2":"}"}"#;
    check(tricky, tricky, None);
    let array = r#"["zip","!"]"#;
    check(array, array, None);
}

#[test]
fn broken_ones_are_refused() {
    check_refused(r#"{"zip":"aGk=","Zip":"aGk="}"#, "twice");
    check_refused(r#"{"zip":"aGk"}"#, "cut off");
    check_refused(r#"{"zip":"aG=k"}"#, "behind its padding");
    check_refused(r#"{"zip":"aGk=aGk="}"#, "behind its padding");
    check_refused(r#"{"zip":"a==="}"#, "padding is wrong");
    check_refused(r#"{"zip":"aG_k"}"#, "URLs");
    check_refused(r#"{"zip":"aG k"}"#, "character ' '");
    check_refused(r#"{"zip":"\u00e4aaa"}"#, "not ASCII");
    check_refused(r#"{"zip":"\t"}"#, "escape");
    check_refused(r#"{"zip":"aGk="#, "ends within");
}

#[test]
fn the_rest_is_bounded() {
    let mut filter = UploadFilter::new(100);
    let error = filter.feed(&[b' '; 101], &mut Vec::new()).unwrap_err();
    assert_eq!(error, BodyFormError::RestTooLarge { limit_bytes: 100 });
}

fn json() -> impl Strategy<Value = serde_json::Value> {
    let text = prop_oneof![".{0,8}", Just("zip".to_owned()), "[\"\\\\{}\\[\\],:]{0,6}"];
    let leaf = prop_oneof![
        Just(serde_json::Value::Null),
        any::<bool>().prop_map(Into::into),
        any::<i64>().prop_map(Into::into),
        text.clone().prop_map(Into::into),
    ];
    leaf.prop_recursive(3, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Into::into),
            prop::collection::hash_map(text.clone(), inner, 0..4)
                .prop_map(|map| serde_json::Value::Object(map.into_iter().collect())),
        ]
    })
}

/// Base64 as clients write it: with line breaks and escapes in places.
fn written(zip: &[u8], noise: &[u8]) -> String {
    let mut out = String::from("\"");
    for (index, character) in ENGINE.encode(zip).chars().enumerate() {
        match noise.get(index % noise.len().max(1)) {
            Some(0) => out.push_str("\\n"),
            Some(1) => out.push('\n'),
            Some(2) => out.push_str("\\r\\n"),
            _ => {}
        }
        match (character, noise.get(index % noise.len().max(1))) {
            ('/', Some(3)) => out.push_str("\\/"),
            (any, Some(4)) => out.push_str(&format!("\\u{:04x}", u32::from(any))),
            (any, _) => out.push(any),
        }
    }
    out + "\""
}

proptest! {
    /// The oracle is serde_json and base64 over the whole document.
    #[test]
    fn agrees_with_a_real_parser(
        fields in prop::collection::vec(("[a-y\"\\\\ü]{0,5}", json()), 0..5),
        zip in prop::collection::vec(any::<u8>(), 0..6000),
        noise in prop::collection::vec(0u8..40, 0..50),
        place in 0usize..6,
        pretty in any::<bool>(),
        chunk in 1usize..5000,
    ) {
        let space = if pretty { " \n\t" } else { "" };
        let mut parts: Vec<String> = fields
            .iter()
            .map(|(key, value)| format!("{}{space}:{space}{value}", serde_json::json!(key)))
            .collect();
        let place = place.min(parts.len());
        parts.insert(place, format!("\"Zip\"{space}:{}", written(&zip, &noise)));
        let body = format!("{{{}}}", parts.join(&format!("{space},{space}")));
        parts[place] = "\"Zip\":\"\"".to_owned();
        let expected: serde_json::Value =
            serde_json::from_str(&format!("{{{}}}", parts.join(","))).unwrap();

        let mut filter = UploadFilter::new(1 << 20);
        let mut decoded = Vec::new();
        for part in body.as_bytes().chunks(chunk) {
            filter.feed(part, &mut decoded).unwrap();
        }
        let rest = filter.finish().unwrap();
        prop_assert_eq!(decoded, zip);
        prop_assert_eq!(serde_json::from_slice::<serde_json::Value>(&rest.json).unwrap(), expected);
    }

    /// Whatever comes, in whatever pieces: no panic, and the pieces do not matter.
    #[test]
    fn pieces_do_not_matter(
        body in "[\"\\\\{}\\[\\],:zipZaGk= /n\n]{0,200}",
        chunk in 1usize..20,
    ) {
        prop_assert_eq!(run(body.as_bytes(), chunk), run(body.as_bytes(), usize::MAX));
    }
}
