//! The API's description for machines: OpenAPI 3.1.
//!
//! Owns the document, which is made of the table of routes and of the very types
//! that are answered with: `UPDATE=1 cargo test -p tinyfaas-management openapi`
//! writes it anew, and a test fails while it is stale.

#[cfg(test)]
pub(super) mod description;

/// The document.
pub(super) const DOCUMENT: &str = include_str!("openapi.json");

#[cfg(test)]
pub(super) mod tests;
