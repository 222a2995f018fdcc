//! Numbers that are the same for the same seed (xorshift64).

/// See the module.
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Those of this seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        // Never 0, from which there is no way out; and near seeds are far apart.
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    /// From 0 to below `end`; 0 if that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % end.max(1)
    }

    /// From `first` to `last`, both included.
    pub fn between(&mut self, first: u64, last: u64) -> u64 {
        first + self.below(last - first + 1)
    }

    /// True once in so many times.
    pub fn one_in(&mut self, chance: u64) -> bool {
        self.below(chance) == 0
    }
}
