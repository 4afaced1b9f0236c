//! What is on its way to a worker: frames of many callers, written by few.
//!
//! Owns the buffer between callers and the socket, and who of them writes. A
//! caller that finds nobody writing writes at once, its own frame and whatever
//! others add meanwhile; who finds a writer leaves its frame to it. When the
//! socket is full, one task waits for it in everybody's place. Must not know
//! what the frames mean.
//!
//! The buffer has no limit of its own: a call adds at most its head and its
//! credit before it waits for [`Outbox::written`], so the places of the handler
//! bound it.

use std::io;

use bytes::BytesMut;
use parking_lot::Mutex;
use tokio::net::UnixStream;
use tokio::sync::Notify;

/// After so many rounds a caller leaves the rest to the flusher: its own frame
/// is long gone.
const ROUNDS_MAX: usize = 4;
/// A buffer that has grown beyond this many bytes is not kept for the next round.
const KEPT_BYTES_MAX: usize = 16 << 10;

/// Frames on their way to one worker.
#[derive(Default)]
pub(super) struct Outbox {
    state: Mutex<State>,
    /// Tells the flusher that the socket is full, or that all is over.
    handed_over: Notify,
    /// Tells pumps that something was written.
    progress: Notify,
}

#[derive(Default)]
struct State {
    /// Not yet being written.
    pending: BytesMut,
    /// An empty buffer for the next round.
    spare: BytesMut,
    /// The rest of a round that the socket did not take; the flusher's.
    stuck: BytesMut,
    /// Somebody writes.
    busy: bool,
    closed: bool,
    /// Bytes ever added; of them, those the socket has taken; and those that it
    /// may have taken, since somebody is just offering them.
    added: u64,
    written: u64,
    offered: u64,
}

impl Outbox {
    /// Adds what `encode` writes and sees to it that it is written. Returns the
    /// position of its end in the stream, for [`Outbox::written`].
    ///
    /// # Errors
    /// Those of `encode`, which must then have left the buffer as it was.
    pub(super) fn send<E>(
        &self,
        socket: &UnixStream,
        encode: impl FnOnce(&mut BytesMut) -> Result<(), E>,
    ) -> Result<u64, E> {
        let (position, batch) = {
            let mut state = self.state.lock();
            if state.closed {
                return Ok(u64::MAX);
            }
            let before = state.pending.len();
            encode(&mut state.pending)?;
            state.added += (state.pending.len() - before) as u64;
            if state.busy {
                return Ok(state.added);
            }
            state.busy = true;
            (state.added, state.take_pending())
        };
        self.write_as_caller(socket, batch);
        Ok(position)
    }

    /// Whether the socket may have taken the stream up to this position.
    pub(super) fn may_have_written(&self, position: u64) -> bool {
        self.state.lock().offered >= position
    }

    /// Waits until the socket has taken the stream up to this position; false
    /// where it never will.
    pub(super) async fn written(&self, position: u64) -> bool {
        loop {
            let progress = self.progress.notified();
            tokio::pin!(progress);
            progress.as_mut().enable();
            {
                let state = self.state.lock();
                if state.closed || state.written >= position {
                    return state.written >= position;
                }
            }
            progress.await;
        }
    }

    /// Writes nothing any more.
    pub(super) fn close(&self) {
        {
            let mut state = self.state.lock();
            state.closed = true;
            (state.pending, state.spare) = (BytesMut::new(), BytesMut::new());
        }
        self.handed_over.notify_one();
        self.progress.notify_waiters();
    }

    /// Waits for the socket in everybody's place, until the outbox is closed.
    pub(super) async fn flush(&self, socket: &UnixStream) {
        loop {
            self.handed_over.notified().await;
            let mut batch = {
                let mut state = self.state.lock();
                if state.closed {
                    return;
                }
                std::mem::take(&mut state.stuck)
            };
            while let Some(next) = self.write_when_possible(socket, batch).await {
                batch = next;
            }
        }
    }

    /// Writes one round and returns the next, if there is one.
    async fn write_when_possible(&self, socket: &UnixStream, batch: BytesMut) -> Option<BytesMut> {
        let mut done = 0;
        while done < batch.len() {
            let ready = socket.writable().await;
            self.offer(batch.len() - done)?;
            match ready.and_then(|()| socket.try_write(&batch[done..])) {
                Ok(bytes) => {
                    done += bytes;
                    self.note_written(bytes);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.note_written(0),
                Err(_) => {
                    self.close();
                    return None;
                }
            }
        }
        self.next_round(batch, 0)
    }

    fn write_as_caller(&self, socket: &UnixStream, mut batch: BytesMut) {
        for _ in 0..ROUNDS_MAX {
            let mut done = 0;
            while done < batch.len() {
                match socket.try_write(&batch[done..]) {
                    Ok(bytes) => done += bytes,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        self.note_written(done);
                        return self.hand_over(batch.split_off(done));
                    }
                    // The reader sees the end of the socket too, and tells all.
                    Err(_) => return self.close(),
                }
            }
            match self.next_round(batch, done) {
                Some(next) => batch = next,
                None => return,
            }
        }
        self.note_written(0);
        self.hand_over(batch);
    }

    /// Ends a round, of which so many bytes are not yet counted as written, and
    /// starts the next. Where there is nothing to write, nobody writes any more:
    /// whoever adds the next frame does.
    fn next_round(&self, mut empty: BytesMut, written: usize) -> Option<BytesMut> {
        let mut state = self.state.lock();
        state.written += written as u64;
        let next = if state.closed {
            None
        } else {
            if empty.capacity() <= KEPT_BYTES_MAX {
                empty.clear();
                state.spare = empty;
            }
            state.busy = !state.pending.is_empty();
            state.busy.then(|| state.take_pending())
        };
        drop(state);
        self.progress.notify_waiters();
        next
    }

    /// So many bytes are about to be offered to the socket; `None` where the
    /// outbox is closed.
    fn offer(&self, bytes: usize) -> Option<()> {
        let mut state = self.state.lock();
        if state.closed {
            return None;
        }
        state.offered = state.written + bytes as u64;
        Some(())
    }

    /// Counts bytes as written; what else was offered was not taken.
    fn note_written(&self, bytes: usize) {
        {
            let mut state = self.state.lock();
            state.written += bytes as u64;
            state.offered = state.written;
        }
        self.progress.notify_waiters();
    }

    /// Leaves the rest of a round to the flusher.
    fn hand_over(&self, rest: BytesMut) {
        self.state.lock().stuck = rest;
        self.handed_over.notify_one();
    }
}

impl State {
    fn take_pending(&mut self) -> BytesMut {
        self.offered = self.added;
        let spare = std::mem::take(&mut self.spare);
        std::mem::replace(&mut self.pending, spare)
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;

    use bytes::BufMut;
    use tokio::io::AsyncReadExt;

    use super::*;

    fn send(outbox: &Outbox, socket: &UnixStream, bytes: &[u8]) -> u64 {
        let encode = |out: &mut BytesMut| {
            out.put_slice(bytes);
            Ok::<_, Infallible>(())
        };
        outbox.send(socket, encode).unwrap()
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 4)]
    async fn everything_is_written_once_and_each_senders_bytes_in_order() {
        const SENDERS: u8 = 8;
        const ROUNDS: usize = 200;
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let (outbox, ours) = (Arc::new(Outbox::default()), Arc::new(ours));
        let flusher = tokio::spawn({
            let (outbox, ours) = (Arc::clone(&outbox), Arc::clone(&ours));
            async move { outbox.flush(&ours).await }
        });
        for sender in 0..SENDERS {
            let (outbox, ours) = (Arc::clone(&outbox), Arc::clone(&ours));
            tokio::spawn(async move {
                for round in 0..ROUNDS {
                    // Big enough to fill the socket again and again.
                    let mut part = vec![sender; 4096];
                    part[1..9].copy_from_slice(&round.to_le_bytes());
                    let position = send(&outbox, &ours, &part);
                    assert!(outbox.written(position).await);
                    assert!(outbox.may_have_written(position));
                }
            });
        }
        let (mut part, mut next) = ([0; 4096], [0; SENDERS as usize]);
        for _ in 0..ROUNDS * usize::from(SENDERS) {
            theirs.read_exact(&mut part).await.unwrap();
            let round = usize::from_le_bytes(part[1..9].try_into().unwrap());
            let expected = &mut next[usize::from(part[0])];
            assert_eq!(round, *expected, "sender {}", part[0]);
            *expected += 1;
        }
        outbox.close();
        flusher.await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_for_a_socket_that_is_gone_is_let_go() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let outbox = Outbox::default();
        let position = send(&outbox, &ours, &vec![0; 8 << 20]);
        drop(theirs);
        let ((), written) = tokio::join!(outbox.flush(&ours), outbox.written(position));
        assert!(!written);
        assert_eq!(send(&outbox, &ours, b"x"), u64::MAX);
    }
}
