//! Configuration that was read again takes effect: in one turn, between two records. Workers, kills in flight and
//! paused processes stay as they are.

use super::{Components, Shell};
use crate::agent::event_loop::later::Again;
use crate::agent::reload;
use crate::config::Resolved;
use crate::control::answers::Reloaded;
use crate::control::protocol::{Refusal, RefusalCode};
use crate::control::request::{Peer, Reply};
use crate::engine::Event;
use crate::rules::Rules;

impl Shell {
    /// A signal or a caller wants the configuration read again.
    pub(in crate::agent) fn reload(&mut self, asked: Option<(Peer, Reply)>) {
        if let Some((peer, _)) = &asked
            && peer.uid != 0
            && peer.uid != rustix::process::geteuid().as_raw()
        {
            let message = "only root and the agent's own user may reload its configuration".to_owned();
            if let Some((_, reply)) = asked {
                // A client that went away needs no answer.
                let _ = reply.send(Err(Refusal::new(RefusalCode::Denied, None, message)));
            }
            return;
        }
        reload::begin(self.parts.api.flags(), asked, self.parts.reports.to_loop());
    }

    /// It was read.
    pub(super) fn reloaded(&mut self, again: Again) {
        let Again { read, asked } = again;
        let done = read.and_then(|(resolved, rules)| self.take_effect(&resolved, rules));
        match &done {
            Ok(Reloaded { applied, needs_restart, overridden, unchanged }) => {
                let list =
                    |keys: &[String]| if keys.is_empty() { "none".to_owned() } else { keys.join(", ") };
                tracing::info!(
                    "configuration read again: applied {}; after a restart {}; {unchanged} unchanged",
                    list(applied),
                    list(needs_restart)
                );
                for why in overridden {
                    tracing::info!("not in force: {why}");
                }
            }
            Err(why) => {
                tracing::error!("the new configuration was refused, and the old one stays in force: {why}")
            }
        }
        let Some((peer, reply)) = asked else { return };
        let answer = done.map_err(|why| Refusal::new(RefusalCode::Invalid, None, why));
        let shown = answer.and_then(|reloaded| self.viewer(peer.uid).show(reloaded));
        // A client that went away needs no answer.
        let _ = reply.send(shown.map(crate::agent::visible::Shown::into_text));
    }

    /// All of it or nothing.
    fn take_effect(&mut self, resolved: &Resolved, rules: Rules) -> Result<Reloaded, String> {
        let (old, new) = (self.parts.api.settings(), resolved.shown());
        let mut reloaded = reload::compare(&old, &new);
        reloaded.overridden = resolved.overridden();
        let settings = reload::settings(&resolved.config, self.engine.settings());
        if let Some(total) = self.parts.domains.node_total() {
            settings.threshold().check_node(total).map_err(|error| error.to_string())?;
        }
        // An agent inside a `monitor run` has none.
        if !self.parts.previous_agent.is_in_process() && !self.parts.rules.has(&rules) {
            self.parts.rules.replace(rules);
            self.follow_rules();
            reloaded.applied.push("the rules".to_owned());
        }
        self.parts.api.set_settings(reload::in_force(old, new));
        self.parts.reports.set_summary_interval(resolved.config.summary_interval);
        if settings != *self.engine.settings() {
            // What the old watchdog did is reported with this event; the new one knows the new threshold.
            self.happen(Event::Settings(settings));
            self.renew_watchdog();
        }
        Ok(reloaded)
    }

    fn renew_watchdog(&mut self) {
        let Components { watchdog, domains, .. } = &mut self.parts;
        if let Err(error) = watchdog.renew(self.engine.settings(), domains.roots()) {
            tracing::warn!(%error, "the watchdog keeps the old threshold");
        }
        self.nominate();
    }
}
