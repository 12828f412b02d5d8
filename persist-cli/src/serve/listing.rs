//! A directory as a page.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Names shown on one page.
pub(super) const NAMES_MAX: usize = 10_000;

/// Kept as they are in a link; everything else is escaped, the colon too, so that no name is taken for a scheme.
const IN_LINK: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'/');

/// The page for the directory at `path` (as it stands in the target).
pub(super) fn page(path: &str, names: &[String], more: bool) -> String {
    let title = escape(&percent_encoding::percent_decode_str(path).decode_utf8_lossy());
    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>{title}</title>\n<h1>{title}</h1>\n<ul>\n"
    );
    if path != "/" {
        page.push_str("<li><a href=\"../\">../</a>\n");
    }
    for name in names {
        // Into a String: cannot fail.
        let _ = writeln!(page, "<li><a href=\"{}\">{}</a>", utf8_percent_encode(name, IN_LINK), escape(name));
    }
    page.push_str("</ul>\n");
    if more {
        let _ = writeln!(page, "<p>Only {NAMES_MAX} names are shown.");
    }
    page
}

/// Text as HTML.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(character),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_break_out_of_the_page() {
        let page = page("/x/", &["<script>\"&.html".to_owned(), "javascript:1".to_owned()], false);
        assert!(!page.contains("<script"), "{page}");
        assert!(page.contains("href=\"%3Cscript%3E%22%26.html\">&lt;script&gt;&quot;&amp;.html<"), "{page}");
        assert!(page.contains("href=\"javascript%3A1\""), "{page}");
    }
}
