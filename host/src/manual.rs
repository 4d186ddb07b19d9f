//! Manual pages, made from the same definitions as `--help`.

use clap_mangen::Man;
use clap_mangen::roff::{Roff, roman};

/// The manual page of a program in roff, for `man -l -`. The text below the options of `--help` ends the page.
#[must_use]
pub fn page(command: clap::Command) -> String {
    page_with(command, "")
}

/// [`page`] with `sections` in roff between the options and the end.
pub(crate) fn page_with(command: clap::Command, sections: &str) -> String {
    let notes = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let man = Man::new(command.after_help(None::<&'static str>));
    let mut page = rendered(|out| man.render(out));
    page.push_str(sections);
    let mut end = Roff::new();
    end.control("SH", ["EXAMPLES AND NOTES"]).control("nf", []);
    for line in notes.lines() {
        end.text([roman(line)]);
    }
    page.push_str(&end.control("fi", []).render());
    page
}

/// What `render` writes.
pub(crate) fn rendered(render: impl FnOnce(&mut dyn std::io::Write) -> std::io::Result<()>) -> String {
    let mut bytes = Vec::new();
    // Writing to memory can't fail.
    _ = render(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}
