//! `queuebench profiles`: the built-in profiles, to list, print and check.

use std::path::PathBuf;

use clap::Subcommand;

use super::{Usage, print};
use crate::exit::Exit;
use crate::profile::{Profile, builtin};
use crate::units::Span;

/// The built-in profiles.
#[derive(Debug, Subcommand)]
pub(super) enum Profiles {
    /// Name, length and purpose of each
    List,
    /// The text of one, to change and to pass as --profile FILE
    Show {
        /// A built-in profile
        name: String,
    },
    /// Whether a file is a profile, and if not, why
    Check {
        /// The file
        file: PathBuf,
    },
}

impl Profiles {
    pub(super) fn run(self) -> anyhow::Result<Exit> {
        match self {
            Self::List => {
                for name in builtin::names() {
                    let profile = Profile::load(name)?;
                    let length = Span(profile.planned_duration());
                    let purpose = profile.description.unwrap_or_default();
                    print(&format!("{name:16} {:>8} × {}  {purpose}", length.to_string(), profile.trials));
                }
            }
            Self::Show { name } => {
                let known: Vec<_> = builtin::names().collect();
                let text = builtin::text(&name).ok_or_else(|| {
                    Usage(format!("`{name}` is no built-in profile; there are {}", known.join(", ")))
                })?;
                print(text);
            }
            Self::Check { file } => {
                let profile = Profile::load(&file.display().to_string())?;
                print(&format!("{} is a profile: {}", file.display(), profile.name));
            }
        }
        Ok(Exit::Done)
    }
}
