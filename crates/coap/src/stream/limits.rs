//! The bounds of a stream.

/// What a stream may take, each with its default.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StreamLimits {
    /// The longest message that is taken, in bytes; longer ones end the stream.
    /// Longer bodies come in blocks. 129 KiB: BERT blocks of 128 KiB.
    pub message_bytes_max: usize,
    /// The longest message that is sent to a peer that knows blocks, in bytes, even
    /// if it takes longer ones: others on the stream wait meanwhile. 129 KiB.
    pub sent_message_bytes_max: usize,
    /// Requests that run at a time for one stream; then nothing more is read of
    /// it. 16.
    pub requests_max: usize,
    /// Pings on one stream that wait for the requests before them; further ones
    /// are answered at once, without Custody. 16.
    pub custodies_max: usize,
    /// What may wait to be written on one stream, in bytes; beyond it nothing more
    /// is read and no reply taken, so it is passed by one reply at most, or by what
    /// the observers of one resource are told. 64 KiB.
    pub output_bytes_max: usize,
    /// Observers on one stream; beyond, requests are answered as if they did not ask
    /// to observe. 32.
    pub observers_max: usize,
}

impl Default for StreamLimits {
    fn default() -> StreamLimits {
        StreamLimits {
            message_bytes_max: 129 << 10,
            sent_message_bytes_max: 129 << 10,
            requests_max: 16,
            custodies_max: 16,
            output_bytes_max: 64 << 10,
            observers_max: 32,
        }
    }
}
