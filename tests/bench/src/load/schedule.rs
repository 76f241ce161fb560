//! The moments at which requests of a fixed rate are due.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe;
use tokio::sync::mpsc::UnboundedSender;

/// Sends each moment as soon as it has come, until `end` or until nobody receives.
///
/// A timer of the kernel wakes it for each request. Tokio's own timers have a resolution of one millisecond, so that all
/// requests of a millisecond would become due at once, and the load would be bursts instead of a rate.
pub(super) async fn send(sender: UnboundedSender<Instant>, rate: f64, end: Instant) -> Result<()> {
    let timer =
        TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
    let interval = TimeSpec::from_duration(Duration::from_secs_f64(1.0 / rate));
    timer.set(Expiration::Interval(interval), TimerSetTimeFlags::empty())?;
    // It is read like a pipe: the kernel sends how often it has expired. The clock says what is due.
    let mut timer = pipe::Receiver::from_owned_fd_unchecked(OwnedFd::from(timer))?;
    let begun = Instant::now();
    let mut sent = 0_u32;
    while Instant::now() < end {
        timer.read_u64().await?;
        while f64::from(sent) < begun.elapsed().as_secs_f64() * rate {
            let due = begun + Duration::from_secs_f64(f64::from(sent) / rate);
            if sender.send(due).is_err() {
                return Ok(());
            }
            sent += 1;
        }
    }
    Ok(())
}
