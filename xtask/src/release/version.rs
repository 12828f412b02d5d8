//! Version numbers as cargo takes them: three numbers and perhaps a pre-release, in the order of Semantic Versioning 2.0.0 §11.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// `1.2.3` or `1.2.3-rc.1`. Build metadata has no order and is refused.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Version {
    numbers: [u64; 3],
    pre: Vec<Identifier>,
}

/// One part of a pre-release. Numbers come before words.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Identifier {
    Number(u64),
    Word(String),
}

impl FromStr for Version {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let refuse = || format!("`{text}` is no version: write it like 1.2.3 or 1.2.3-rc.1");
        let (numbers, pre) = text.split_once('-').map_or((text, None), |(numbers, pre)| (numbers, Some(pre)));
        let mut parsed = [0; 3];
        let mut parts = numbers.split('.');
        for number in &mut parsed {
            *number = parts.next().and_then(number_of).ok_or_else(refuse)?;
        }
        if parts.next().is_some() {
            return Err(refuse());
        }
        let pre = pre.map_or(Some(Vec::new()), |pre| pre.split('.').map(identifier).collect()).ok_or_else(refuse)?;
        Ok(Self { numbers: parsed, pre })
    }
}

/// Digits without a leading zero.
fn number_of(text: &str) -> Option<u64> {
    let is_canonical = text == "0" || !text.starts_with('0');
    (is_canonical && text.bytes().all(|byte| byte.is_ascii_digit())).then(|| text.parse().ok())?
}

fn identifier(text: &str) -> Option<Identifier> {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        number_of(text).map(Identifier::Number)
    } else {
        text.bytes().all(is_word).then(|| Identifier::Word(text.to_owned()))
    }
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        for (index, part) in self.pre.iter().enumerate() {
            f.write_str(if index == 0 { "-" } else { "." })?;
            match part {
                Identifier::Number(number) => write!(f, "{number}")?,
                Identifier::Word(word) => f.write_str(word)?,
            }
        }
        Ok(())
    }
}

impl Ord for Version {
    fn cmp(&self, other: &Self) -> Ordering {
        // A release comes after its pre-releases.
        let pre = || match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => self.pre.cmp(&other.pre),
        };
        self.numbers.cmp(&other.numbers).then_with(pre)
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::Version;

    #[test]
    fn versions_have_the_order_of_the_specification() {
        let rising = [
            "0.1.0",
            "0.2.0-alpha",
            "0.2.0-alpha.1",
            "0.2.0-alpha.beta",
            "0.2.0-rc.2",
            "0.2.0-rc.11",
            "0.2.0",
            "0.10.0",
            "1.0.0",
        ];
        let versions: Vec<Version> = rising.iter().map(|text| text.parse().expect(text)).collect();
        assert!(versions.is_sorted_by(|a, b| a < b), "{versions:?}");
        assert_eq!(versions.iter().map(ToString::to_string).collect::<Vec<_>>(), rising);
    }

    #[test]
    fn what_is_no_version_is_refused_by_name() {
        for text in [
            "",
            "1",
            "1.2",
            "1.2.3.4",
            "v1.2.3",
            "01.2.3",
            "1.2.x",
            "1.2.3-",
            "1.2.3-a..b",
            "1.2.3-01",
            "1.2.3+b",
            "1.2.-3",
        ] {
            let refused = text.parse::<Version>().expect_err(text);
            assert!(refused.contains(&format!("`{text}`")), "{refused}");
        }
    }
}
