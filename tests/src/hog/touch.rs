//! What the program `hog` does. Runs in the process that is to be big; allocates nothing of note besides.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustix::mm::{MapFlags, MlockAllFlags, ProtFlags, mlockall};
use rustix::process::{Signal, set_parent_process_death_signal};
use signal_hook::consts::SIGTERM;

use super::region::{PAGE, Region};
use super::{Hog, Hold};
use crate::clock::now_ns;

const PAGES_PER_MIB: u64 = (1 << 20) / PAGE as u64;
/// How far behind its rate one may be and still make up for it.
const CATCHES_UP: Duration = Duration::from_millis(100);

/// Does what `hog` says and returns its exit code.
///
/// # Errors
/// Memory cannot be mapped, a child cannot be started or fails, or standard output is closed.
pub fn run(hog: &Hog) -> Result<u8> {
    if hog.leader_exits {
        leave_it_to_another_thread(Hog { leader_exits: false, ..hog.clone() });
    }
    if hog.ignore_term {
        // A handler that does nothing, rather than SIG_IGN: children are told by their own argument.
        signal_hook::flag::register(SIGTERM, Arc::new(AtomicBool::new(false))).context("catching SIGTERM")?;
    }
    if hog.with_parent {
        set_parent_process_death_signal(Some(Signal::KILL)).context("asking to die with the parent")?;
    }
    if hog.start_on_line {
        io::stdin().read_line(&mut String::new()).context("waiting for a line")?;
    } else {
        pause(Duration::from_millis(hog.start_after));
    }
    if hog.children > 0 {
        share_out(hog)?;
    } else {
        let _held = touch(hog)?;
        if let Some(file) = &hog.keep_lock {
            keep_lock(file)?;
        }
        match hog.hold {
            Hold::For(time) => pause(time),
            Hold::Forever => loop {
                thread::park();
            },
        }
    }
    Ok(hog.then_exit)
}

/// One thread reads a page of this process that never comes, the way a debugger would, and so the kernel holds the lock for
/// reading meanwhile; another wants to map something. Who comes after them waits.
fn keep_lock(file: &Path) -> Result<()> {
    let file = File::open(file).with_context(|| file.display().to_string())?;
    // SAFETY: a new mapping, which nothing else knows.
    let page =
        unsafe { rustix::mm::mmap(std::ptr::null_mut(), PAGE, ProtFlags::READ, MapFlags::PRIVATE, &file, 0) };
    let at = page.context("mapping the file")?.addr() as u64;
    let memory = File::open("/proc/self/mem").context("this process's memory")?;
    // Both are there before the lock is: a new thread needs memory.
    let together = Arc::new(Barrier::new(2));
    let reads = Arc::clone(&together);
    thread::spawn(move || {
        reads.wait();
        memory.read_at(&mut [0; 8], at)
    });
    thread::spawn(move || {
        together.wait();
        pause(Duration::from_millis(300));
        // SAFETY: as above.
        unsafe { rustix::mm::mmap_anonymous(std::ptr::null_mut(), PAGE, ProtFlags::READ, MapFlags::PRIVATE) }
            .map(|page| page.addr())
    });
    pause(Duration::from_millis(600));
    Ok(())
}

/// This thread exits, and the process lives on.
fn leave_it_to_another_thread(hog: Hog) -> ! {
    thread::spawn(move || match run(&hog) {
        Ok(code) => std::process::exit(code.into()),
        Err(error) => {
            eprintln!("hog: {error:#}");
            std::process::exit(1);
        }
    });
    // SAFETY: takes a number only, and ends this thread alone. Nothing that it owns is needed by the other.
    unsafe { libc::syscall(libc::SYS_exit, 0) };
    unreachable!("exit(2) does not return")
}

/// Sleeps it all, whatever signals come.
fn pause(time: Duration) {
    let end = Instant::now() + time;
    while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
        thread::sleep(left);
    }
}

/// The memory, shared out over the threads, which have ended when this returns.
fn touch(hog: &Hog) -> Result<Vec<Region>> {
    let threads = u64::from(hog.threads);
    if hog.mib == 0 {
        return report(hog, "holding", 0).map(|()| Vec::new());
    }
    let shares = (0..threads).map(|index| hog.mib / threads + u64::from(index < hog.mib % threads));
    let shares: Vec<u64> = shares.filter(|mib| *mib > 0).collect();
    let regions: Vec<Region> = if let [all] = shares[..] {
        vec![touch_share(hog, all, hog.rate)?]
    } else {
        let rate = hog.rate.map(|rate| (rate / threads).max(1));
        thread::scope(|scope| {
            let touching: Vec<_> =
                shares.iter().map(|mib| scope.spawn(move || touch_share(hog, *mib, rate))).collect();
            let join = |thread: thread::ScopedJoinHandle<'_, Result<Region>>| {
                thread.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
            };
            touching.into_iter().map(join).collect::<Result<_>>()
        })?
    };
    let regions = if hog.copy { copy_on_write(regions)? } else { regions };
    if hog.lock {
        mlockall(MlockAllFlags::CURRENT).context("locking it")?;
    }
    report(hog, "holding", hog.mib << 20)?;
    Ok(regions)
}

/// Returns when a forked child has written to all of it; the child then sleeps until its parent ends.
fn copy_on_write(mut regions: Vec<Region>) -> Result<Vec<Region>> {
    let (done, tell) = rustix::pipe::pipe().context("a pipe")?;
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()).context("forking"),
        0 => {
            set_parent_process_death_signal(Some(Signal::KILL)).context("asking to die with the parent")?;
            regions.iter_mut().for_each(|region| (0..region.pages()).for_each(|page| region.touch(page)));
            drop(tell);
            loop {
                thread::park();
            }
        }
        _ => {
            drop(tell);
            ensure!(rustix::io::read(&done, &mut [0; 1]).context("waiting for the child")? == 0, "it spoke");
            Ok(regions)
        }
    }
}

/// One thread's part. What it reports counts this part only.
fn touch_share(hog: &Hog, mib: u64, rate: Option<u64>) -> Result<Region> {
    let len = usize::try_from(mib << 20).context("more than an address space")?;
    let mut region = Region::map(hog.kind, len, &hog.dir)?;
    let mut start = Instant::now();
    for page in 0..region.pages() {
        wait_turn(rate, &mut start, page as u64);
        region.touch(page);
        let touched = page as u64 + 1;
        if touched.is_multiple_of(PAGES_PER_MIB) {
            report(hog, "touched", touched * PAGE as u64)?;
        }
    }
    Ok(region)
}

/// At the rate, page N is due N pages after the start. Sleeps a millisecond at least, so that a fast one touches
/// several pages in a row instead of sleeping for each. One that was stopped for a while does not catch up at once: it
/// started later, by as much.
fn wait_turn(rate: Option<u64>, start: &mut Instant, page: u64) {
    let Some(rate) = rate else { return };
    let due = *start + Duration::from_nanos(page * 1_000_000_000 / (rate * PAGES_PER_MIB));
    let now = Instant::now();
    if due > now {
        pause((due - now).max(Duration::from_millis(1)));
    } else {
        *start += (now - due).saturating_sub(CATCHES_UP);
    }
}

fn report(hog: &Hog, what: &str, bytes: u64) -> Result<()> {
    if hog.report {
        // One write: children share the pipe.
        io::stdout().write_all(format!("{what} {bytes} {}\n", now_ns()).as_bytes()).context("reporting")?;
    }
    Ok(())
}

/// The memory in children, the first of which takes what cannot be shared out evenly.
fn share_out(hog: &Hog) -> Result<()> {
    let number = u64::from(hog.children);
    let program = std::env::current_exe().context("where hog is")?;
    let children = (0..number).map(|index| {
        let mib = hog.mib / number + if index == 0 { hog.mib % number } else { 0 };
        let rate = hog.rate.map(|rate| (rate / number).max(1));
        let child =
            Hog { mib, rate, children: 0, start_after: 0, start_on_line: false, then_exit: 0, ..hog.clone() };
        Command::new(&program).args(child.args()).stdin(Stdio::null()).spawn().context("starting a child")
    });
    let children: Vec<Child> = children.collect::<Result<_>>()?;
    for mut child in children {
        let status = child.wait().context("waiting for a child")?;
        ensure!(status.success(), "a child ended with {status}");
    }
    Ok(())
}
