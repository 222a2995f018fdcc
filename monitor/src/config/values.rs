//! The values a setting can have where the standard library has no type for them: one enum for each choice.
//! Names only; what a choice means is decided by the code that reads it.

pub use crate::admission::Admission;
pub use crate::engine::UnhelpfulKills;
pub use crate::policy::{OwnerTieBreak, PolicyName};
pub use crate::rules::Mode;

/// Read if it exists and neither `--config` nor [`FILE_ENV`] names another.
pub const DEFAULT_FILE: &str = "/etc/monitor/monitor.toml";

/// The variable that names the file.
pub const FILE_ENV: &str = "MONITOR_CONFIG";

/// An enum with variants that are written as fixed words in flags, environment, file and output.
pub trait Choice: Copy + Eq + 'static {
    /// Every variant with its word, in the order in which help lists them.
    const ALL: &'static [(Self, &'static str)];

    /// The word of this variant.
    fn word(self) -> &'static str {
        Self::ALL.iter().find(|(variant, _)| *variant == self).map_or("", |(_, word)| word)
    }
}

macro_rules! choice {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $name { $($(#[$variant_doc])* $variant,)* }

        impl Choice for $name {
            const ALL: &'static [(Self, &'static str)] = &[$((Self::$variant, $word),)*];
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.word())
            }
        }
    };
}

impl Choice for PolicyName {
    const ALL: &'static [(Self, &'static str)] = &[
        (Self::GroupByOwner, Self::GroupByOwner.as_str()),
        (Self::RetriableLifo, Self::RetriableLifo.as_str()),
        (Self::RetriableFifo, Self::RetriableFifo.as_str()),
        (Self::ByTime, Self::ByTime.as_str()),
        (Self::ByMemory, Self::ByMemory.as_str()),
    ];
}

impl Choice for UnhelpfulKills {
    const ALL: &'static [(Self, &'static str)] =
        &[(Self::Kill, "kill"), (Self::Skip, "skip"), (Self::Auto, "auto")];
}

impl Choice for Admission {
    const ALL: &'static [(Self, &'static str)] =
        &[(Self::Off, "off"), (Self::Retries, "retries"), (Self::All, "all")];
}

impl Choice for Mode {
    const ALL: &'static [(Self, &'static str)] =
        &[(Self::Observe, Self::Observe.as_str()), (Self::Enforce, Self::Enforce.as_str())];
}

impl Choice for OwnerTieBreak {
    const ALL: &'static [(Self, &'static str)] = &[(Self::Newest, "newest"), (Self::Oldest, "oldest")];
}

choice! {
    /// Whether the kernel side stops a registered worker that allocates at the line.
    BrakeMode {
        /// Nothing is paused.
        Off = "off",
        /// Workers that allocate over the line are paused until the agent has decided.
        On = "on",
    }
}

choice! {
    /// What the agent does about a domain above its threshold.
    AgentMode {
        /// It kills.
        Enforce = "enforce",
        /// It decides and reports, and kills nobody.
        Observe = "observe",
        /// It reads and answers, and decides nothing.
        Off = "off",
    }
}

choice! {
    /// When the hot kernel hooks are attached.
    GearChoice {
        /// Only while a domain could reach its threshold before the next reading.
        Auto = "auto",
        /// Always.
        Near = "near",
    }
}

choice! {
    /// How the agent writes its log.
    LogForm {
        /// Sentences.
        Human = "human",
        /// One JSON object a line.
        Json = "json",
    }
}

choice! {
    /// Where usage deltas come from.
    ProbeChoice {
        /// `rss_stat` if this kernel has it, else `memcg`, else `poll`; with the brake `memcg` first.
        Auto = "auto",
        /// The tracepoint `memcg:mod_memcg_lruvec_state`: exact, dearer.
        Memcg = "memcg",
        /// The tracepoint `kmem:rss_stat`: in steps, cheap.
        RssStat = "rss_stat",
        /// The function `page_counter_try_charge`: many pages at a time, the cheapest, where the kernel allows it.
        Charge = "charge",
        /// No deltas: authoritative readings only.
        Poll = "poll",
    }
}
