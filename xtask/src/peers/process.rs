//! The processes of a run: started on a core of their own, spoken to by lines, read from `/proc`, and ended when dropped.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::{Outcome, shell};

/// Longer than any step takes, even under valgrind; whoever is silent for so long hangs.
const PATIENCE: Duration = Duration::from_secs(300);

/// Nanoseconds of a tick of `/proc/PID/stat`: Linux shows it in hundredths of a second, whatever its own clock does.
const TICK: u64 = 10_000_000;

/// The core that is measured, and the other.
pub(super) const MEASURED: usize = 0;
pub(super) const OTHER: usize = 1;

/// A process that speaks in lines.
#[derive(Debug)]
pub(super) struct Process {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    what: String,
}

impl Process {
    /// Starts `peers` with these arguments, under `tools`, on a core.
    pub(super) fn start(
        core: usize,
        tools: &[OsString],
        program: &PathBuf,
        arguments: &[String],
    ) -> Result<Self, String> {
        let what = format!("peers {}", arguments.join(" "));
        let mut words: Vec<OsString> = Vec::new();
        if let Some(taskset) = shell::find("taskset") {
            words.extend([taskset.into(), "-c".into(), core.to_string().into()]);
        }
        words.extend_from_slice(tools);
        words.push(program.into());
        words.extend(arguments.iter().map(Into::into));
        // As many files as the system allows: thousands of connections are opened.
        let mut shell = Command::new("sh");
        shell.args(["-c", "ulimit -n $(ulimit -Hn); exec \"$@\"", "sh"]).args(&words);
        let mut child = shell
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("cannot start {what}: {error}"))?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take().expect("stdout is piped"));
        let (sender, lines) = channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Ok(Self { child, stdin, lines, what })
    }

    /// Its next line, which begins with `word`: what follows that.
    pub(super) fn expect(&mut self, word: &str) -> Result<String, String> {
        let line = self.lines.recv_timeout(PATIENCE).map_err(|error| match error {
            RecvTimeoutError::Timeout => format!("{} says nothing for {} s", self.what, PATIENCE.as_secs()),
            RecvTimeoutError::Disconnected => format!("{} ended instead of saying `{word}`", self.what),
        })?;
        line.strip_prefix(word)
            .map(|rest| rest.trim().to_owned())
            .ok_or_else(|| format!("{} says `{line}` instead of `{word}`", self.what))
    }

    /// Lets it go on.
    pub(super) fn go(&mut self) -> Outcome {
        let stdin = self.stdin.as_mut().expect("taken only at the end");
        stdin.write_all(b"go\n").map_err(|error| format!("{} does not listen: {error}", self.what))
    }

    /// Lets it end by itself, which it does at the end of its input.
    pub(super) fn finish(mut self) -> Outcome {
        self.stdin = None;
        let status = self.child.wait().map_err(|error| format!("{}: {error}", self.what))?;
        if status.success() { Ok(()) } else { Err(format!("{} failed: {status}", self.what)) }
    }

    /// Nanoseconds that its threads have been on a processor. Those that have ended do not count, unless they had more than a few ticks: their
    /// time is only in the sum over all threads, which has no finer grain.
    pub(super) fn cpu(&self) -> Result<u64, String> {
        let tasks = format!("/proc/{}/task", self.child.id());
        let fail = |error| format!("cannot read {tasks}: {error}");
        let mut total = 0;
        for task in fs::read_dir(&tasks).map_err(fail)? {
            let Ok(text) = fs::read_to_string(task.map_err(fail)?.path().join("schedstat")) else { continue };
            total += text.split(' ').next().and_then(|number| number.parse::<u64>().ok()).unwrap_or(0);
        }
        if total == 0 {
            return Err(format!("{tasks} tells no time: this kernel keeps no schedstat"));
        }
        let path = format!("/proc/{}/stat", self.child.id());
        let stat = fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
        let with_ended = ticks_in(&stat).ok_or_else(|| format!("{path} has no times"))? * TICK;
        Ok(if with_ended > total + 3 * TICK { with_ended } else { total })
    }

    /// What it holds in memory, in KiB, page by page: `VmRSS` is only about right, on some kernels by hundreds of KiB.
    pub(super) fn resident(&self) -> Result<u64, String> {
        let path = format!("/proc/{}/smaps_rollup", self.child.id());
        match fs::read_to_string(&path) {
            Ok(text) => memory_in(&text, "Rss").ok_or_else(|| format!("{path} has no Rss")),
            Err(_) => self.memory("VmRSS"),
        }
    }

    /// A figure of `/proc/PID/status` in KiB: `VmRSS`, `VmHWM`.
    pub(super) fn memory(&self, name: &str) -> Result<u64, String> {
        let path = format!("/proc/{}/status", self.child.id());
        let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {path}: {error}"))?;
        memory_in(&text, name).ok_or_else(|| format!("{path} has no {name}"))
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stdin = None;
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The ticks in user and in kernel space: the fields 14 and 15, counted after the name, which may hold anything.
fn ticks_in(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some(fields.next()?.parse::<u64>().ok()? + fields.next()?.parse::<u64>().ok()?)
}

fn memory_in(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// A program in the path, or an error that says what it is needed for.
pub(super) fn tool(name: &str, what_for: &str) -> Result<OsString, String> {
    shell::find(name)
        .map(|path| path.as_os_str().to_owned())
        .ok_or_else(|| format!("{name} is not installed, and nothing else here counts {what_for}"))
}

/// An argument made of two parts.
pub(super) fn joined(option: &str, value: &OsStr) -> OsString {
    let mut argument = OsString::from(option);
    argument.push(value);
    argument
}

#[cfg(test)]
mod tests {
    use super::{memory_in, ticks_in};

    #[test]
    fn ticks_are_read_behind_any_name() {
        let stat = "7 (a) 1 2 (b) S 1 7 7 0 -1 4194304 120 0 0 0 31 11 0 0 20 0 4 0 100 1 1";
        assert_eq!((ticks_in(stat), ticks_in("7 (a) S 1")), (Some(42), None));
    }

    #[test]
    fn memory_is_read_by_its_name() {
        let status = "Name:\tpeers\nVmHWM:\t    1234 kB\nVmRSS:\t     567 kB\n";
        assert_eq!(
            (memory_in(status, "VmRSS"), memory_in(status, "VmHWM"), memory_in(status, "VmSwap")),
            (Some(567), Some(1234), None)
        );
    }
}
