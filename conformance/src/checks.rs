//! What the protocol requires of a server, one table per section. A check that needs something the server does not
//! offer is skipped, with the reason.

mod bodies;
mod classic;
mod data;
mod errors;
mod extended;
mod hello;
mod messages;
mod names;
mod secure;
mod store;
mod writers;

use crate::conn::Checked;
use crate::scene::Scene;

/// One requirement.
#[derive(Debug, Clone, Copy)]
pub struct Check {
    /// The section of PROTOCOL.md.
    pub section: &'static str,
    /// The name of the check in reports and on the command line.
    pub id: &'static str,
    /// The requirement.
    pub rule: &'static str,
    /// What the server must offer.
    pub needs: &'static [Need],
    /// The function that runs the check.
    pub run: fn(&Scene<'_>) -> Checked,
}

/// A condition for a check.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// A server that executes classic transfers, which requires that it has no secret.
    Classic,
    /// Extended commands.
    Extended,
    /// The permission to change the store.
    Change,
    /// This extended verb.
    Verb(&'static str),
    /// Directories.
    Directories,
    /// A server without a secret.
    NoSecret,
    /// A server with a secret.
    Secret,
    /// A key for it.
    Key,
    /// Several seconds; `--quick` skips the check.
    Time,
}

impl Need {
    /// Why a check can't run; `None` if the server offers what the check needs.
    #[must_use]
    pub fn missing(self, scene: &Scene<'_>, quick: bool) -> Option<String> {
        let protected = scene.is_protected();
        let missing = match self {
            Self::Classic | Self::NoSecret if protected => "the server has a secret",
            Self::Classic if !scene.transfers => "the server answers -1 to every put: it has no data connections",
            Self::Extended | Self::Change if scene.hello.is_none() => "the server has only classic commands",
            Self::Extended | Self::Change if !scene.is_admitted() => "the server requires a key (--key-file)",
            Self::Change if !scene.can_change() => "the key allows no changes",
            Self::Verb(verb) if !scene.offers(verb) => return Some(format!("the server does not offer {verb}")),
            Self::Directories if !scene.directories => "the store has no directories",
            Self::Secret if !protected => "the server has no secret",
            Self::Key if scene.target.key.is_none() => "needs a key (--key-file)",
            Self::Time if quick => "takes several seconds (--quick)",
            _ => return None,
        };
        Some(missing.into())
    }
}

/// All checks, in the order of the sections.
pub fn all() -> impl Iterator<Item = &'static Check> {
    let tables = [
        messages::CHECKS,
        names::CHECKS,
        classic::CHECKS,
        data::CHECKS,
        hello::CHECKS,
        extended::CHECKS,
        store::CHECKS,
        errors::CHECKS,
        bodies::CHECKS,
        writers::CHECKS,
        secure::CHECKS,
    ];
    tables.into_iter().flatten()
}

/// One line of a table.
const fn check(
    section: &'static str,
    id: &'static str,
    rule: &'static str,
    needs: &'static [Need],
    run: fn(&Scene<'_>) -> Checked,
) -> Check {
    Check { section, id, rule, needs, run }
}
