//! Archives, written here so that they are the same wherever they are made: no owner, no time but the commit's, sorted as given.

use std::collections::BTreeSet;
use std::io::Write as _;

use flate2::{Compression, GzBuilder};

/// One file of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) path: String,
    bytes: Vec<u8>,
    mode: u32,
}

impl Entry {
    pub(super) fn file(path: &str, bytes: Vec<u8>) -> Self {
        Self { path: path.to_owned(), bytes, mode: 0o644 }
    }

    pub(super) fn program(path: &str, bytes: Vec<u8>) -> Self {
        Self { path: path.to_owned(), bytes, mode: 0o755 }
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// A tar archive of the files, and of the folders that they lie in.
pub(super) fn tar(entries: &[Entry], time: u64) -> Result<Vec<u8>, String> {
    let fail = |error: std::io::Error| format!("cannot write an archive: {error}");
    let mut archive = tar::Builder::new(Vec::new());
    let mut folders = BTreeSet::new();
    for entry in entries {
        let parents = entry.path.match_indices('/').map(|(at, _)| &entry.path[..=at]);
        for folder in parents.filter(|folder| *folder != "./") {
            if folders.insert(folder.to_owned()) {
                let mut header = header(0, 0o755, time);
                header.set_entry_type(tar::EntryType::Directory);
                archive.append_data(&mut header, folder, std::io::empty()).map_err(fail)?;
            }
        }
        let mut header = header(entry.bytes.len() as u64, entry.mode, time);
        archive.append_data(&mut header, &entry.path, &entry.bytes[..]).map_err(fail)?;
    }
    archive.into_inner().map_err(fail)
}

fn header(size: u64, mode: u32, time: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_size(size);
    header.set_mode(mode);
    header.set_mtime(time);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// Compressed, without name and time.
pub(super) fn gzip(bytes: &[u8]) -> Result<Vec<u8>, String> {
    let mut writer = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    writer.write_all(bytes).and_then(|()| writer.finish()).map_err(|error| format!("cannot compress: {error}"))
}

/// An `ar` archive, as Debian's packages are: names of at most 15 bytes.
pub(super) fn ar(members: &[(&str, &[u8])], time: u64) -> Vec<u8> {
    let mut archive = b"!<arch>\n".to_vec();
    for (name, bytes) in members {
        archive.extend(
            format!("{name:<16}{time:<12}{0:<6}{0:<6}{mode:<8}{size:<10}`\n", 0, mode = "100644", size = bytes.len())
                .bytes(),
        );
        archive.extend_from_slice(bytes);
        if bytes.len() % 2 == 1 {
            archive.push(b'\n');
        }
    }
    archive
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    #[test]
    fn an_archive_is_the_same_each_time_and_holds_folders_before_their_files() {
        let entries = [Entry::program("a/bin/x", b"run".to_vec()), Entry::file("a/y", b"text".to_vec())];
        let first = gzip(&tar(&entries, 1_700_000_000).expect("an archive")).expect("compressed");
        let second = gzip(&tar(&entries, 1_700_000_000).expect("an archive")).expect("compressed");
        assert_eq!(first, second);
        let mut plain = Vec::new();
        flate2::read::GzDecoder::new(&first[..]).read_to_end(&mut plain).expect("gzip");
        let mut archive = ::tar::Archive::new(&plain[..]);
        let seen: Vec<(String, u32, u64)> = archive
            .entries()
            .expect("tar")
            .map(|entry| {
                let entry = entry.expect("an entry");
                let header = entry.header();
                let path = entry.path().expect("a path").display().to_string();
                (path, header.mode().expect("a mode"), header.mtime().expect("a time"))
            })
            .collect();
        let expected = [("a/", 0o755), ("a/bin/", 0o755), ("a/bin/x", 0o755), ("a/y", 0o644)];
        assert_eq!(seen, expected.map(|(path, mode)| (path.to_owned(), mode, 1_700_000_000)));
    }

    #[test]
    fn members_of_an_ar_archive_begin_at_even_bytes() {
        let archive = ar(&[("debian-binary", b"2.0\n"), ("odd", b"x"), ("z", b"")], 5);
        assert!(archive.starts_with(b"!<arch>\ndebian-binary   5           0     0     100644  4         `\n2.0\n"));
        assert_eq!(archive.len(), 8 + 60 + 4 + 60 + 2 + 60);
    }
}
