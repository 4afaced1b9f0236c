//! The frames that a handler and its worker exchange.
