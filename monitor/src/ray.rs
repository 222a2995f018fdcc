//! A real Ray: its raylets are found, their memory monitors see files of ours, and a kill is asked for by one reading above
//! their line. The engine decides when to ask; the raylet decides which worker dies. See docs/ray.md.
//!
//! Two processes: the agent, which writes the files and knows which raylets read them (`feeder`), and a helper
//! (`helper`), the only one that enters mount namespaces. The helper takes the files away when the agent is gone or
//! silent.

mod attached;
mod clock;
mod enter;
mod fanotify;
mod feed;
mod feeder;
mod helper;
mod link;
mod mountinfo;
mod namespace;
mod news;
mod raylets;
mod run;
mod scope;
mod settings;
mod status;
mod view;
mod wire;

pub(crate) use self::enter::{Arguments as EnterArguments, SUBCOMMAND as ENTER, run as enter};
pub(crate) use self::feeder::Feeder;
pub(crate) use self::helper::{SUBCOMMAND as HELPER, run as help};
pub use self::namespace::{NamespaceError, own_mount_namespace};
pub(crate) use self::news::{News, Reads};
pub(crate) use self::run::run_in_namespace;
pub(crate) use self::scope::Scope;
pub use self::status::RayletView;
