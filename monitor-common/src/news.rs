//! Which processes are told of that are no worker's: the kernel's names that rules could match. Both sides agree here on
//! what fits.

/// The length of the kernel's name of a process, with the zero at its end (`TASK_COMM_LEN` in include/linux/sched.h).
pub const NAME_LENGTH: usize = 16;

/// How many beginnings of names can be told apart; with more of them every process is told of.
pub const MOST_BEGINNINGS: usize = 32;

/// A name as two words, as both sides compare it.
pub type Name = [u64; 2];

/// The first bytes of names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Beginning {
    want: Name,
    mask: Name,
}

impl Beginning {
    /// Names that begin with `text`; what a name cannot hold of it is left out.
    #[must_use]
    pub fn of(text: &[u8]) -> Self {
        let (mut want, mut mask) = ([0; NAME_LENGTH], [0; NAME_LENGTH]);
        for (index, byte) in text.iter().take(NAME_LENGTH - 1).enumerate() {
            want[index] = *byte;
            mask[index] = 0xff;
        }
        Self { want: words(want), mask: words(mask) }
    }

    /// Whether a name begins so.
    #[inline(always)]
    #[must_use]
    pub fn fits(&self, name: Name) -> bool {
        name[0] & self.mask[0] == self.want[0] && name[1] & self.mask[1] == self.want[1]
    }
}

/// The one value of the map that says it, written by the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Wanted {
    /// Not 0: every process.
    pub everybody: u32,
    /// How many of the beginnings there are.
    pub number: u32,
    /// Names that begin so.
    pub beginnings: [Beginning; MOST_BEGINNINGS],
}

impl Wanted {
    /// Processes whose names begin with one of these; `None`, or too many of them: every process.
    #[must_use]
    pub fn new(beginnings: Option<&[&[u8]]>) -> Self {
        let mut wanted =
            Self { everybody: 1, number: 0, beginnings: [Beginning::default(); MOST_BEGINNINGS] };
        let Some(texts) = beginnings.filter(|texts| texts.len() <= MOST_BEGINNINGS) else { return wanted };
        wanted.everybody = 0;
        for (beginning, text) in wanted.beginnings.iter_mut().zip(texts) {
            *beginning = Beginning::of(text);
            wanted.number += 1;
        }
        wanted
    }
}

/// A name as the kernel stores it.
#[must_use]
pub fn words(name: [u8; NAME_LENGTH]) -> Name {
    let [a, b, c, d, e, f, g, h, rest @ ..] = name;
    [u64::from_ne_bytes([a, b, c, d, e, f, g, h]), u64::from_ne_bytes(rest)]
}

const _: () = {
    assert!(size_of::<Beginning>() == 32);
    assert!(size_of::<Wanted>() == 8 + 32 * MOST_BEGINNINGS);
    assert!(MOST_BEGINNINGS.is_power_of_two(), "programs mask indexes with it");
};

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        // What stands after the zero is left over from an earlier name.
        let mut name = [b'x'; NAME_LENGTH];
        name[..text.len()].copy_from_slice(text.as_bytes());
        name[text.len()] = 0;
        words(name)
    }

    #[test]
    fn a_name_fits_by_its_beginning_alone() {
        for (beginning, text, fits) in [
            ("ray::", "ray::f", true),
            ("ray::", "ray::", true),
            ("ray::", "ray:", false),
            ("ray::", "raylet", false),
            ("", "anything", true),
            ("dask worker [t", "dask worker [tc", true),
            ("dask worker [t", "dask worker [x", false),
            ("a-name-as-long-as-none", "a-name-as-long-", true),
        ] {
            assert_eq!(Beginning::of(beginning.as_bytes()).fits(name(text)), fits, "{beginning} {text}");
        }
    }

    #[test]
    fn too_many_beginnings_are_everybody() {
        let many = [b"a".as_slice(); MOST_BEGINNINGS + 1];
        assert_eq!(Wanted::new(Some(&many)).everybody, 1);
        assert_eq!(Wanted::new(None).everybody, 1);
        let wanted = Wanted::new(Some(&many[1..]));
        assert_eq!((wanted.everybody, wanted.number as usize), (0, MOST_BEGINNINGS));
        assert_eq!(Wanted::new(Some(&[])).number, 0, "nobody");
    }
}
