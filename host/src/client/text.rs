//! Makes text from a server safe for a terminal.

use core::fmt::Write;
use std::borrow::Cow;

/// `text` with everything that could control a terminal or change the reading direction written as `\u{..}`: control
/// characters, bidirectional overrides, isolates and marks, zero-width characters, line and paragraph separators. A
/// backslash is unchanged.
#[must_use]
pub fn sanitize(text: &str) -> Cow<'_, str> {
    if !text.chars().any(is_dangerous) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if is_dangerous(c) {
            _ = write!(safe, "\\u{{{:x}}}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    Cow::Owned(safe)
}

/// True for a character that [`sanitize`] replaces.
#[must_use]
pub fn is_dangerous(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_steers_a_terminal_is_shown_instead() {
        assert!(matches!(sanitize("olá, 日本 \\n 👩‍🚀".trim_end_matches("‍🚀")), Cow::Borrowed(_)));
        for (text, safe) in [
            ("a\u{1b}[2Jb", "a\\u{1b}[2Jb"),
            ("x\r\n\t\0", "x\\u{d}\\u{a}\\u{9}\\u{0}"),
            ("\u{9b}31m\u{7f}", "\\u{9b}31m\\u{7f}"),
            ("txt.\u{202e}exe", "txt.\\u{202e}exe"),
            ("\u{2066}a\u{2069}\u{200f}\u{61c}", "\\u{2066}a\\u{2069}\\u{200f}\\u{61c}"),
            ("a\u{200b}b\u{feff}\u{2028}\u{2029}\u{ad}", "a\\u{200b}b\\u{feff}\\u{2028}\\u{2029}\\u{ad}"),
            ("\u{e0041}", "\\u{e0041}"),
        ] {
            assert_eq!(sanitize(text), safe);
            assert!(!safe.chars().any(is_dangerous));
        }
    }
}
