//! ROOM 2: calls come in, replies go out.
