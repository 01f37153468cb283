//! seccomp: an allow-list of the system calls that computing in Python needs.
//!
//! An allow-list also answers what Landlock leaves open on any ABI: chmod, chown, utime and extended
//! attributes of files the user owns, limits and scheduling of the user's other processes, System V IPC,
//! and whatever call a later kernel adds. Denied calls answer EPERM, so Python raises `PermissionError`.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction,
    SeccompCmpArgLen::{self, Dword, Qword},
    SeccompCmpOp::{Eq, MaskedEq},
    SeccompCondition, SeccompFilter, SeccompRule, TargetArch, sock_filter,
};

use crate::JailError;

/// Calls that are harmless with any arguments. Paths are Landlock's business, descriptors were closed.
const ALWAYS: &[i64] = &[
    // memory
    libc::SYS_brk,
    libc::SYS_madvise,
    libc::SYS_mmap,
    libc::SYS_mprotect,
    libc::SYS_mremap,
    libc::SYS_munmap,
    libc::SYS_membarrier,
    // open files
    libc::SYS_close,
    libc::SYS_dup,
    libc::SYS_dup3,
    libc::SYS_fstat,
    libc::SYS_lseek,
    libc::SYS_pipe2,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_sendfile,
    libc::SYS_copy_file_range,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_pwait,
    libc::SYS_eventfd2,
    libc::SYS_ppoll,
    libc::SYS_pselect6,
    // reading the file tree
    libc::SYS_chdir,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_getcwd,
    libc::SYS_getdents64,
    libc::SYS_newfstatat,
    libc::SYS_readlinkat,
    libc::SYS_statx,
    libc::SYS_umask,
    // time
    libc::SYS_clock_getres,
    libc::SYS_clock_gettime,
    libc::SYS_clock_nanosleep,
    libc::SYS_gettimeofday,
    libc::SYS_nanosleep,
    libc::SYS_getitimer,
    libc::SYS_setitimer,
    libc::SYS_times,
    // signals to itself
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_sigaltstack,
    libc::SYS_restart_syscall,
    // threads; clone3 is answered ENOSYS by the prelude, so that libc falls back to clone
    libc::SYS_clone3,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_futex,
    libc::SYS_rseq,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_yield,
    libc::SYS_set_robust_list,
    libc::SYS_getcpu,
    // who and where am I
    libc::SYS_getegid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getgroups,
    libc::SYS_getpgid,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_getpriority,
    libc::SYS_getrandom,
    libc::SYS_getresgid,
    libc::SYS_getresuid,
    libc::SYS_getrusage,
    libc::SYS_getsid,
    libc::SYS_gettid,
    libc::SYS_getuid,
    libc::SYS_sysinfo,
    libc::SYS_uname,
];

/// The same calls under the names that only x86-64 has.
#[cfg(target_arch = "x86_64")]
const ALWAYS_HERE: &[i64] = &[
    libc::SYS_access,
    libc::SYS_alarm,
    libc::SYS_dup2,
    libc::SYS_epoll_wait,
    libc::SYS_getpgrp,
    libc::SYS_getrlimit,
    libc::SYS_lstat,
    libc::SYS_pause,
    libc::SYS_pipe,
    libc::SYS_poll,
    libc::SYS_readlink,
    libc::SYS_select,
    libc::SYS_stat,
    libc::SYS_time,
];
#[cfg(not(target_arch = "x86_64"))]
const ALWAYS_HERE: &[i64] = &[];

/// Calls that change files, granted with a writable directory only.
const WRITING: &[i64] = &[
    libc::SYS_fallocate,
    libc::SYS_fdatasync,
    libc::SYS_fsync,
    libc::SYS_ftruncate,
    libc::SYS_mkdirat,
    libc::SYS_renameat2,
    libc::SYS_unlinkat,
];
#[cfg(target_arch = "x86_64")]
const WRITING_HERE: &[i64] =
    &[libc::SYS_mkdir, libc::SYS_rename, libc::SYS_renameat, libc::SYS_rmdir, libc::SYS_unlink];
#[cfg(not(target_arch = "x86_64"))]
const WRITING_HERE: &[i64] = &[];

/// Starting another program in this process; which ones, is Landlock's business.
const RUNNING: &[i64] = &[libc::SYS_execve, libc::SYS_set_tid_address];
#[cfg(target_arch = "x86_64")]
const RUNNING_HERE: &[i64] = &[libc::SYS_arch_prctl];
#[cfg(not(target_arch = "x86_64"))]
const RUNNING_HERE: &[i64] = &[];

/// Starting processes and waiting for them. Not `setsid` and `setpgid`: all stay in the group that can be killed.
const FORKING: &[i64] = &[libc::SYS_wait4, libc::SYS_waitid];
#[cfg(target_arch = "x86_64")]
const FORKING_HERE: &[i64] = &[libc::SYS_fork, libc::SYS_vfork];
#[cfg(not(target_arch = "x86_64"))]
const FORKING_HERE: &[i64] = &[];

/// Duplicating and flags. Not `F_SETOWN` and `F_SETSIG`, which send any signal to any process of the user.
const FCNTL: &[i32] =
    &[libc::F_DUPFD, libc::F_DUPFD_CLOEXEC, libc::F_GETFD, libc::F_SETFD, libc::F_GETFL, libc::F_SETFL];

/// Asking whether a file is a terminal, how much can be read, and closing on exec.
const IOCTL: &[libc::Ioctl] = &[libc::TCGETS, libc::TIOCGWINSZ, libc::FIONREAD, libc::FIONBIO, libc::FIOCLEX];

/// Any of these makes `clone` more than a new thread or process.
const CLONE_ELSEWHERE: i32 = libc::CLONE_NEWNS
    | libc::CLONE_NEWCGROUP
    | libc::CLONE_NEWUTS
    | libc::CLONE_NEWIPC
    | libc::CLONE_NEWUSER
    | libc::CLONE_NEWPID
    | libc::CLONE_NEWNET
    | libc::CLONE_PTRACE;
/// Any of these makes `clone` more than a new thread.
const CLONE_MORE: i32 = CLONE_ELSEWHERE | libc::CLONE_VFORK;

/// Flags of `open` that create or change a file. `O_TMPFILE` without the directory bit it is made of.
const OPEN_CHANGES: i32 = libc::O_ACCMODE | libc::O_CREAT | libc::O_TRUNC | (libc::O_TMPFILE & !libc::O_DIRECTORY);

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;
#[cfg(target_arch = "riscv64")]
const AUDIT_ARCH: u32 = 0xc000_00f3;

/// Bit that marks a call of the x32 ABI, which has the same architecture number as x86-64.
const X32: u32 = 0x4000_0000;

/// Whether the kernel takes filters that can kill the process.
pub(crate) fn available() -> bool {
    let action = libc::SECCOMP_RET_KILL_PROCESS;
    // SAFETY: the pointer is valid for the call, which only looks at it.
    unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0 }
}

/// What the policy adds to the calls that every jail has.
#[derive(Debug)]
#[expect(clippy::struct_excessive_bools, reason = "four grants that do not depend on each other")]
pub(crate) struct Granted {
    /// Changing files.
    pub(crate) writing: bool,
    /// Threads beside the first.
    pub(crate) threads: bool,
    /// Other programs.
    pub(crate) programs: bool,
    /// Processes beside the first.
    pub(crate) processes: bool,
}

/// Installs the filters on all threads. The last step: it forbids its own repetition.
pub(crate) fn enforce(granted: &Granted) -> Result<(), JailError> {
    if !available() {
        return Err(JailError::NotEnforced("seccomp"));
    }
    let allow_list = allow_list(granted).map_err(refused)?;
    seccompiler::apply_filter_all_threads(&prelude()).map_err(refused)?;
    seccompiler::apply_filter_all_threads(&allow_list).map_err(refused)
}

fn refused(error: impl std::fmt::Display) -> JailError {
    JailError::Seccomp(error.to_string())
}

/// Kills calls of a foreign architecture and of x32; clone3, whose flags lie in memory, gets ENOSYS.
fn prelude() -> BpfProgram {
    let load = |offset| sock_filter { code: 0x20, jt: 0, jf: 0, k: offset };
    let answer = |action| sock_filter { code: 0x06, jt: 0, jf: 0, k: action };
    let enosys = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
    vec![
        load(4), // seccomp_data.arch
        sock_filter { code: 0x15, jt: 0, jf: 4, k: AUDIT_ARCH },
        load(0), // seccomp_data.nr
        sock_filter { code: 0x35, jt: 2, jf: 0, k: X32 },
        sock_filter { code: 0x15, jt: 2, jf: 0, k: libc::SYS_clone3 as u32 },
        answer(libc::SECCOMP_RET_ALLOW),
        answer(libc::SECCOMP_RET_KILL_PROCESS),
        answer(enosys),
    ]
}

fn allow_list(granted: &Granted) -> Result<BpfProgram, seccompiler::BackendError> {
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::new();
    let unconditional = [
        (true, ALWAYS, ALWAYS_HERE),
        (granted.writing, WRITING, WRITING_HERE),
        (granted.programs, RUNNING, RUNNING_HERE),
        (granted.processes, FORKING, FORKING_HERE),
    ];
    for (_, calls, calls_here) in unconditional.into_iter().filter(|(holds, ..)| *holds) {
        rules.extend(calls.iter().chain(calls_here).map(|&call| (call, vec![])));
    }
    rules.insert(libc::SYS_openat, opening(2, granted.writing)?);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_open, opening(1, granted.writing)?);
    rules.insert(libc::SYS_fcntl, any_of(1, FCNTL.iter().map(|&command| u64::from(command.cast_unsigned())))?);
    rules.insert(libc::SYS_ioctl, any_of(1, IOCTL.iter().map(|&command| u64::from(command as u32)))?);
    rules.insert(libc::SYS_prctl, any_of(0, [libc::PR_SET_NAME as u64, libc::PR_GET_NAME as u64])?);
    rules.insert(libc::SYS_tgkill, any_of(0, [u64::from(std::process::id())])?);
    let own_limits_unchanged = vec![SeccompCondition::new(0, Dword, Eq, 0)?, SeccompCondition::new(2, Qword, Eq, 0)?];
    rules.insert(libc::SYS_prlimit64, vec![SeccompRule::new(own_limits_unchanged)?]);
    let mut cloning = vec![];
    if granted.threads {
        let mask = (libc::CLONE_THREAD | CLONE_MORE) as u32;
        cloning.push(bits(0, Qword, u64::from(mask), libc::CLONE_THREAD as u64)?);
    }
    if granted.processes {
        let mask = (libc::CLONE_THREAD | CLONE_ELSEWHERE) as u32;
        cloning.push(bits(0, Qword, u64::from(mask), 0)?);
    }
    if !cloning.is_empty() {
        rules.insert(libc::SYS_clone, cloning);
    }
    let arch = TargetArch::try_from(std::env::consts::ARCH)?;
    let denied = SeccompAction::Errno(libc::EPERM as u32);
    SeccompFilter::new(rules, denied, SeccompAction::Allow, arch)?.try_into()
}

/// `open` for reading; with a writable directory for writing too, but never truncating what was opened to
/// read: before ABI 3 Landlock counts that as reading.
fn opening(flags: u8, writable: bool) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    if !writable {
        return Ok(vec![bits(flags, Dword, OPEN_CHANGES as u64, libc::O_RDONLY as u64)?]);
    }
    let truncating = (libc::O_ACCMODE | libc::O_TRUNC) as u64;
    Ok(vec![
        bits(flags, Dword, libc::O_TRUNC as u64, 0)?,
        bits(flags, Dword, truncating, (libc::O_WRONLY | libc::O_TRUNC) as u64)?,
        bits(flags, Dword, truncating, (libc::O_RDWR | libc::O_TRUNC) as u64)?,
    ])
}

fn any_of(argument: u8, values: impl IntoIterator<Item = u64>) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    values.into_iter().map(|value| SeccompRule::new(vec![SeccompCondition::new(argument, Dword, Eq, value)?])).collect()
}

fn bits(
    argument: u8,
    width: SeccompCmpArgLen,
    mask: u64,
    value: u64,
) -> Result<SeccompRule, seccompiler::BackendError> {
    SeccompRule::new(vec![SeccompCondition::new(argument, width, MaskedEq(mask), value)?])
}
