//! Confines fresh copies of this program and lets each try one thing.
//!
//! Without libtest, because a process to be confined must have a single thread. Each role answers
//! "held: …", "done: …" or "free: …" on stdout; nothing here does harm where the jail fails.

#![expect(unsafe_code, reason = "forbidden system calls are what is tested")]

use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use jail::{JailError, Policy, confine, support};

const ROLE: &str = "JAIL_TEST_ROLE";
const SCRATCH: &str = "JAIL_TEST_SCRATCH";
const NOBODY: u32 = 65_534;

fn main() {
    if let Ok(role) = std::env::var(ROLE) {
        play(&role);
        return;
    }
    let mut failures = 0;
    let mut check = |name: &str, outcome: Result<(), String>| {
        if let Err(why) = &outcome {
            failures += 1;
            eprintln!("{name}: {why}");
        }
        println!("test {name} ... {}", if outcome.is_ok() { "ok" } else { "FAILED" });
    };
    // SAFETY: no arguments.
    let users: &[bool] = if unsafe { libc::geteuid() } == 0 { &[false, true] } else { &[false] };
    for &as_nobody in users {
        for (role, expected) in ROLES {
            let label = if as_nobody { format!("{role} (ordinary user)") } else { (*role).to_string() };
            check(&label, expect(role, as_nobody, expected));
        }
    }
    check("the kernel lists every layer", kernel_view());
    check("support reports this kernel", {
        let support = support();
        (support.landlock_abi.is_some() && support.seccomp).then_some(()).ok_or(format!("{support:?}"))
    });
    assert_eq!(failures, 0, "{failures} failed");
}

/// What a role's process must end with: its last line starts so, or it dies of that signal.
enum End {
    Says(&'static str),
    Signal(i32),
}
use End::{Says, Signal};

const ROLES: &[(&str, End)] = &[
    ("computes", Says("done: 4950")),
    ("reads_what_is_granted", Says("done: granted")),
    ("hidden_stays_closed", Says("held: Permission denied")),
    ("reads_elsewhere", Says("held: Permission denied")),
    ("writes_elsewhere", Says("held: Operation not permitted")),
    ("writes_scratch", Says("done: 5")),
    ("writes_outside_scratch", Says("held: Permission denied")),
    ("truncates_by_reading", Says("held: Operation not permitted")),
    ("fills_scratch", Says("held: File too large")),
    ("changes_modes", Says("held: Operation not permitted")),
    ("runs_a_program", Says("held: Operation not permitted")),
    ("forks", Says("held: Operation not permitted")),
    ("runs_a_granted_program", Says("done: exit status: 0")),
    ("runs_another_program", Says("held: Permission denied")),
    ("child_leaves_the_group", Says("held: Operation not permitted")),
    ("child_opens_a_socket", Says("held: Operation not permitted")),
    ("clone3", Says("held: Function not implemented")),
    ("new_user_namespace", Says("held: Operation not permitted")),
    ("inet_socket", Says("held: Operation not permitted")),
    ("signals_parent", Says("held: Operation not permitted")),
    ("signal_by_fcntl", Says("held: Operation not permitted")),
    ("limits_of_parent", Says("held: Operation not permitted")),
    ("forgets_its_parent", Says("held: Operation not permitted")),
    ("io_uring", Says("held: Operation not permitted")),
    ("x32_call", Signal(libc::SIGSYS)),
    ("closed_descriptor", Says("held: Bad file descriptor")),
    ("memory", Says("held: out of memory")),
    ("threads_are_counted", Says("done: bounded")),
    ("burns_time", Signal(libc::SIGXCPU)),
    ("ignores_the_first_time_limit", Signal(libc::SIGKILL)),
    ("aborts_itself", Signal(libc::SIGABRT)),
    ("too_many_threads_before", Says("held: confine needs a process with one thread; this one has 2")),
    ("wrong_parent", Says("held: expected parent 1, found")),
    ("twice", Says("held: ")),
];

fn expect(role: &str, as_nobody: bool, end: &End) -> Result<(), String> {
    let scratch = std::env::temp_dir().join(format!("jail-{}-{role}-{as_nobody}", std::process::id()));
    fs::create_dir(&scratch).map_err(|e| e.to_string())?;
    fs::create_dir_all(scratch.join("granted/hidden")).map_err(|e| e.to_string())?;
    fs::create_dir_all(scratch.join("work")).map_err(|e| e.to_string())?;
    fs::write(scratch.join("granted/file"), "granted").map_err(|e| e.to_string())?;
    fs::write(scratch.join("granted/hidden/file"), "secret").map_err(|e| e.to_string())?;
    fs::write(scratch.join("outside"), "outside").map_err(|e| e.to_string())?;
    let program = reachable_copy(&scratch)?;
    let (status, said) = start(&program, role, &scratch, as_nobody).map_err(|e| e.to_string())?;
    let outside = fs::read_to_string(scratch.join("outside")).map_err(|e| e.to_string())?;
    fs::remove_dir_all(&scratch).map_err(|e| e.to_string())?;
    if outside != "outside" {
        return Err(format!("a file outside now holds {outside:?}"));
    }
    let as_expected = match end {
        Says(words) => said.lines().last().unwrap_or("").starts_with(words),
        Signal(number) => std::os::unix::process::ExitStatusExt::signal(&status) == Some(*number),
    };
    as_expected.then_some(()).ok_or(format!("ended with {status}, saying {said:?}"))
}

/// What /proc says about a confined process, read from outside.
fn kernel_view() -> Result<(), String> {
    let scratch = std::env::temp_dir().join(format!("jail-{}-view", std::process::id()));
    fs::create_dir(&scratch).map_err(|e| e.to_string())?;
    let program = reachable_copy(&scratch)?;
    let mut child = Command::new(program)
        .env(ROLE, "lingers")
        .env(SCRATCH, &scratch)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| e.to_string())?;
    child.stdout.as_mut().expect("stdout is piped").read_exact(&mut [0; 6]).map_err(|e| e.to_string())?;
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).map_err(|e| e.to_string())?;
    child.kill().map_err(|e| e.to_string())?;
    child.wait().map_err(|e| e.to_string())?;
    fs::remove_dir_all(&scratch).map_err(|e| e.to_string())?;
    let none = "0000000000000000";
    let wanted = [
        ("CapInh:", none),
        ("CapPrm:", none),
        ("CapEff:", none),
        ("CapAmb:", none),
        ("NoNewPrivs:", "1"),
        ("Seccomp:", "2"),
        ("Seccomp_filters:", "2"),
        ("Threads:", "1"),
    ];
    for (field, value) in wanted {
        let found = status.lines().find_map(|line| line.strip_prefix(field)).map(str::trim);
        if found != Some(value) {
            return Err(format!("{field} expected {value}, found {found:?}"));
        }
    }
    if status.lines().any(|line| line.starts_with("Uid:") && line.split_whitespace().any(|id| id == "0")) {
        return Err("it still runs as root".into());
    }
    Ok(())
}

/// The test program where any user can run it.
fn reachable_copy(scratch: &Path) -> Result<PathBuf, String> {
    let program = scratch.join("program");
    let here = std::env::current_exe().map_err(|e| e.to_string())?;
    fs::copy(here, &program).map_err(|e| e.to_string())?;
    Ok(program)
}

fn start(program: &Path, role: &str, scratch: &Path, as_nobody: bool) -> io::Result<(ExitStatus, String)> {
    use std::os::unix::process::CommandExt;
    let mut command = Command::new(program);
    command.env(ROLE, role).env(SCRATCH, scratch).stdin(Stdio::null()).stdout(Stdio::piped());
    if as_nobody {
        std::os::unix::fs::chown(scratch, Some(NOBODY), Some(NOBODY))?;
        for entry in ["work", "outside", "granted", "granted/file"] {
            std::os::unix::fs::chown(scratch.join(entry), Some(NOBODY), Some(NOBODY))?;
        }
        command.uid(NOBODY).gid(NOBODY);
    }
    let mut child = command.spawn()?;
    let mut said = String::new();
    child.stdout.take().expect("stdout is piped").read_to_string(&mut said)?;
    Ok((child.wait()?, said))
}

fn play(role: &str) {
    let answer = match act(role) {
        Ok(done) => format!("done: {done}"),
        Err(held) => format!("held: {held}"),
    };
    let mut out = io::stdout();
    writeln!(out, "{answer}").expect("stdout is a pipe");
}

fn policy(scratch: &Path, writable: bool) -> Policy {
    Policy {
        programs: vec![],
        processes: 0,
        readable: vec![scratch.join("granted")],
        hidden: vec![scratch.join("granted/hidden")],
        writable: writable.then(|| scratch.join("work")),
        memory_bytes: 256 << 20,
        cpu_seconds: 1,
        file_bytes: 1 << 20,
        open_files: 16,
        threads: 4,
        keep: vec![0, 1, 2],
        // SAFETY: no arguments.
        parent: unsafe { libc::getppid() },
    }
}

/// Lets `/bin/true` be executed, in a few processes.
fn grant_true(policy: &mut Policy) {
    let programs = ["/bin/true", "/lib64/ld-linux-x86-64.so.2", "/lib/ld-linux-aarch64.so.1"];
    policy.programs = programs.map(PathBuf::from).into();
    policy.processes = 8;
    policy.readable.extend(["/usr/lib", "/lib", "/lib64", "/etc/ld.so.cache"].map(PathBuf::from));
}

fn last_error() -> String {
    io::Error::last_os_error().to_string()
}

/// `held` if a raw call failed, else the name of what got through.
fn raw(answer: libc::c_long) -> Result<String, String> {
    if answer < 0 { Err(last_error()) } else { Ok(format!("free, the call answered {answer}")) }
}

fn act(role: &str) -> Result<String, String> {
    let scratch = PathBuf::from(std::env::var(SCRATCH).expect("set by the test"));
    let wants_scratch =
        matches!(role, "writes_scratch" | "writes_outside_scratch" | "truncates_by_reading" | "fills_scratch");
    let mut policy = policy(&scratch, wants_scratch);
    if role.starts_with("child") || matches!(role, "runs_a_granted_program" | "runs_another_program") {
        grant_true(&mut policy);
    }
    if let Some(outcome) = before_confinement(role, &policy) {
        return outcome;
    }
    // SAFETY: duplicates stdout, to be closed by the jail.
    let spare: RawFd = unsafe { libc::dup(1) };
    let report = confine(&policy).map_err(|e| format!("not confined: {e}"))?;
    assert!(report.landlock_abi > 0 && report.uid != 0 && report.threads == 4, "{report:?}");
    let show = |e: io::Error| e.to_string();
    // SAFETY: raw calls with literal or null arguments; those that could do harm are refused, and where
    // they are not they only affect this process.
    unsafe {
        match role {
            "computes" => Ok((0..100).sum::<i32>().to_string()),
            "reads_what_is_granted" => fs::read_to_string(scratch.join("granted/file")).map_err(show),
            "hidden_stays_closed" => fs::read_to_string(scratch.join("granted/hidden/file")).map_err(show),
            "reads_elsewhere" => fs::read_to_string(scratch.join("outside")).map_err(show),
            "writes_elsewhere" | "writes_outside_scratch" => {
                fs::write(scratch.join("outside"), "overwritten").map(|()| "free".into()).map_err(show)
            }
            "writes_scratch" => {
                fs::write("note", "hello").map_err(show)?;
                fs::rename("note", "moved").map_err(show)?;
                let length = fs::read("moved").map_err(show)?.len();
                fs::remove_file("moved").map_err(show)?;
                Ok(length.to_string())
            }
            "truncates_by_reading" => {
                let path = std::ffi::CString::new(scratch.join("granted/file").into_os_string().into_encoded_bytes())
                    .expect("no NUL");
                raw(libc::open(path.as_ptr(), libc::O_RDONLY | libc::O_TRUNC).into())
            }
            "fills_scratch" => {
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                fs::write("big", vec![0u8; 2 << 20]).map(|()| "free".into()).map_err(show)
            }
            "changes_modes" => {
                fs::set_permissions(scratch.join("outside"), std::os::unix::fs::PermissionsExt::from_mode(0o777))
                    .map(|()| "free".into())
                    .map_err(show)
            }
            "runs_a_granted_program" => Command::new("/bin/true").status().map(|s| s.to_string()).map_err(show),
            "runs_another_program" => Command::new("/bin/false").status().map(|_| "free".into()).map_err(show),
            "child_leaves_the_group" => in_child(|| raw(libc::setsid().into())),
            "child_opens_a_socket" => in_child(|| raw(libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0).into())),
            "runs_a_program" => Command::new("/bin/true").status().map(|_| "free".into()).map_err(show),
            "forks" => match libc::fork() {
                0 => libc::_exit(0),
                pid => raw(pid.into()),
            },
            "clone3" => raw(libc::syscall(libc::SYS_clone3, 0usize, 0usize)),
            "new_user_namespace" => raw(libc::unshare(libc::CLONE_NEWUSER).into()),
            "inet_socket" => raw(libc::socket(libc::AF_INET, libc::SOCK_DGRAM, 0).into()),
            "signals_parent" => raw(libc::kill(libc::getppid(), 0).into()),
            "signal_by_fcntl" => raw(libc::fcntl(1, libc::F_SETOWN, libc::getppid()).into()),
            "limits_of_parent" => {
                let mut now = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut now);
                raw(libc::prlimit(libc::getppid(), libc::RLIMIT_NOFILE, std::ptr::null(), &raw mut now).into())
            }
            "forgets_its_parent" => raw(libc::prctl(libc::PR_SET_PDEATHSIG, 0, 0, 0, 0).into()),
            "io_uring" => raw(libc::syscall(libc::SYS_io_uring_setup, 1, 0usize)),
            "x32_call" => raw(libc::syscall(0x4000_0000 | libc::SYS_getpid)),
            "closed_descriptor" => raw(libc::write(spare, c"x".as_ptr().cast(), 1) as libc::c_long),
            "memory" => {
                let size = 4usize << 30;
                let at = libc::mmap(
                    std::ptr::null_mut(),
                    size,
                    libc::PROT_READ,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                );
                if at == libc::MAP_FAILED { Err("out of memory".into()) } else { Ok("free".into()) }
            }
            "threads_are_counted" => Ok(count_threads()),
            "burns_time" => loop {
                std::hint::spin_loop();
            },
            "ignores_the_first_time_limit" => {
                libc::signal(libc::SIGXCPU, libc::SIG_IGN);
                loop {
                    std::hint::spin_loop();
                }
            }
            "aborts_itself" => libc::abort(),
            "twice" => confine(&policy).map(|_| "free".into()).map_err(|e| e.to_string()),
            "lingers" => {
                println!("ready");
                std::thread::sleep(std::time::Duration::from_secs(60));
                Ok("free".into())
            }
            unknown => panic!("no role {unknown}"),
        }
    }
}

/// What `attempt` says in a forked child, by its exit status.
fn in_child(attempt: impl FnOnce() -> Result<String, String>) -> Result<String, String> {
    // SAFETY: the process has one thread, and the child ends without running anything of its parent's.
    unsafe {
        let pid = libc::fork();
        if pid == 0 {
            libc::_exit(i32::from(attempt() != Err("Operation not permitted (os error 1)".into())));
        }
        let mut status = 0;
        raw(libc::waitpid(pid, &raw mut status, 0).into())?;
        if status == 0 {
            Err("Operation not permitted".into())
        } else {
            Ok(format!("free, the child ended with {status}"))
        }
    }
}

/// Roles that test the refusal to confine.
fn before_confinement(role: &str, policy: &Policy) -> Option<Result<String, String>> {
    let outcome = |result: Result<jail::Report, JailError>| result.map(|r| format!("{r:?}")).map_err(|e| e.to_string());
    match role {
        "too_many_threads_before" => {
            std::thread::spawn(|| std::thread::sleep(std::time::Duration::from_secs(60)));
            Some(outcome(confine(policy)))
        }
        "wrong_parent" => Some(outcome(confine(&Policy { parent: 1, ..policy.clone() }))),
        _ => None,
    }
}

/// Threads that start before the limit refuses one; "bounded" if it is at most the four of the policy.
fn count_threads() -> String {
    let mut running = Vec::new();
    while running.len() < 50 {
        let sleeper = || std::thread::sleep(std::time::Duration::from_millis(200));
        match std::thread::Builder::new().stack_size(64 << 10).spawn(sleeper) {
            Ok(thread) => running.push(thread),
            Err(_) => break,
        }
    }
    if running.len() <= 4 { "bounded".into() } else { format!("free, {} threads", running.len()) }
}
