//! What a witness says to its operator, written by a thread of its own.
//!
//! Promises: whoever says something never waits for whoever reads it. Lines beyond [`QUEUE`] that wait are dropped and
//! counted, and the next line that is written says how many.

use std::{
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::Duration,
};

/// Lines that wait to be written.
const QUEUE: usize = 256;
/// How long the end of the witness waits for the lines that are left.
const LAST: Duration = Duration::from_secs(1);

/// Where lines are handed over.
#[derive(Debug)]
pub(crate) struct Lines {
    queue: SyncSender<String>,
    dropped: Arc<AtomicU64>,
    /// Shared, and asked at the end only.
    written: Mutex<Receiver<()>>,
}

impl Lines {
    /// Starts the thread; `write` may block. An error is a system that has no thread left.
    pub(crate) fn start(write: impl FnMut(&str) + Send + 'static) -> io::Result<Self> {
        let (queue, lines) = sync_channel(QUEUE);
        let (done, written) = sync_channel(1);
        let dropped = Arc::new(AtomicU64::new(0));
        let counted = dropped.clone();
        thread::Builder::new().name("lines".into()).spawn(move || {
            write_all(&lines, &counted, write);
            // Nobody may be waiting any more.
            let _gone = done.send(());
        })?;
        Ok(Self { queue, dropped, written: Mutex::new(written) })
    }

    /// Has a line written, or drops it.
    pub(super) fn say(&self, line: String) {
        if self.queue.try_send(line).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Ends the thread when all is written, or leaves it behind after a moment.
    pub(super) fn finish(self) {
        drop(self.queue);
        let written = self.written.into_inner().unwrap_or_else(PoisonError::into_inner);
        let _late = written.recv_timeout(LAST);
    }
}

fn write_all(lines: &Receiver<String>, dropped: &AtomicU64, mut write: impl FnMut(&str)) {
    for line in lines {
        write(&line);
        let dropped = dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            write(&format!("{dropped} lines were dropped: nobody took them in time"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn a_reader_that_stalls_holds_up_nobody_and_hears_how_much_was_dropped() {
        let (read, may_write) = channel::<()>();
        let (wrote, read_lines) = channel();
        let lines = Lines::start(move |line| {
            let _open = may_write.recv();
            wrote.send(line.to_owned()).unwrap();
        })
        .unwrap();
        // One is at the writer or in the queue.
        (0..QUEUE + 10).for_each(|n| lines.say(n.to_string()));
        drop(read);
        lines.finish();
        let told: Vec<String> = read_lines.iter().collect();
        assert_eq!(told[0], "0");
        let dropped = told.iter().find(|line| line.contains("lines were dropped")).unwrap();
        assert!(dropped.starts_with("9 ") || dropped.starts_with("10 "), "{dropped}");
        assert_eq!(told.len(), QUEUE + 2 - usize::from(dropped.starts_with("10 ")));
    }

    #[test]
    fn the_end_does_not_wait_for_a_reader_that_never_comes() {
        let (_read, may_write) = channel::<()>();
        let lines = Lines::start(move |_| {
            let _never = may_write.recv();
        })
        .unwrap();
        lines.say("one".into());
        lines.finish();
    }
}
