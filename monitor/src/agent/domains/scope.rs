//! What the agent was told to guard: the node or not, and the cgroups that were named, those among them that it waits
//! for included. It opens nothing: `domains` and `limits` do.

use std::collections::BTreeMap;

use crate::engine::DomainView;
use crate::memory::CgroupPath;

/// See the module.
#[derive(Debug, Default)]
pub(in crate::agent) struct Scope {
    /// The node, and with it every cgroup with a limit that a worker is in.
    node: bool,
    /// Everything inside these too.
    named: Vec<CgroupPath>,
    /// Those of them that are not guarded yet, and why not.
    awaited: BTreeMap<CgroupPath, String>,
}

impl Scope {
    pub(in crate::agent) fn new(node: bool) -> Self {
        Self { node, ..Self::default() }
    }

    /// Whether the node is to be guarded.
    pub(in crate::agent) fn has_node(&self) -> bool {
        self.node
    }

    /// A cgroup was named.
    pub(in crate::agent) fn name(&mut self, path: &CgroupPath) {
        if !self.named.contains(path) {
            self.named.push(path.clone());
        }
    }

    /// Whether a cgroup with a limit is guarded when a worker is in it.
    pub(in crate::agent) fn covers(&self, path: &CgroupPath) -> bool {
        self.node || self.named.iter().any(|named| named.contains(path))
    }

    /// A named cgroup can't be guarded now. Whether that is news.
    pub(in crate::agent) fn wait_for(&mut self, path: &CgroupPath, why: String) -> bool {
        self.awaited.insert(path.clone(), why.clone()) != Some(why)
    }

    /// A named cgroup is guarded now.
    pub(in crate::agent) fn found(&mut self, path: &CgroupPath) {
        self.awaited.remove(path);
    }

    /// The named cgroups that are not guarded yet.
    pub(in crate::agent) fn awaited(&self) -> Vec<CgroupPath> {
        self.awaited.keys().cloned().collect()
    }

    /// They as `status` shows them: nothing is known of them.
    pub(in crate::agent) fn awaited_views(&self) -> impl Iterator<Item = DomainView> + '_ {
        self.awaited.iter().map(|(path, why)| DomainView {
            domain: format!("cgroup:{path}"),
            error: Some(format!("{why}; it is guarded as soon as it can be")),
            ..DomainView::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> CgroupPath {
        text.parse().unwrap()
    }

    #[test]
    fn limits_are_guarded_inside_what_was_named_and_everywhere_on_a_guarded_node() {
        let mut scope = Scope::new(false);
        assert!(!scope.covers(&path("/a")));
        scope.name(&path("/a"));
        assert!(scope.covers(&path("/a")) && scope.covers(&path("/a/b/c")));
        assert!(!scope.covers(&path("/ab")) && !scope.covers(&path("/")) && !scope.covers(&path("/b")));
        assert!(Scope::new(true).covers(&path("/b")));
    }

    #[test]
    fn who_is_waited_for_is_shown_and_said_once() {
        let mut scope = Scope::new(false);
        assert!(scope.wait_for(&path("/a"), "no such cgroup".to_owned()));
        assert!(!scope.wait_for(&path("/a"), "no such cgroup".to_owned()), "no news");
        assert!(scope.wait_for(&path("/a"), "permission denied".to_owned()));
        let shown: Vec<DomainView> = scope.awaited_views().collect();
        assert_eq!(shown[0].domain, "cgroup:/a");
        assert!(shown[0].error.as_ref().unwrap().starts_with("permission denied; "));
        assert_eq!((shown[0].total, shown[0].above), (None, None), "unknown is not 0");
        scope.found(&path("/a"));
        assert_eq!((scope.awaited(), scope.awaited_views().count()), (vec![], 0));
    }
}
