//! A door for the fuzz targets, there only in their builds.

use crate::head;

/// What a script prints before its reply's body: a head that is found is the same
/// whatever follows it.
pub fn cgi_head(data: &[u8]) {
    if let Ok(Some((head, length))) = head::parse(data) {
        assert!(length <= data.len());
        let (again, same) =
            head::parse(&data[..length]).expect("it was one before").expect("its end is there");
        assert_eq!((again, same), (head, length));
    }
}
