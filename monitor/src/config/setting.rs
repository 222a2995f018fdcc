//! What a setting is: its names, its sentence, and its field behind a form. The rows are in the table.

use serde_json::Value as Json;

use crate::config::Config;
use crate::config::error::Refusal;
use crate::config::form::{Form, Shape};
use crate::config::source::Given;

/// What one of Ray's variables means to us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RayMeaning {
    /// The same values as ours.
    Same,
    /// Yes is `group_by_owner`, no is `by_time` (Ray 2.56 and newer).
    PolicyByGroup,
}

/// One of Ray's variables that sets the same thing, as `RAY_CONFIG` of Ray's `src/ray/common/ray_config_def.h`
/// names it.
#[derive(Debug, Clone, Copy)]
pub struct RayName {
    /// With the prefix `RAY_`.
    pub name: &'static str,
    /// How its value is read.
    pub meaning: RayMeaning,
}

/// One setting.
pub struct Setting {
    /// In the file and in output.
    pub key: &'static str,
    /// The flag without its dashes.
    pub flag: &'static str,
    /// Our variable.
    pub env: &'static str,
    /// Ray's, the first that is set counts.
    pub ray: &'static [RayName],
    /// One sentence or more: what it does, with a link where there is more to say.
    pub doc: &'static str,
    /// Reads into, and shows, the field of [`Config`].
    pub(super) field: &'static dyn Field,
}

impl Setting {
    /// What is allowed, as messages and help say it.
    #[must_use]
    pub fn range(&self) -> String {
        self.field.range()
    }
}

impl std::fmt::Debug for Setting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Setting").field(&self.key).finish()
    }
}

/// A field of [`Config`] together with its form, whatever its type.
pub(super) trait Field: Sync {
    /// How its flag is written.
    fn shape(&self) -> Shape;
    /// What is allowed.
    fn range(&self) -> String;
    /// The words that it takes, where it takes only those.
    fn words(&self) -> Vec<&'static str>;
    /// Reads `given` into the field.
    ///
    /// # Errors
    ///
    /// Why `given` is not taken; the field is left as it was.
    fn set(&self, config: &mut Config, given: &Given) -> Result<(), Refusal>;
    /// The field for programs.
    fn json(&self, config: &Config) -> Json;
    /// The field for people.
    fn text(&self, config: &Config) -> String;
}

/// The [`Field`] that a form and two projections make.
pub(super) struct At<F: Form> {
    pub(super) form: F,
    pub(super) get: fn(&Config) -> &F::Value,
    pub(super) get_mut: fn(&mut Config) -> &mut F::Value,
}

impl<F: Form> Field for At<F> {
    fn shape(&self) -> Shape {
        self.form.shape()
    }

    fn range(&self) -> String {
        self.form.range()
    }

    fn words(&self) -> Vec<&'static str> {
        self.form.words()
    }

    fn set(&self, config: &mut Config, given: &Given) -> Result<(), Refusal> {
        *(self.get_mut)(config) = self.form.read(given)?;
        Ok(())
    }

    fn json(&self, config: &Config) -> Json {
        self.form.json((self.get)(config))
    }

    fn text(&self, config: &Config) -> String {
        self.form.text((self.get)(config))
    }
}
