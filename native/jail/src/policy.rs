use std::path::PathBuf;

/// What a confined process may still do. Everything not named is denied.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Files and directories that can be read; a path that does not exist is skipped.
    pub readable: Vec<PathBuf>,
    /// Directories inside `readable` that stay closed: their parent is then granted entry by entry.
    /// Names below it can still be listed; Landlock grants listing by tree, too.
    pub hidden: Vec<PathBuf>,
    /// One directory that can be written and becomes the working directory; `None` closes every file for writing.
    pub writable: Option<PathBuf>,
    /// Files that may be executed, the dynamic loader among them. With none, `exec` is refused altogether.
    pub programs: Vec<PathBuf>,
    /// Processes beside the first, each confined like it; 0: `fork` is refused. Counted with the threads.
    pub processes: u64,
    /// Address space in bytes.
    pub memory_bytes: u64,
    /// Processor seconds until SIGXCPU; one more until SIGKILL.
    pub cpu_seconds: u64,
    /// Largest file in bytes.
    pub file_bytes: u64,
    /// One more than the highest descriptor that can be opened.
    pub open_files: u64,
    /// Threads beside the first. Counted per user: an ordinary user with more processes gets none.
    pub threads: u64,
    /// Descriptors that stay open.
    pub keep: Vec<i32>,
    /// Process whose death ends this one; it must be the parent.
    pub parent: i32,
}

/// What [`crate::confine`] put in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Report {
    /// Landlock ABI of the kernel.
    pub landlock_abi: u32,
    /// User the process now runs as.
    pub uid: u32,
    /// Threads it may add; 0 where the uid could not be dropped, because root is exempt from the limit.
    pub threads: u64,
}

/// What the kernel offers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Support {
    /// Landlock ABI, or `None` where Landlock is absent or disabled.
    pub landlock_abi: Option<u32>,
    /// Whether a seccomp filter can be installed and can kill the process.
    pub seccomp: bool,
}
