//! `cargo xtask test`: every test, and interop with whichever peers are installed.

use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::{Outcome, dist, features, fuzz, shell, standalone};

pub(crate) const OPTIONS: &str = "[--full] [--require-peers]";

/// Programs written by others that tests talk to. A test whose peer is lacking says so and passes, unless peers are required.
const PEERS: [(&str, &str); 6] = [
    ("curl", "--version"),
    ("nginx", "-v"),
    ("python3", "--version"),
    ("node", "--version"),
    ("tinyproxy", "-v"),
    ("microsocks", "-h"),
];

/// More proxies, for the full run.
const MORE_PEERS: [(&str, &str); 6] = [
    ("squid", "-v"),
    ("privoxy", "--version"),
    ("haproxy", "-v"),
    ("apache2", "-v"),
    ("danted", "-v"),
    ("ncat", "--version"),
];

/// Parsers that ours is compared with, from Python's package index; `PERSIST_PYTHON` names the interpreter that has them.
const PYTHON_MODULES: &str = "h11 and httptools";

/// A proxy in Python, for the full run.
const PYTHON_PROXY: &str = "proxy.py";

/// Targets that have no `std` or no threads: the core must build for them.
const BARE_TARGETS: [&str; 2] = ["thumbv7em-none-eabihf", "wasm32-unknown-unknown"];

pub(crate) fn run(options: &[String]) -> Outcome {
    let [full, require_peers] = shell::flags(options, ["--full", "--require-peers"])?;
    let lacking = report_peers(full);
    if require_peers && !lacking.is_empty() {
        return Err(format!("peers are required, and {} is not installed", lacking.join(", ")));
    }
    let persist = build_command()?;

    let mut tests = shell::cargo();
    tests.args(["test", "--workspace", "--all-features", "--no-fail-fast"]).env("PERSIST_BIN", persist);
    if require_peers {
        tests.env("PERSIST_REQUIRE_PEERS", "1");
    }
    if full {
        // Fixed seeds are for steadiness; the full run looks for what they miss.
        tests.env("PERSIST_FRESH_SEEDS", "1").env("PROPTEST_CASES", "4096");
        if std::env::var_os("PERSIST_SIM_SEEDS").is_none() {
            tests.env("PERSIST_SIM_SEEDS", "2000");
        }
        tests.args(["--", "--include-ignored"]);
    }
    let mut tally = count(&mut tests)?;
    let steps: [fn() -> Outcome; 2] = [|| standalone::run(&[]), test_without_features];
    let longer: [fn() -> Outcome; 6] = [
        features::each_alone,
        build_for_bare_targets,
        build_with_oldest_rust,
        check_models,
        fuzz_briefly,
        install_package,
    ];
    for step in steps.into_iter().chain(longer.into_iter().filter(|_| full)) {
        match step() {
            Ok(()) => tally.passed += 1,
            Err(why) => {
                tally.failures.push(why);
                tally.failed += 1;
            }
        }
    }
    if !tally.succeeded && tally.failed == 0 {
        tally.failures.push("cargo itself: see above".into());
        tally.failed = 1;
    }
    for name in &tally.failures {
        println!("failed: {name}");
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    if tally.failed == 0 { Ok(()) } else { Err(String::new()) }
}

/// Prints which peers there are; returns the names of those that are not.
fn report_peers(full: bool) -> Vec<&'static str> {
    let mut lacking = Vec::new();
    for (name, version_option) in PEERS.into_iter().chain(MORE_PEERS.into_iter().filter(|_| full)) {
        match shell::find(name) {
            Some(program) => println!("peer {name}: {}", version(Command::new(program).arg(version_option))),
            None => lacking.push(name),
        }
    }
    let modules = "import h11, httptools; print(h11.__version__, httptools.__version__)";
    let proxy = "import importlib.metadata, proxy; print(importlib.metadata.version('proxy.py'))";
    for (name, program) in [(PYTHON_MODULES, modules)].into_iter().chain(full.then_some((PYTHON_PROXY, proxy))) {
        match python(program) {
            Some(versions) => println!("peer {name}: {versions}"),
            None => lacking.push(name),
        }
    }
    for name in &lacking {
        println!("peer {name}: not installed, so the tests that need it are left out");
    }
    lacking
}

/// What a program says in the Python that tests use; `None` if it fails, as it does where a module is lacking.
fn python(program: &str) -> Option<String> {
    let python = std::env::var_os("PERSIST_PYTHON").map(PathBuf::from).or_else(|| shell::find("python3"))?;
    shell::output(Command::new(python).args(["-c", program])).ok().map(|said| said.trim().to_owned())
}

/// The first line of what a program says about itself; some say it on stderr.
fn version(command: &mut Command) -> String {
    let Ok(output) = command.output() else { return "cannot be started".into() };
    let text = [output.stdout, output.stderr].concat();
    String::from_utf8_lossy(&text).lines().next().unwrap_or("says nothing").to_owned()
}

/// Builds the `persist` command that interop tests start, with the features of the test build, so that little is built twice.
fn build_command() -> Result<PathBuf, String> {
    shell::run(shell::cargo().args(["build", "--workspace", "--all-features", "--bin", "persist"]))?;
    Ok(shell::target_dir().join("debug").join(format!("persist{}", std::env::consts::EXE_SUFFIX)))
}

struct Tally {
    passed: u64,
    failed: u64,
    failures: Vec<String>,
    /// Whether the command itself succeeded: a test that does not compile fails no test.
    succeeded: bool,
}

/// Runs the tests with their output passed through, and adds up what they report.
fn count(command: &mut Command) -> Result<Tally, String> {
    let mut child = command.stdout(Stdio::piped()).spawn().map_err(|error| format!("cannot start cargo: {error}"))?;
    let mut tally = Tally { passed: 0, failed: 0, failures: Vec::new(), succeeded: false };
    let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
    for line in lines.map_while(Result::ok) {
        println!("{line}");
        if let Some((passed, failed)) = result_line(&line) {
            tally.passed += passed;
            tally.failed += failed;
        }
        if let Some(name) = line.strip_prefix("test ").and_then(|rest| rest.strip_suffix(" ... FAILED")) {
            tally.failures.push(name.to_owned());
        }
    }
    tally.succeeded = child.wait().map_err(|error| format!("cannot wait for cargo: {error}"))?.success();
    Ok(tally)
}

/// The numbers of a line like `test result: ok. 12 passed; 0 failed; 1 ignored; ...`.
fn result_line(line: &str) -> Option<(u64, u64)> {
    let rest = line.strip_prefix("test result: ")?;
    let number_before = |word: &str| rest.split_once(word)?.0.rsplit_once(' ')?.1.parse().ok();
    Some((number_before(" passed")?, number_before(" failed")?))
}

/// Runs the libraries' own tests as most users build them: what some of them hold, as the size of an idle connection, is true without features only.
fn test_without_features() -> Outcome {
    let mut tests = shell::cargo();
    tests.args(["test", "--quiet", "--lib"]);
    shell::run(tests.args(["-p", "persist-core", "-p", "persist-sync", "-p", "persist-async", "-p", "persist-proxy"]))
}

/// Builds the core where there is no `std`: the proof that it needs none.
fn build_for_bare_targets() -> Outcome {
    for target in BARE_TARGETS {
        let build = ["check", "-p", "persist-core", "--no-default-features", "--target", target];
        shell::run(shell::cargo().args(build))
            .map_err(|why| format!("{why}\nif the target is not installed: rustup target add {target}"))?;
    }
    Ok(())
}

/// Builds everything with the Rust version that the manifests promise.
fn build_with_oldest_rust() -> Outcome {
    let version = env!("CARGO_PKG_RUST_VERSION");
    let mut rustup = Command::new("rustup");
    rustup.current_dir(shell::root()).env("CARGO_TARGET_DIR", shell::target_dir().join("oldest")).env_remove("CARGO");
    shell::run(rustup.args([
        "run",
        version,
        "cargo",
        "check",
        "--quiet",
        "--workspace",
        "--all-targets",
        "--all-features",
    ]))
    .map_err(|why| format!("{why}\nif that version is not installed: rustup toolchain install {version}"))
}

/// Runs the async adapter under a model checker's interleavings, ten times as many as by default.
fn check_models() -> Outcome {
    let mut models = shell::cargo();
    models.args(["test", "--quiet", "-p", "persist-async", "--lib", "models"]);
    models.env("RUSTFLAGS", "--cfg persist_model").env("CARGO_TARGET_DIR", shell::target_dir().join("model"));
    shell::run(models.env("PERSIST_MODEL_RUNS", "10000"))
}

/// Builds the Debian package, installs it in a folder, and runs what it installed.
fn install_package() -> Outcome {
    dist::run(&["--try".to_owned()])
}

/// Runs each fuzz target for long enough to try its seeds and some thousand inputs more.
fn fuzz_briefly() -> Outcome {
    fuzz::run(&["--seconds".to_owned(), "20".to_owned()])
}

#[cfg(test)]
mod tests {
    use super::result_line;

    #[test]
    fn result_lines_are_added_up_and_other_lines_are_not() {
        let line = "test result: FAILED. 12 passed; 3 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.02s";
        assert_eq!(result_line(line), Some((12, 3)));
        assert_eq!(result_line("running 12 tests"), None);
    }
}
