//! Splits bytes into lines.

/// The longest line. A longer one becomes several, and the SDKs put a line feed between them.
const LONGEST: usize = 256 << 10;

/// The start of a line whose end is not known yet.
#[derive(Debug, Default)]
pub(super) struct Lines(Vec<u8>);

impl Lines {
    /// Calls `each` with the text and the ending of each line that `bytes` complete.
    pub(super) fn add(&mut self, bytes: &[u8], mut each: impl FnMut(String, &'static str)) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.0.extend_from_slice(part);
            let is_complete = self.0.pop_if(|byte| *byte == b'\n').is_some();
            while self.0.len() > LONGEST {
                let rest = self.0.split_off(boundary(&self.0));
                each(text(&std::mem::replace(&mut self.0, rest)), "");
            }
            if is_complete {
                each(text(&std::mem::take(&mut self.0)), "\n");
            }
        }
    }

    /// Calls `each` with the last line if it has no line feed.
    pub(super) fn finish(self, mut each: impl FnMut(String, &'static str)) {
        if !self.0.is_empty() {
            each(text(&self.0), "");
        }
    }
}

/// The last start of a character up to [`LONGEST`].
fn boundary(bytes: &[u8]) -> usize {
    let is_start = |at: &usize| bytes.get(*at).is_some_and(|byte| byte & 0xc0 != 0x80);
    (LONGEST - 3..=LONGEST).rev().find(is_start).unwrap_or(LONGEST)
}

/// What is not UTF-8 is replaced, because JSON has no other text.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(parts: &[&[u8]]) -> Vec<(String, &'static str)> {
        let (mut lines, mut all) = (Lines::default(), Vec::new());
        for part in parts {
            lines.add(part, |text, ending| all.push((text, ending)));
        }
        lines.finish(|text, ending| all.push((text, ending)));
        all
    }

    #[test]
    fn lines_do_not_depend_on_how_the_bytes_arrive() {
        let expected = [("a", "\n"), ("", "\n"), ("b\r", "\n"), ("ü", "")];
        let expected = expected.map(|(text, ending)| (text.to_owned(), ending));
        let bytes = "a\n\nb\r\nü".as_bytes();
        assert_eq!(split(&[bytes]), expected);
        assert_eq!(split(&bytes.chunks(1).collect::<Vec<_>>()), expected);
    }

    #[test]
    fn a_long_line_is_split_between_characters() {
        let long = "x".to_owned() + &"ü".repeat(LONGEST);
        let lines = split(&[long.as_bytes(), b"\n"]);
        assert_eq!(lines.iter().map(|(text, _)| text.as_str()).collect::<String>(), long);
        assert_eq!(lines.last().unwrap().1, "\n");
        assert!(lines.len() == 3 && lines.iter().all(|(text, _)| text.len() <= LONGEST));
    }

    #[test]
    fn bytes_that_are_not_utf_8_are_replaced() {
        assert_eq!(split(&[b"\xff\n"]), [("\u{fffd}".to_owned(), "\n")]);
    }
}
