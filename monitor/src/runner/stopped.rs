//! Which of the command's processes the agent's brake holds, as the agent tells, so that none stays paused if the
//! agent and its releaser die at once. Resumes them when the agent is lost, and does nothing else.

use std::collections::HashMap;

use rustix::process::Signal;

use crate::kill::Process;
use crate::units::Pid;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Stopped(HashMap<Pid, Process>);

impl Stopped {
    /// The agent says that this process is held, or is no more.
    pub(super) fn note(&mut self, pid: Pid, held: bool) {
        if !held {
            self.0.remove(&pid);
        } else if let Ok(process) = Process::open_unchecked(pid) {
            // Opened while it is held: what it names later is this process. One that is gone needs nobody.
            self.0.insert(pid, process);
        }
    }

    /// The agent is gone, and perhaps the releaser too. To be called again a while later: an agent's
    /// sockets close before its kernel programs are gone, and those may stop a process once more.
    pub(super) fn let_go(&self) {
        for process in self.0.values() {
            // Gone, or of another user by now: nothing else can be tried.
            let _ = process.signal(Signal::CONT);
        }
    }

    /// Another agent tells now which processes are paused, or the command is over.
    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::process::{Child, Command};

    use rustix::process::{WaitId, WaitIdOptions, waitid};

    use super::*;

    struct Sleeper(Child);

    impl Drop for Sleeper {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    impl Sleeper {
        fn stopped() -> Self {
            let sleeper = Self(Command::new("sleep").arg("600").spawn().unwrap());
            Process::open_unchecked(sleeper.pid()).unwrap().signal(Signal::STOP).unwrap();
            sleeper.await_change(WaitIdOptions::STOPPED);
            sleeper
        }

        fn pid(&self) -> Pid {
            Pid(self.0.id())
        }

        fn await_change(&self, what: WaitIdOptions) {
            let pid = rustix::process::Pid::from_raw(i32::try_from(self.0.id()).unwrap()).unwrap();
            waitid(WaitId::Pid(pid), what).unwrap().unwrap();
        }
    }

    #[test]
    fn who_is_held_goes_on_and_who_is_held_no_more_is_left_alone() {
        let [held, former] = [Sleeper::stopped(), Sleeper::stopped()];
        let mut list = Stopped::default();
        [held.pid(), former.pid()].into_iter().for_each(|pid| list.note(pid, true));
        list.note(former.pid(), false);
        list.let_go();
        held.await_change(WaitIdOptions::CONTINUED);
        let state = crate::proc_stat::Stat::of(std::path::Path::new("/proc"), former.pid()).unwrap().state;
        assert_eq!(char::from(state), 'T', "its user stopped it");
    }
}
