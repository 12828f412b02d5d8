//! Rust source without its comments and without the insides of its literals, so that a word found is a word used.

/// Blanks comments and literals; keeps every line break.
pub(super) fn strip(source: &str) -> String {
    let mut rest = source;
    let mut code = String::with_capacity(source.len());
    while let Some(first) = rest.chars().next() {
        let skipped = literal_or_comment(rest, code.chars().next_back());
        if skipped == 0 {
            code.push(first);
            rest = &rest[first.len_utf8()..];
        } else {
            code.push(' ');
            code.extend(rest[..skipped].chars().filter(|&c| c == '\n'));
            rest = &rest[skipped..];
        }
    }
    code
}

/// How many bytes the comment or literal at the start of `rest` takes; 0 if there is none.
fn literal_or_comment(rest: &str, before: Option<char>) -> usize {
    if rest.starts_with("//") {
        return rest.find('\n').unwrap_or(rest.len());
    }
    if rest.starts_with("/*") {
        return block_comment(rest);
    }
    if let Some(inside) = rest.strip_prefix('"') {
        return 1 + quoted(inside, '"');
    }
    // `r` ends many an identifier; a raw string's stands alone, or behind a `b` or `c` that does.
    let word_goes_on = before.is_some_and(|c| c.is_alphanumeric() && c != 'b' && c != 'c' || c == '_');
    if rest.starts_with('r') && !word_goes_on {
        return raw_string(rest);
    }
    if let Some(inside) = rest.strip_prefix('\'') {
        let mut characters = inside.chars();
        return match (characters.next(), characters.next()) {
            (Some('\\'), _) => 1 + quoted(inside, '\''),
            (Some(c), Some('\'')) => 2 + c.len_utf8(),
            _ => 0, // a lifetime
        };
    }
    0
}

fn block_comment(rest: &str) -> usize {
    let bytes = rest.as_bytes();
    let (mut at, mut depth) = (0, 0);
    while at < bytes.len() {
        match bytes.get(at..at + 2) {
            Some(b"/*") => (at, depth) = (at + 2, depth + 1),
            Some(b"*/") => (at, depth) = (at + 2, depth - 1),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn quoted(inside: &str, end: char) -> usize {
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        if !escaped && c == end {
            return at + c.len_utf8();
        }
        escaped = !escaped && c == '\\';
    }
    inside.len()
}

fn raw_string(rest: &str) -> usize {
    let hashes = rest[1..].bytes().take_while(|&b| b == b'#').count();
    let Some(inside) = rest[1 + hashes..].strip_prefix('"') else { return 0 };
    let end = format!("\"{}", "#".repeat(hashes));
    rest.len() - inside.len() + inside.find(&end).map_or(inside.len(), |at| at + end.len())
}

#[cfg(test)]
mod tests {
    use super::strip;

    #[test]
    fn comments_and_literals_go_and_code_and_lines_stay() {
        let source = "let a = \"unsafe \\\" still\"; // unsafe\n/* unsafe /* nested */\n */ for r in r#\"unsafe\"#.x('\"', b'\\'') { f::<'a>() }\n";
        let code = strip(source);
        assert!(!code.contains("unsafe"), "{code}");
        assert!(code.contains("let a =") && code.contains("for r in") && code.contains("f::<'a>()"), "{code}");
        assert_eq!(code.lines().count(), source.lines().count());
    }
}
