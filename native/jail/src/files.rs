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
    let readable = open_around(&policy.readable, &policy.hidden)?;
    build(&readable, policy.writable.as_deref()).map_err(|e| JailError::Landlock(e.to_string()))
}

fn build(readable: &[PathBuf], writable: Option<&Path>) -> Result<RulesetCreated, landlock::RulesetError> {
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
        .add_rules(path_beneath_rules(readable, read))?
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

/// Paths that cover `readable` but nothing below `hidden`.
///
/// Landlock grants whole trees and cannot take a part back, so the parents of a hidden directory are
/// replaced by their other entries.
fn open_around(readable: &[PathBuf], hidden: &[PathBuf]) -> Result<Vec<PathBuf>, JailError> {
    let hidden: Vec<PathBuf> = hidden.iter().filter_map(|path| path.canonicalize().ok()).collect();
    let mut granted = Vec::new();
    let mut pending: Vec<PathBuf> = readable.iter().filter_map(|path| path.canonicalize().ok()).collect();
    while let Some(path) = pending.pop() {
        if hidden.iter().any(|secret| path.starts_with(secret)) {
            continue;
        }
        if !hidden.iter().any(|secret| secret.starts_with(&path)) {
            granted.push(path);
            continue;
        }
        let entries =
            path.read_dir().map_err(|source| JailError::System { step: "list a readable directory", source })?;
        for entry in entries {
            let entry = entry.map_err(|source| JailError::System { step: "list a readable directory", source })?;
            pending.extend(entry.path().canonicalize());
        }
    }
    Ok(granted)
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
        let mut granted = open_around(&[root.clone(), root.join("absent")], &[root.join("lib/secret")]).unwrap();
        granted.sort();
        assert_eq!(granted, [root.join("lib/module.py"), root.join("lib/open")]);
        assert_eq!(open_around(std::slice::from_ref(&root), &[]).unwrap(), std::slice::from_ref(&root));
        assert_eq!(open_around(&[root.join("lib/secret/deep")], &[root.join("lib")]).unwrap(), [] as [PathBuf; 0]);
    }
}
