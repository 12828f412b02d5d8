//! What is sent with every request: `-d` and its relatives, joined in the order given, as curl does.

use std::fs::File;
use std::io::{self, Read as _};

use bytes::Bytes;
use clap::{Arg, ArgAction, ArgMatches, Command};

/// One `-d` or relative, as it stands on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// `-d`: `@FILE` is read without its CR, LF and NUL bytes.
    Text(String),
    /// `--data-raw`: `@` means nothing.
    Raw(String),
    /// `--data-binary`: `@FILE` is read as it is.
    Binary(String),
}

/// All of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Payload {
    pieces: Vec<Piece>,
}

/// A form, unless the user says otherwise.
pub(super) const CONTENT_TYPE: &str = "application/x-www-form-urlencoded";

impl Payload {
    /// Reads what is to be read, and joins the pieces with `&`. `None` if there are none.
    pub(super) fn load(&self) -> Result<Option<Bytes>, (String, io::Error)> {
        if self.pieces.is_empty() {
            return Ok(None);
        }
        let mut joined = Vec::new();
        for (at, piece) in self.pieces.iter().enumerate() {
            if at > 0 {
                joined.push(b'&');
            }
            match piece {
                Piece::Text(text) => match text.strip_prefix('@') {
                    Some(name) => {
                        joined.extend(read(name)?.into_iter().filter(|byte| !matches!(byte, b'\r' | b'\n' | 0)));
                    }
                    None => joined.extend_from_slice(text.as_bytes()),
                },
                Piece::Binary(text) => match text.strip_prefix('@') {
                    Some(name) => joined.append(&mut read(name)?),
                    None => joined.extend_from_slice(text.as_bytes()),
                },
                Piece::Raw(text) => joined.extend_from_slice(text.as_bytes()),
            }
        }
        Ok(Some(joined.into()))
    }
}

/// A file as a whole; `-` is standard input.
fn read(name: &str) -> Result<Vec<u8>, (String, io::Error)> {
    let mut content = Vec::new();
    let read = match name {
        "-" => io::stdin().read_to_end(&mut content),
        _ => File::open(name).and_then(|mut file| file.read_to_end(&mut content)),
    };
    match read {
        Ok(_) => Ok(content),
        Err(error) => Err((name.to_owned(), error)),
    }
}

/// By hand, because the order among different options counts.
impl clap::Args for Payload {
    fn augment_args(command: Command) -> Command {
        let data = |id: &'static str, help: &'static str| {
            Arg::new(id)
                .long(id)
                .value_name("DATA")
                .help(help)
                .action(ArgAction::Append)
                .allow_hyphen_values(true)
                .conflicts_with("upload_file")
        };
        command
            .arg(
                data(
                    "data",
                    "Send this with POST, as a form; @FILE is read, its line ends dropped; again: joined with &",
                )
                .short('d')
                .alias("data-ascii"),
            )
            .arg(data("data-raw", "The same, but @ has no meaning"))
            .arg(data("data-binary", "The same, but @FILE is sent exactly as it is"))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for Payload {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut pieces = Vec::new();
        let mut collect = |id: &str, piece: fn(String) -> Piece| {
            let values = matches.get_many::<String>(id).unwrap_or_default().cloned().map(piece);
            pieces.extend(matches.indices_of(id).unwrap_or_default().zip(values));
        };
        collect("data", Piece::Text);
        collect("data-raw", Piece::Raw);
        collect("data-binary", Piece::Binary);
        pieces.sort_by_key(|(index, _)| *index);
        Ok(Self { pieces: pieces.into_iter().map(|(_, piece)| piece).collect() })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn load(args: &[&str]) -> Option<Bytes> {
        let command = Payload::augment_args(Command::new("get").arg(Arg::new("upload_file").short('T')));
        let matches = command.try_get_matches_from([&["get"], args].concat()).unwrap();
        Payload::from_arg_matches(&matches).unwrap().load().unwrap()
    }

    #[test]
    fn pieces_are_joined_in_the_order_of_the_command_line_whatever_their_option() {
        assert_eq!(load(&["--data-raw", "@a", "-d", "b=1", "--data-binary", "c", "-d", "d"]).unwrap(), "@a&b=1&c&d");
        assert_eq!(load(&[]), None);
        assert_eq!(load(&["-d", ""]).unwrap(), "");
        assert_eq!(load(&["-d", "-5"]).unwrap(), "-5");
    }

    #[test]
    fn a_file_loses_its_line_ends_as_text_and_keeps_them_as_binary() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"a\r\nb\0\nc").unwrap();
        let at = format!("@{}", file.path().display());
        assert_eq!(load(&["-d", &at]).unwrap(), "abc");
        assert_eq!(load(&["--data-binary", &at]).unwrap(), &b"a\r\nb\0\nc"[..]);
    }
}
