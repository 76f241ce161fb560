//! Reads standard input on a separate thread, because a blocking read can't be cancelled and would
//! keep the program from exiting.

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

/// Completes at the end of standard input, which occurs when the process at the other end of the
/// pipe exits.
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
                // An unreadable standard input counts as ended.
                Err(_) => break,
            }
        }
        // The receiver no longer exists if the program is exiting.
        let _: Result<(), ()> = sender.send(());
    });
    receiver
}
