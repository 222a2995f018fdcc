//! What the metrics say of raylets (docs/ray.md): how many there are, and whether those whose kills are left to them still
//! read what they are shown. One number for all: the oldest receipt.

use std::time::Duration;

use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::gauge;
use crate::ray::RayletView;

/// Adds them, if raylets are looked for.
pub(super) fn register(all: &mut Registry, views: Option<&[RayletView]>) {
    let Some(views) = views else { return };
    let attached = || views.iter().filter(|view| view.attached);
    all.register("raylets", "Raylets on this machine", gauge(views.len() as u64));
    let help = "Of them those that read this agent's files, so that their kills are left to them";
    all.register("raylets_attached", help, gauge(attached().count() as u64));
    if let Some(oldest) = attached().filter_map(|view| view.last_receipt_ms).max() {
        let help = "How long ago the raylet that is furthest behind read this agent's files";
        let age = ConstGauge::new(Duration::from_millis(oldest).as_secs_f64());
        all.register_with_unit("raylet_receipt_age", help, Unit::Seconds, age);
    }
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;
    use crate::units::Pid;

    fn view(attached: bool, last_receipt_ms: Option<u64>) -> RayletView {
        RayletView {
            pid: Pid(1),
            uid: 0,
            node: None,
            session: None,
            attached,
            why: None,
            reads: None,
            refresh_ms: None,
            threshold: None,
            total: None,
            by_group: None,
            asked_as: None,
            last_receipt_ms,
            last_pulse_ms: None,
            pulses: 0,
            receipts: 0,
        }
    }

    fn text(views: Option<&[RayletView]>) -> String {
        let (mut all, mut out) = (Registry::default(), String::new());
        register(&mut all, views);
        encode(&mut out, &all).unwrap();
        out
    }

    #[test]
    fn the_oldest_receipt_of_those_attached_is_shown_and_nothing_where_none_is_looked_for() {
        let said = text(Some(&[view(true, Some(90)), view(true, Some(1500)), view(false, Some(60_000))]));
        for line in ["raylets 3\n", "raylets_attached 2\n", "raylet_receipt_age_seconds 1.5\n"] {
            assert!(said.contains(line), "{line}: {said}");
        }
        assert!(!text(Some(&[view(false, None)])).contains("receipt_age_seconds "));
        assert_eq!(text(None), "# EOF\n");
    }
}
