//! Where the content goes: `-o`, `-O`, `--remote-name-all`, `--output-dir`; and how files are named.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use super::sink::Sum;

/// The name of a file for a URL whose path ends in `/`.
const INDEX: &str = "index.html";

/// The outputs that the command line names, in its order: the first is for the first URL, and so on, as in curl.
#[derive(Clone, Debug, Default)]
pub(super) struct Outputs {
    named: Vec<Named>,
    all_remote: bool,
    dir: Option<PathBuf>,
    create_dirs: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Named {
    /// `-o FILE`
    File(PathBuf),
    /// `-O`
    Remote,
}

/// Where one URL's content goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    Stdout,
    File(PathBuf),
    /// The demo: nowhere, but its digest is compared.
    Check(Sum),
}

/// Gives each URL its target, in the order asked.
#[derive(Debug)]
pub(super) struct Namer<'o> {
    outputs: &'o Outputs,
    next: usize,
    taken: HashSet<String>,
}

impl Outputs {
    pub(super) fn namer(&self) -> Namer<'_> {
        Namer { outputs: self, next: 0, taken: HashSet::new() }
    }

    /// Whether directories that are missing are made (`--create-dirs`).
    pub(super) fn create_dirs(&self) -> bool {
        self.create_dirs
    }

    fn in_dir(&self, name: &Path) -> PathBuf {
        // As in curl: an absolute `-o` is where it says.
        self.dir.as_ref().map_or_else(|| name.to_owned(), |dir| dir.join(name))
    }
}

impl Namer<'_> {
    /// The target of the next URL, whose path (no query) this is.
    pub(super) fn target(&mut self, path: &str) -> Target {
        let named = self.outputs.named.get(self.next);
        self.next += 1;
        match named {
            Some(Named::File(file)) if file.as_os_str() == "-" => Target::Stdout,
            Some(Named::File(file)) => Target::File(self.outputs.in_dir(file)),
            Some(Named::Remote) => self.remote(path),
            // `--output-dir` on its own asks for files; with -o or -O it only says where they go.
            None if self.outputs.all_remote || (self.outputs.dir.is_some() && self.outputs.named.is_empty()) => {
                self.remote(path)
            }
            None => Target::Stdout,
        }
    }

    fn remote(&mut self, path: &str) -> Target {
        let name = last_segment(path);
        let mut unique = name.clone();
        let mut copy = 0;
        while !self.taken.insert(unique.clone()) {
            copy += 1;
            unique = format!("{name}.{copy}");
        }
        Target::File(self.outputs.in_dir(Path::new(&unique)))
    }
}

/// The last segment of a URL's path, just as it is written there: `%2F` stays `%2F`, so it cannot leave the directory.
///
/// What a file system would understand otherwise is escaped: `.` and `..`, back slashes and colons (Windows), control characters.
fn last_segment(path: &str) -> String {
    let segment = path.rsplit('/').next().unwrap_or_default();
    match segment {
        "" => return INDEX.to_owned(),
        "." => return "%2E".to_owned(),
        ".." => return "%2E%2E".to_owned(),
        _ => {}
    }
    let mut name = String::with_capacity(segment.len());
    for character in segment.chars() {
        match character {
            '\\' | ':' | '\0'..='\x1f' | '\x7f' => name.push_str(&format!("%{:02X}", u32::from(character))),
            _ => name.push(character),
        }
    }
    name
}

/// By hand, because the order among `-o` and `-O` counts.
impl clap::Args for Outputs {
    fn augment_args(command: Command) -> Command {
        command
            .arg(
                Arg::new("output")
                    .short('o')
                    .long("output")
                    .value_name("FILE")
                    .action(ArgAction::Append)
                    .value_parser(value_parser!(PathBuf))
                    .help("Write the content to this file; again for each further URL; - is standard output"),
            )
            .arg(
                Arg::new("remote-name")
                    .short('O')
                    .long("remote-name")
                    .action(ArgAction::Append)
                    .num_args(0)
                    .default_missing_value("true")
                    .value_parser(value_parser!(bool))
                    .help(
                        "Write the content to a file named by the URL's last path segment; again for each further URL",
                    ),
            )
            .arg(
                Arg::new("remote-name-all")
                    .long("remote-name-all")
                    .action(ArgAction::SetTrue)
                    .help("-O for every URL that has no -o"),
            )
            .arg(
                Arg::new("output-dir")
                    .long("output-dir")
                    .value_name("DIR")
                    .value_parser(value_parser!(PathBuf))
                    .help("Write files into this directory; without -o and -O it means --remote-name-all"),
            )
            .arg(
                Arg::new("create-dirs")
                    .long("create-dirs")
                    .action(ArgAction::SetTrue)
                    .help("Make the directories that output files need"),
            )
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Outputs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let files = matches.get_many::<PathBuf>("output").unwrap_or_default().cloned().map(Named::File);
        let mut named: Vec<_> = matches.indices_of("output").unwrap_or_default().zip(files).collect();
        named.extend(matches.indices_of("remote-name").unwrap_or_default().map(|index| (index, Named::Remote)));
        named.sort_by_key(|(index, _)| *index);
        Ok(Self {
            named: named.into_iter().map(|(_, named)| named).collect(),
            all_remote: matches.get_flag("remote-name-all"),
            dir: matches.get_one::<PathBuf>("output-dir").cloned(),
            create_dirs: matches.get_flag("create-dirs"),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn targets(args: &[&str], paths: &[&str]) -> Vec<String> {
        let command = Outputs::augment_args(Command::new("get"));
        let matches = command.try_get_matches_from([&["get"], args].concat()).unwrap();
        let outputs = Outputs::from_arg_matches(&matches).unwrap();
        let mut namer = outputs.namer();
        let show = |target| match target {
            Target::Stdout => "(stdout)".to_owned(),
            Target::File(path) => path.display().to_string(),
            Target::Check(_) => unreachable!("only the demo asks for that"),
        };
        paths.iter().map(|path| show(namer.target(path))).collect()
    }

    #[test]
    fn each_output_is_for_one_url_in_the_order_of_the_command_line() {
        assert_eq!(
            targets(&["-o", "one", "-O", "-o", "-"], &["/a", "/b", "/c", "/d"]),
            ["one", "b", "(stdout)", "(stdout)"]
        );
        assert_eq!(targets(&["-O"], &["/a", "/b"]), ["a", "(stdout)"]);
        assert_eq!(targets(&["-OO"], &["/a", "/b"]), ["a", "b"]);
        assert_eq!(targets(&["--remote-name-all", "-o", "x"], &["/a", "/b"]), ["x", "b"]);
    }

    #[test]
    fn output_dir_alone_names_every_file_and_with_o_only_places_it() {
        assert_eq!(targets(&["--output-dir", "d"], &["/x/a", "/b"]), ["d/a", "d/b"]);
        assert_eq!(targets(&["--output-dir", "d", "-o", "x"], &["/a", "/b"]), ["d/x", "(stdout)"]);
    }

    #[test]
    fn clashing_names_are_counted_up_and_never_overwrite_each_other() {
        assert_eq!(
            targets(&["--output-dir", "d"], &["/a", "/x/a", "/a.1", "/y/a"]),
            ["d/a", "d/a.1", "d/a.1.1", "d/a.2"]
        );
    }

    #[test]
    fn no_name_leaves_the_directory() {
        for path in ["/..", "/.", "/a/..", "/..%2F..%2Fetc", "/%2Fetc%2Fpasswd", "/C:\\x", "/a\\..\\b", "/\0", "", "/"]
        {
            let Target::File(file) = (Namer {
                outputs: &Outputs { dir: Some("d".into()), ..Outputs::default() },
                next: 0,
                taken: HashSet::new(),
            })
            .target(path) else {
                panic!("{path}: a file")
            };
            let parts: Vec<_> = file.components().collect();
            assert_eq!(parts.len(), 2, "{path}: {parts:?}");
            assert!(matches!(parts[1], std::path::Component::Normal(_)), "{path}: {parts:?}");
        }
        assert_eq!(last_segment("/a/"), "index.html");
        assert_eq!(last_segment("/a%2Fb"), "a%2Fb");
    }
}
