//! Writes the command's man pages and completions, for packages: `cargo run -p persist-cli --example pages -- FOLDER`.

use std::path::PathBuf;
use std::{fs, io};

use clap::{CommandFactory as _, ValueEnum as _};
use clap_complete::Shell;

fn main() -> io::Result<()> {
    let folder = PathBuf::from(std::env::args_os().nth(1).unwrap_or_else(|| ".".into()));
    let mut command = persist_cli::Cli::command();
    for part in ["man", "completions"] {
        fs::create_dir_all(folder.join(part))?;
    }
    for shell in Shell::value_variants() {
        clap_complete::generate_to(*shell, &mut command, "persist", folder.join("completions"))?;
    }
    clap_mangen::generate_to(command.disable_help_subcommand(true), folder.join("man"))
}
