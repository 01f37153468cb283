//! Landlock: which files are within reach.

use std::path::{Path, PathBuf};

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetCreated,
    RulesetCreatedAttr, RulesetStatus, Scope, path_beneath_rules,
};

use crate::{JailError, Policy};

/// The newest rules asked for; an older kernel enforces those it knows, and seccomp covers the difference
/// (truncation before ABI 3, TCP before ABI 4, signals and abstract sockets before ABI 6).
const NEWEST: ABI = ABI::V7;

const LANDLOCK_CREATE_RULESET_VERSION: u32 = 1;

/// Landlock ABI of the running kernel.
pub(crate) fn kernel_abi() -> Option<u32> {
    // SAFETY: with a null attribute of size 0 and the version flag the call only returns a number.
    let abi =
        unsafe { libc::syscall(libc::SYS_landlock_create_ruleset, 0usize, 0usize, LANDLOCK_CREATE_RULESET_VERSION) };
    u32::try_from(abi).ok().filter(|&abi| abi > 0)
}

/// Rules for `policy`, opened while the process can still reach the paths.
pub(crate) fn ruleset(policy: &Policy) -> Result<RulesetCreated, JailError> {
    let reach = Reach::around(&policy.readable, &policy.hidden)?;
    build(&reach, &policy.programs, policy.writable.as_deref()).map_err(|e| JailError::Landlock(e.to_string()))
}

fn build(
    reach: &Reach,
    programs: &[PathBuf],
    writable: Option<&Path>,
) -> Result<RulesetCreated, landlock::RulesetError> {
    let read = AccessFs::ReadFile | AccessFs::ReadDir;
    let write: BitFlags<AccessFs> = read
        | AccessFs::WriteFile
        | AccessFs::Truncate
        | AccessFs::MakeReg
        | AccessFs::MakeDir
        | AccessFs::RemoveFile
        | AccessFs::RemoveDir
        | AccessFs::Refer;
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(NEWEST))?
        .handle_access(AccessNet::from_all(NEWEST))?
        .scope(Scope::from_all(NEWEST))?
        .create()?
        .add_rules(path_beneath_rules(&reach.granted, read))?
        .add_rules(path_beneath_rules(&reach.listed, AccessFs::ReadDir))?
        .add_rules(path_beneath_rules(programs, AccessFs::ReadFile | AccessFs::Execute))?
        .add_rules(path_beneath_rules(writable, write))
}

/// Puts the rules in force for this thread and its children.
pub(crate) fn enforce(ruleset: RulesetCreated) -> Result<(), JailError> {
    let status = ruleset.restrict_self().map_err(|e| JailError::Landlock(e.to_string()))?;
    match status.ruleset {
        RulesetStatus::NotEnforced => Err(JailError::NotEnforced("Landlock")),
        RulesetStatus::PartiallyEnforced | RulesetStatus::FullyEnforced => Ok(()),
    }
}

/// What to open for reading.
#[derive(Debug, Default, PartialEq)]
struct Reach {
    /// Whole trees and single files.
    granted: Vec<PathBuf>,
    /// Directories whose entries were granted one by one: they can be listed, like everything below them.
    listed: Vec<PathBuf>,
}

impl Reach {
    /// Covers `readable` but no file below `hidden`.
    ///
    /// Landlock grants whole trees and cannot take a part back, so the parents of a hidden directory are
    /// replaced by their other entries.
    fn around(readable: &[PathBuf], hidden: &[PathBuf]) -> Result<Self, JailError> {
        let failed = |source| JailError::System { step: "list a readable directory", source };
        let real = |paths: &[PathBuf]| paths.iter().filter_map(|path| path.canonicalize().ok()).collect::<Vec<_>>();
        let hidden = real(hidden);
        let mut pending = real(readable);
        let mut reach = Self::default();
        while let Some(path) = pending.pop() {
            if hidden.iter().any(|secret| path.starts_with(secret)) {
                continue;
            }
            if !hidden.iter().any(|secret| secret.starts_with(&path)) {
                reach.granted.push(path);
                continue;
            }
            for entry in path.read_dir().map_err(failed)? {
                let entry = entry.map_err(failed)?;
                match entry.file_type() {
                    Ok(kind) if kind.is_symlink() => pending.extend(entry.path().canonicalize()),
                    _ => pending.push(entry.path()), // already real, as its parent is
                }
            }
            reach.listed.push(path);
        }
        Ok(reach)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_hidden_directory_is_left_out_and_its_siblings_stay() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().canonicalize().unwrap();
        fs::create_dir_all(root.join("lib/secret/deep")).unwrap();
        fs::create_dir_all(root.join("lib/open")).unwrap();
        fs::write(root.join("lib/module.py"), "").unwrap();
        let reach = |readable: &[PathBuf], hidden: &[PathBuf]| {
            let mut reach = Reach::around(readable, hidden).unwrap();
            reach.granted.sort();
            reach.listed.sort();
            (reach.granted, reach.listed)
        };
        let lib = root.join("lib");
        let around_secret = reach(&[root.clone(), root.join("absent")], &[lib.join("secret")]);
        assert_eq!(around_secret, (vec![lib.join("module.py"), lib.join("open")], vec![root.clone(), lib.clone()]));
        assert_eq!(reach(std::slice::from_ref(&root), &[]), (vec![root.clone()], vec![]));
        assert_eq!(reach(&[lib.join("secret/deep")], &[lib]), (vec![], vec![]));
    }
}
