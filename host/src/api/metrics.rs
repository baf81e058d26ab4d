//! What was measured, as Prometheus reads it.

use std::fmt::Write;

use order_saga::OrderStatus;

use super::State;

/// Everything that was recorded, and what waits in the store at this moment.
///
/// A store that does not answer costs its own lines only: `saga_store_up` is then 0.
pub(super) async fn render(state: &State) -> String {
    let mut text = state.metrics.render();
    let (backlog, orders) = tokio::join!(state.store.backlog(), state.orders.count());
    let up = backlog.is_ok() && orders.is_ok();
    gauge(&mut text, "saga_store_up", "Whether the store answers.", f64::from(u8::from(up)));
    if let Ok(backlog) = backlog {
        let now = state.now();
        let since = |at: Option<chrono::DateTime<chrono::Utc>>| {
            at.map_or(0.0, |at| (now - at).num_milliseconds().max(0) as f64 / 1000.0)
        };
        for (name, help, value) in [
            ("saga_outbox_rows", "Messages that wait to be sent.", backlog.outbox as f64),
            ("saga_outbox_lag_seconds", "How long the oldest of them has waited.", since(backlog.oldest_outbox)),
            ("saga_timers", "Timers and redeliveries that wait.", backlog.timers as f64),
            ("saga_timer_lag_seconds", "How long the earliest of them has been due.", since(backlog.next_due)),
            ("saga_dead_letters", "Dead letters that were not redriven.", backlog.dead_letters as f64),
        ] {
            gauge(&mut text, name, help, value);
        }
    }
    if let Ok(counts) = orders {
        head(&mut text, "orders", "Orders, by status.");
        for status in OrderStatus::ALL {
            let count = counts.iter().find(|(it, _)| *it == status).map_or(0, |(_, count)| *count);
            let _ = writeln!(text, "orders{{status=\"{}\"}} {count}", status.name());
        }
    }
    text
}

fn gauge(text: &mut String, name: &str, help: &str, value: f64) {
    head(text, name, help);
    let _ = writeln!(text, "{name} {value}");
}

fn head(text: &mut String, name: &str, help: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} gauge");
}
