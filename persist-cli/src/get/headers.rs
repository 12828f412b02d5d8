//! The fields of a request: the defaults, and what `-H`, `-A` and `-u` make of them, as in curl.

use std::fs;
use std::io::{self, Read as _};

use persist_core::{FieldName, FieldValue, Fields, InvalidField};

/// The fields that the user gave, checked.
#[derive(Clone, Debug, Default)]
pub(super) struct Headers {
    given: Vec<Given>,
    /// `Transfer-Encoding: chunked` was asked for.
    pub(super) chunked: bool,
}

#[derive(Clone, Debug)]
struct Given {
    name: String,
    /// `None`: `Name:`, which leaves out the default.
    value: Option<String>,
}

impl Headers {
    /// Reads `-H` options; `@FILE` holds one field a line.
    ///
    /// # Errors
    /// What is wrong, for a person.
    pub(super) fn parse(options: &[String]) -> Result<Self, String> {
        let mut headers = Self::default();
        for option in options {
            match option.strip_prefix('@') {
                Some(name) => {
                    let text = read(name).map_err(|error| format!("-H @{name}: {error}"))?;
                    text.lines().filter(|line| !line.trim().is_empty()).try_for_each(|line| headers.add(line))?;
                }
                None => headers.add(option)?,
            }
        }
        Ok(headers)
    }

    /// `Name: value`, `Name:` or `Name;`.
    fn add(&mut self, line: &str) -> Result<(), String> {
        let (name, value) = match (line.split_once(':'), line.strip_suffix(';')) {
            (Some((name, value)), _) => (name, Some(value.trim()).filter(|value| !value.is_empty())),
            (None, Some(name)) => (name, Some("")),
            (None, None) => return Err(format!("-H {line:?}: neither `Name: value`, nor `Name:`, nor `Name;`")),
        };
        FieldName::new(name).map_err(|error| format!("-H {line:?}: {error}"))?;
        FieldValue::new(value.unwrap_or_default().as_bytes()).map_err(|error| format!("-H {line:?}: {error}"))?;
        let is = |field: &str| name.eq_ignore_ascii_case(field);
        if is("Transfer-Encoding") && value.is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            self.chunked = true;
            return Ok(());
        }
        // Framing follows from the content; a field that contradicted it would be a smuggled request.
        if is("Content-Length") || is("Transfer-Encoding") {
            return Err(format!("-H {line:?}: the framing of a request follows from its content, and cannot be given"));
        }
        self.given.push(Given { name: name.to_owned(), value: value.map(str::to_owned) });
        Ok(())
    }

    /// The fields of one request: `defaults` that the user did not replace or leave out, then what the user gave.
    ///
    /// # Errors
    /// A default whose value comes from the user and is no field value.
    pub(super) fn fields(&self, defaults: &[(&str, &str)]) -> Result<Fields, InvalidField> {
        let mut fields = Fields::new();
        let kept = defaults.iter().filter(|(name, _)| !self.names(name)).map(|(name, value)| (*name, *value));
        let given = self.given.iter().filter_map(|given| Some((given.name.as_str(), given.value.as_deref()?)));
        for (name, value) in kept.chain(given) {
            fields.push(name, value)?;
        }
        Ok(fields)
    }

    fn names(&self, name: &str) -> bool {
        self.given.iter().any(|given| given.name.eq_ignore_ascii_case(name))
    }
}

fn read(name: &str) -> io::Result<String> {
    if name != "-" {
        return fs::read_to_string(name);
    }
    let mut text = String::new();
    io::stdin().read_to_string(&mut text).map(|_| text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn show(options: &[&str]) -> Result<Vec<String>, String> {
        let options: Vec<String> = options.iter().map(|&option| option.to_owned()).collect();
        let fields = Headers::parse(&options)?.fields(&[("Host", "h"), ("Accept", "*/*")]).unwrap();
        let show = |field: persist_core::Field<'_>| format!("{}={}", field.name, field.value.to_str().unwrap());
        Ok(fields.iter().map(show).collect())
    }

    #[test]
    fn a_field_is_added_replaced_left_out_or_empty_as_in_curl() {
        assert_eq!(show(&["X: 1", "X: 2"]).unwrap(), ["Host=h", "Accept=*/*", "X=1", "X=2"]);
        assert_eq!(show(&["accept: text/html"]).unwrap(), ["Host=h", "accept=text/html"]);
        assert_eq!(show(&["Accept:"]).unwrap(), ["Host=h"]);
        assert_eq!(show(&["X;"]).unwrap(), ["Host=h", "Accept=*/*", "X="]);
    }

    #[test]
    fn what_would_forge_a_request_is_refused() {
        for bad in ["X: a\r\nY: b", "X y: z", ": v", "X", "Content-Length: 3", "Transfer-Encoding: gzip", ""] {
            assert!(show(&[bad]).is_err(), "{bad:?}");
        }
    }
}
