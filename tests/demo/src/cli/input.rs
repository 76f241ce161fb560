//! Standard input, read on a thread of its own: a read can't be cancelled, and must not keep the
//! program from ending.

use std::io::{BufRead, Read};
use std::thread;

use tokio::sync::{mpsc, oneshot};

/// The lines of standard input, until its end.
pub(super) fn lines() -> mpsc::Receiver<std::io::Result<String>> {
    let (sender, receiver) = mpsc::channel(16);
    thread::spawn(move || {
        for line in std::io::stdin().lock().lines() {
            if sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}

/// Becomes ready when standard input ends, which it does when the process that holds its other
/// end is gone.
pub(super) fn end() -> oneshot::Receiver<()> {
    let (sender, receiver) = oneshot::channel();
    thread::spawn(move || {
        let mut ignored = [0; 1024];
        let mut stdin = std::io::stdin().lock();
        loop {
            match stdin.read(&mut ignored) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // Unreadable: nobody is there to tell the end.
                Err(_) => break,
            }
        }
        // Nobody listens when the program ends anyway.
        let _: Result<(), ()> = sender.send(());
    });
    receiver
}
