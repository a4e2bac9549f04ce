//! Stopping when told to.

use tokio_util::sync::CancellationToken;

/// Cancels `stop` at the first SIGTERM or Ctrl-C from now on; a second one ends the process as if it were
/// killed, which nothing minds.
pub fn on_signal(stop: CancellationToken) {
    // Here and not in the task, which begins at some time: until then a signal ends the process at once.
    let mut signals = Signals::listen();
    tokio::spawn(async move {
        signals.next().await;
        stop.cancel();
        signals.next().await;
        std::process::exit(130);
    });
}

#[cfg(unix)]
struct Signals(Vec<tokio::signal::unix::Signal>);

#[cfg(unix)]
impl Signals {
    fn listen() -> Self {
        use tokio::signal::unix::{SignalKind, signal};
        let signals = [SignalKind::terminate(), SignalKind::interrupt()].map(signal);
        let heard = signals.into_iter().filter_map(|signal| {
            signal.inspect_err(|error| tracing::warn!(%error, "a signal cannot be waited for")).ok()
        });
        Self(heard.collect())
    }

    async fn next(&mut self) {
        std::future::poll_fn(|cx| {
            match self.0.iter_mut().any(|signal| signal.poll_recv(cx).is_ready()) {
                true => std::task::Poll::Ready(()),
                false => std::task::Poll::Pending,
            }
        })
        .await;
    }
}

#[cfg(not(unix))]
struct Signals;

#[cfg(not(unix))]
impl Signals {
    fn listen() -> Self {
        Self
    }

    async fn next(&mut self) {
        let _ = tokio::signal::ctrl_c().await;
    }
}
