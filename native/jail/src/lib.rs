//! Confines the calling process before it runs code nobody has read.
//!
//! [`confine`] is one way and fails closed: on an error the caller must exit. After it the process
//! reads only what [`Policy::readable`] names, writes only below [`Policy::writable`], has no network,
//! starts no program but [`Policy::programs`] and no process but [`Policy::processes`], signals nobody, traces nobody and dies with its parent. The layers overlap on
//! purpose: an attack has to pass all that apply to it.
//!
//! | layer | stops |
//! |---|---|
//! | resource limits | memory, processor seconds, file size, open files, threads |
//! | a fresh uid without capabilities (when started as root) | everything that file modes guard |
//! | Landlock | every file outside the policy; signals and abstract sockets on ABI ≥ 6 |
//! | seccomp allow-list | every system call that Python's standard library does not need for computing |
//!
//! One pid is one process where `fork` is refused: a SIGKILL from outside ends everything. Where it is
//! granted, all processes stay in one group, because leaving it is refused: a SIGKILL to the group does.

#![expect(unsafe_code, reason = "limits, uids and filters are raw system calls")]

mod error;
mod policy;

pub use error::JailError;
pub use policy::{Policy, Report, Support};

#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod syscalls;

/// What this kernel offers, without changing anything.
#[cfg(target_os = "linux")]
pub fn support() -> Support {
    Support { landlock_abi: files::kernel_abi(), seccomp: syscalls::available() }
}

/// Confines the calling process for good.
///
/// # Errors
/// Any step that the kernel refuses, a process with more than one thread, a parent that is already
/// gone, or a probe after the fact that got through. The process may then be half confined: exit.
#[cfg(target_os = "linux")]
pub fn confine(policy: &Policy) -> Result<Report, JailError> {
    let landlock_abi = files::kernel_abi().ok_or(JailError::NotEnforced("Landlock"))?;
    process::require_single_thread()?;
    process::leave_session()?;
    process::close_files_except(&policy.keep)?;
    process::enter_directory(policy.writable.as_deref())?;
    let ruleset = files::ruleset(policy)?;
    process::limit(policy)?;
    let uid = process::drop_privileges(policy.writable.as_deref())?;
    process::die_with(policy.parent)?;
    process::forbid_new_privileges()?;
    files::enforce(ruleset)?;
    let threads = if uid == 0 { 0 } else { policy.threads };
    let granted = syscalls::Granted {
        writing: policy.writable.is_some(),
        threads: threads > 0,
        programs: !policy.programs.is_empty(),
        processes: policy.processes > 0,
    };
    syscalls::enforce(&granted)?;
    process::verify(policy.processes == 0)?;
    Ok(Report { landlock_abi, uid, threads })
}

/// This kernel is not Linux: nothing can be confined.
#[cfg(not(target_os = "linux"))]
pub fn support() -> Support {
    Support { landlock_abi: None, seccomp: false }
}

/// This kernel is not Linux: nothing can be confined.
///
/// # Errors
/// Always [`JailError::NotEnforced`].
#[cfg(not(target_os = "linux"))]
pub fn confine(_policy: &Policy) -> Result<Report, JailError> {
    Err(JailError::NotEnforced("Landlock"))
}
