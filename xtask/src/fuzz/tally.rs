//! What libFuzzer says on stderr, as numbers.

/// What came of a run.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Tally {
    /// How many inputs were tried.
    pub(super) executions: u64,
    /// How many of the first ones were worth keeping: seeds of the repository, and what earlier runs found.
    pub(super) seeds: u64,
    /// How many are at the end.
    pub(super) corpus: u64,
    /// Edges reached.
    pub(super) coverage: u64,
    /// The file with the input that shows a fault.
    pub(super) crash: Option<String>,
}

impl Tally {
    /// Reads lines as `#1024 INITED cov: 53 ft: 54 corp: 3/195b exec/s: 0 rss: 35Mb`, the last of which count, the
    /// final statistics, and `Test unit written to FILE`.
    pub(super) fn read(said: &str) -> Self {
        let mut tally = Self::default();
        for line in said.lines() {
            if let Some(number) = line.strip_prefix("stat::number_of_executed_units:") {
                tally.executions = number.trim().parse().unwrap_or(tally.executions);
            } else if let Some((_, file)) = line.split_once("Test unit written to ") {
                tally.crash = Some(file.trim().to_owned());
            } else if let Some(progress) = line.strip_prefix('#') {
                tally.progress(progress);
            }
        }
        tally
    }

    fn progress(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let after = |key: &str| {
            let value = words.iter().skip_while(|word| **word != key).nth(1)?;
            value.split('/').next()?.parse::<u64>().ok()
        };
        let executed = words.first().and_then(|number| number.trim_end_matches(':').parse().ok());
        self.executions = executed.unwrap_or(self.executions);
        self.coverage = after("cov:").unwrap_or(self.coverage);
        self.corpus = after("corp:").unwrap_or(self.corpus);
        if words.contains(&"INITED") {
            self.seeds = self.corpus;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Tally;

    #[test]
    fn what_libfuzzer_says_is_read() {
        let said = "INFO: seed corpus: files: 3\n\
            #4\tINITED cov: 53 ft: 54 corp: 3/195b exec/s: 0 rss: 35Mb\n\
            #1024\tNEW    cov: 60 ft: 61 corp: 5/300b lim: 64 exec/s: 0 rss: 36Mb L: 2/2 MS: 1 CopyPart-\n\
            Done 4711 runs in 21 second(s)\n\
            stat::number_of_executed_units: 4711\n";
        let expected = Tally { executions: 4711, seeds: 3, corpus: 5, coverage: 60, crash: None };
        assert_eq!(Tally::read(said), expected);
        let said = "#7\tINITED cov: 1 ft: 1 corp: 2/9b\n==1== ERROR: libFuzzer: deadly signal\n\
            artifact_prefix='a/'; Test unit written to /w/fuzz/artifacts/btf/crash-adc8\n";
        let tally = Tally::read(said);
        assert_eq!(tally.crash.as_deref(), Some("/w/fuzz/artifacts/btf/crash-adc8"));
        assert_eq!((tally.executions, tally.corpus), (7, 2));
    }
}
