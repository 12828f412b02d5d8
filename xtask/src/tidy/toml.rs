//! As much of TOML as our manifests use: sections, and the keys in them. For checks that must also run on files that cargo refuses.

/// One key of a manifest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry<'t> {
    /// The section it stands in, without brackets.
    pub(crate) section: &'t str,
    /// Its name, up to the first dot: `bytes.workspace = true` is `bytes`.
    pub(crate) name: &'t str,
    /// What stands behind the sign, to the end of its last line.
    pub(crate) value: &'t str,
}

/// All keys of a manifest, in order.
pub(crate) fn entries(text: &str) -> Vec<Entry<'_>> {
    let mut entries = Vec::new();
    let mut section = "";
    let mut at = 0;
    let mut lines = text.split_inclusive('\n');
    while let Some(line) = lines.next() {
        let start = at;
        at += line.len();
        let trimmed = line.trim();
        if trimmed.is_empty() || trimmed.starts_with('#') {
            continue;
        }
        if let Some(name) = trimmed.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name.trim_matches(['[', ']']);
            continue;
        }
        let Some(sign) = line.find('=') else { continue };
        // An array that is open at the line's end goes on.
        while text[start + sign..at].matches('[').count() > text[start + sign..at].matches(']').count() {
            match lines.next() {
                Some(more) => at += more.len(),
                None => break,
            }
        }
        let key = line[..sign].trim();
        let name = key.split('.').next().unwrap_or_default().trim_matches('"');
        entries.push(Entry { section, name, value: text[start + sign + 1..at].trim() });
    }
    entries
}

#[cfg(test)]
mod tests {
    use super::{Entry, entries};

    #[test]
    fn sections_dotted_keys_tables_and_long_arrays_are_read() {
        let text = "# x\n[a.b]\nc.workspace = true\nd = { e = [1] }\nf = [\n  \"g\",\n]\n[[bin]]\nname = \"h\"\n";
        let entry = |section, name, value| Entry { section, name, value };
        assert_eq!(
            entries(text),
            [
                entry("a.b", "c", "true"),
                entry("a.b", "d", "{ e = [1] }"),
                entry("a.b", "f", "[\n  \"g\",\n]"),
                entry("bin", "name", "\"h\"")
            ]
        );
    }
}
