//! Limits, identity, descriptors: what the kernel keeps per process.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::{JailError, Policy};

/// Users from here on belong to nobody: beyond system and login users and beyond 65,536-user containers.
const FIRST_FRESH_UID: u32 = 0x6000_0000;
/// The kernel's "nobody", for user namespaces that map no fresh uid.
const NOBODY: u32 = 65_534;
/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h.
const CAPABILITY_VERSION_3: u32 = 0x2008_0522;

fn checked(step: &'static str, answer: impl Into<i64>) -> Result<(), JailError> {
    if answer.into() < 0 {
        return Err(JailError::System { step, source: io::Error::last_os_error() });
    }
    Ok(())
}

/// Refuses a process whose other threads would stay free.
pub(crate) fn require_single_thread() -> Result<(), JailError> {
    let tasks =
        std::fs::read_dir("/proc/self/task").map_err(|source| JailError::System { step: "count threads", source })?;
    match tasks.count() {
        1 => Ok(()),
        threads => Err(JailError::Threads(threads)),
    }
}

/// Leaves the terminal and the process group of the parent.
pub(crate) fn leave_session() -> Result<(), JailError> {
    // SAFETY: these calls take no pointers.
    unsafe {
        if libc::getsid(0) == libc::getpid() {
            return Ok(());
        }
        checked("setsid", libc::setsid())
    }
}

/// Closes every descriptor but `keep`.
pub(crate) fn close_files_except(keep: &[i32]) -> Result<(), JailError> {
    let mut keep: Vec<u32> = keep.iter().filter_map(|&fd| u32::try_from(fd).ok()).collect();
    keep.sort_unstable();
    let mut first = 0u32;
    for fd in keep.into_iter().chain([u32::MAX]) {
        if first < fd {
            let last = if fd == u32::MAX { fd } else { fd - 1 };
            // SAFETY: close_range takes numbers only; no owner of the closed descriptors runs after this.
            checked("close_range", unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) })?;
        }
        first = fd.saturating_add(1);
    }
    Ok(())
}

/// Stands in the writable directory, or in the root directory, which the jail can neither list nor change.
pub(crate) fn enter_directory(writable: Option<&Path>) -> Result<(), JailError> {
    std::env::set_current_dir(writable.unwrap_or(Path::new("/")))
        .map_err(|source| JailError::System { step: "enter the working directory", source })
}

/// Sets every resource limit, hard as well as soft.
pub(crate) fn limit(policy: &Policy) -> Result<(), JailError> {
    let limits = [
        (libc::RLIMIT_AS, policy.memory_bytes, policy.memory_bytes),
        (libc::RLIMIT_CPU, policy.cpu_seconds, policy.cpu_seconds + 1),
        (libc::RLIMIT_FSIZE, policy.file_bytes, policy.file_bytes),
        (libc::RLIMIT_NOFILE, policy.open_files, policy.open_files),
        (libc::RLIMIT_NPROC, policy.threads + policy.processes + 1, policy.threads + policy.processes + 1),
        (libc::RLIMIT_CORE, 0, 0),
        (libc::RLIMIT_MEMLOCK, 0, 0),
        (libc::RLIMIT_MSGQUEUE, 0, 0),
    ];
    for (resource, soft, hard) in limits {
        // SAFETY: both pointers are null or valid for the call.
        unsafe {
            let mut present = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
            checked("getrlimit", libc::getrlimit(resource, &raw mut present))?;
            let hard = hard.min(present.rlim_max);
            let wanted = libc::rlimit { rlim_cur: soft.min(hard), rlim_max: hard };
            checked("setrlimit", libc::setrlimit(resource, &raw const wanted))?;
        }
    }
    Ok(())
}

/// Becomes a user that owns nothing, if this is root; gives up every capability in any case.
///
/// Returns the uid in force. Root inside a container without `CAP_SETUID` stays root without capabilities.
pub(crate) fn drop_privileges(writable: Option<&Path>) -> Result<u32, JailError> {
    // SAFETY: numbers in, numbers out.
    if unsafe { libc::geteuid() } == 0 && !become_user(fresh_uid(), writable)? {
        become_user(NOBODY, writable)?;
    }
    drop_capabilities()?;
    // SAFETY: as above. A process that may be traced could be driven from outside, and its memory read.
    unsafe {
        checked("PR_SET_DUMPABLE", libc::prctl(libc::PR_SET_DUMPABLE, 0, 0, 0, 0))?;
        Ok(libc::getuid())
    }
}

fn fresh_uid() -> u32 {
    FIRST_FRESH_UID + std::process::id()
}

/// Switches to `uid`, handing it the writable directory; false where the kernel does not let us.
fn become_user(uid: u32, writable: Option<&Path>) -> Result<bool, JailError> {
    // SAFETY: setgroups gets a length of 0, so its pointer is not read; the other calls take numbers.
    unsafe {
        if libc::setgroups(0, std::ptr::null()) != 0 || libc::setresgid(uid, uid, uid) != 0 {
            return Ok(false);
        }
    }
    if let Some(path) = writable {
        let path = CString::new(path.as_os_str().as_bytes())
            .map_err(|e| JailError::System { step: "name the writable directory", source: e.into() })?;
        // SAFETY: `path` is a terminated string that outlives the call.
        checked("hand over the writable directory", unsafe { libc::lchown(path.as_ptr(), uid, uid) })?;
    }
    // SAFETY: numbers only.
    Ok(unsafe { libc::setresuid(uid, uid, uid) } == 0)
}

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct CapabilitySet {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

fn drop_capabilities() -> Result<(), JailError> {
    let header = CapabilityHeader { version: CAPABILITY_VERSION_3, pid: 0 };
    let none = [CapabilitySet::default(); 2];
    // SAFETY: header and data have the layout of linux/capability.h version 3 and outlive the call.
    checked("capset", unsafe { libc::syscall(libc::SYS_capset, &header, none.as_ptr()) })
}

/// Asks for SIGKILL when `parent` dies. Set after the uid changed, because a change clears it.
pub(crate) fn die_with(parent: i32) -> Result<(), JailError> {
    // SAFETY: numbers only.
    unsafe {
        checked("PR_SET_PDEATHSIG", libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0))?;
        let found = libc::getppid();
        if found != parent {
            return Err(JailError::Orphaned { expected: parent, found });
        }
    }
    Ok(())
}

/// No later exec can raise privileges; Landlock and seccomp require it.
pub(crate) fn forbid_new_privileges() -> Result<(), JailError> {
    // SAFETY: numbers only.
    checked("PR_SET_NO_NEW_PRIVS", unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) })
}

/// Tries three forbidden calls, one per layer and way out; `fork` only where it is `forkless`.
pub(crate) fn verify(forkless: bool) -> Result<(), JailError> {
    // SAFETY: the path is a terminated literal; the other calls take numbers. The process has one
    // thread, so a child of `fork` that should not exist can leave at once.
    unsafe {
        if libc::open(c"/".as_ptr(), libc::O_RDONLY | libc::O_DIRECTORY) >= 0 {
            return Err(JailError::Leaks("opening the root directory"));
        }
        if libc::socket(libc::AF_UNIX, libc::SOCK_STREAM, 0) >= 0 {
            return Err(JailError::Leaks("creating a socket"));
        }
        if !forkless {
            return Ok(());
        }
        match libc::fork() {
            -1 => Ok(()),
            0 => libc::_exit(0),
            _ => Err(JailError::Leaks("fork")),
        }
    }
}
