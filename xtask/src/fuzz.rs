//! `cargo xtask fuzz`: builds the fuzz targets with the coverage that libFuzzer follows, and runs each for a while.
//!
//! Needs a C++ compiler and nothing else: what `cargo fuzz` would set is set here, so that one stable toolchain is enough.

use std::path::Path;
use std::process::Command;

use crate::{Outcome, shell};

pub(crate) const OPTIONS: &str = "[--seconds N] [TARGET]...";

/// A target, the dictionary that speaks its language, and how long an input may be.
const TARGETS: [(&str, Option<&str>, u32); 6] = [
    ("request", Some("message"), 4096),
    ("response", Some("message"), 4096),
    ("chunked", Some("chunked"), 2048),
    ("pair", None, 1024),
    ("batch", Some("batch"), 4096),
    ("keep_alive", Some("keep_alive"), 256),
];

/// Coverage counters and comparisons; assertions on, so that a broken promise is a finding.
const RUSTFLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
     -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
     -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1";

pub(crate) fn run(options: &[String]) -> Outcome {
    let (seconds, wanted) = parse(options)?;
    let folder = shell::root().join("tests").join("fuzz");
    let built = build(&folder)?;
    let mut findings = Vec::new();
    for (name, dictionary, len) in TARGETS {
        if wanted.is_empty() || wanted.iter().any(|other| other == name) {
            println!("fuzz {name}: {seconds} s");
            if let Err(why) = shell::run(&mut fuzzer(&folder, &built, name, dictionary, len, seconds)?) {
                findings.push(format!("{name} ({why})"));
            }
        }
    }
    if findings.is_empty() {
        return Ok(());
    }
    Err(format!("findings, with their inputs in tests/fuzz/artifacts: {}", findings.join("; ")))
}

fn parse(options: &[String]) -> Result<(u64, Vec<String>), String> {
    let (mut seconds, mut wanted) = (60, Vec::new());
    let mut options = options.iter();
    while let Some(option) = options.next() {
        if option == "--seconds" {
            let number = options.next().and_then(|number| number.parse().ok());
            seconds = number.ok_or("--seconds takes a number of seconds")?;
        } else if TARGETS.iter().any(|(name, ..)| name == option) {
            wanted.push(option.clone());
        } else {
            let names = TARGETS.map(|(name, ..)| name).join(", ");
            return Err(format!("`{option}` is neither an option nor a target; targets: {names}"));
        }
    }
    Ok((seconds, wanted))
}

/// Builds all targets; returns the folder that they lie in.
fn build(folder: &Path) -> Result<std::path::PathBuf, String> {
    let version = shell::output(Command::new("rustc").arg("-vV"))?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).ok_or("rustc does not tell its host")?;
    let mut cargo = shell::cargo();
    // With a target named, the flags do not reach build scripts.
    cargo.current_dir(folder).args(["build", "--release", "--target", host]);
    cargo.env("RUSTFLAGS", RUSTFLAGS).env("RUSTC_BOOTSTRAP", "1").env_remove("CARGO_TARGET_DIR");
    shell::run(&mut cargo)?;
    Ok(folder.join("target").join(host).join("release"))
}

fn fuzzer(
    folder: &Path,
    built: &Path,
    name: &str,
    dictionary: Option<&str>,
    len: u32,
    seconds: u64,
) -> Result<Command, String> {
    let (corpus, artifacts) = (folder.join("corpus").join(name), folder.join("artifacts").join(name));
    for path in [&corpus, &artifacts] {
        std::fs::create_dir_all(path).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    let mut fuzzer = Command::new(built.join(name));
    fuzzer.current_dir(folder).arg(&corpus).arg(folder.join("seeds").join(name));
    fuzzer.arg(format!("-artifact_prefix={}/", artifacts.display()));
    fuzzer.arg(format!("-max_total_time={seconds}")).arg(format!("-max_len={len}"));
    // A hang is a finding, and so is memory without limit.
    fuzzer.args(["-timeout=10", "-rss_limit_mb=1024", "-print_final_stats=1", "-use_value_profile=1"]);
    if let Some(dictionary) = dictionary {
        fuzzer.arg(format!("-dict={}", folder.join("dictionaries").join(dictionary).display()) + ".dict");
    }
    Ok(fuzzer)
}

#[cfg(test)]
mod tests {
    use super::{TARGETS, parse};
    use crate::shell;

    #[test]
    fn every_target_has_its_program_seeds_and_dictionary() {
        let folder = shell::root().join("tests/fuzz");
        for (name, dictionary, _) in TARGETS {
            assert!(folder.join(format!("fuzz_targets/{name}.rs")).is_file(), "{name}");
            assert!(folder.join("seeds").join(name).is_dir(), "{name}");
            if let Some(dictionary) = dictionary {
                assert!(folder.join(format!("dictionaries/{dictionary}.dict")).is_file(), "{name}");
            }
        }
    }

    #[test]
    fn options_name_seconds_and_targets() {
        let options = |text: &str| text.split(' ').map(String::from).collect::<Vec<_>>();
        assert_eq!(parse(&options("--seconds 7 pair")), Ok((7, vec![String::from("pair")])));
        assert!(parse(&options("--seconds x")).is_err());
        assert!(parse(&options("pears")).is_err());
    }
}
