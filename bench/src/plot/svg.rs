//! SVG text, and the parts that all plots share: colours, axes, figures.

use core::fmt::{Display, Write as _};

/// The width of all plots.
pub(super) const WIDTH: f64 = 720.0;

/// Every plot has its own background, so that it is readable on any page; in dark mode it is dark.
const STYLE: &str = "\
.back{fill:#fff}text{font:12px system-ui,'Segoe UI',Helvetica,Arial,sans-serif;fill:#1f2328}
.title{font-size:16px;font-weight:600}.panel{font-size:13px;font-weight:600}.note{font-size:11px;fill:#59636e}
.ours{fill:#0969da}.other{fill:#a5adb6}.limit{fill:#fff;stroke:#8c959f;stroke-dasharray:3 2}
.grid{stroke:#e1e6eb}.spread,.axis{stroke:#1f2328}.cut{stroke:#fff;stroke-width:3}
.series{fill:none;stroke-width:2}.s0{stroke:#0969da}.s1{stroke:#bc4c00}.s2{stroke:#1a7f37}.s3{stroke:#8250df}
@media(prefers-color-scheme:dark){.back{fill:#0d1117}text{fill:#e6edf3}.note{fill:#9198a1}
.ours{fill:#4493f8}.other{fill:#656c76}.limit{fill:#0d1117;stroke:#9198a1}
.grid{stroke:#2a313c}.spread,.axis{stroke:#e6edf3}.cut{stroke:#0d1117}
.s0{stroke:#4493f8}.s1{stroke:#f0883e}.s2{stroke:#3fb950}.s3{stroke:#ab7df8}}
";

/// The alignment of a text.
#[derive(Debug, Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A plot that grows downwards.
#[derive(Debug, Default)]
pub(super) struct Svg {
    body: String,
}

impl Svg {
    pub(super) fn text(&mut self, class: &str, anchor: Anchor, x: f64, y: f64, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = escaped(text);
        self.element(format_args!(
            r#"<text class="{class}" text-anchor="{anchor}" x="{x:.1}" y="{y:.1}">{text}</text>"#
        ));
    }

    pub(super) fn rect(&mut self, class: &str, x: f64, y: f64, width: f64, height: f64) {
        self.element(format_args!(
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"/>"#
        ));
    }

    pub(super) fn line(&mut self, class: &str, from: (f64, f64), to: (f64, f64)) {
        let ((x1, y1), (x2, y2)) = (from, to);
        self.element(format_args!(r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#));
    }

    pub(super) fn polyline(&mut self, class: &str, points: &[(f64, f64)]) {
        let points: Vec<_> = points.iter().map(|(x, y)| format!("{x:.1},{y:.1}")).collect();
        self.element(format_args!(r#"<polyline class="{class}" points="{}"/>"#, points.join(" ")));
    }

    fn element(&mut self, element: impl Display) {
        _ = writeln!(self.body, "{element}");
    }

    /// Adds the title above and notes below; `height` is that of the drawing.
    pub(super) fn finish(mut self, title: &str, mut height: f64, notes: &[String]) -> String {
        self.text("title", Anchor::Start, 16.0, 26.0, title);
        for note in notes {
            height += 16.0;
            self.text("note", Anchor::Start, 16.0, height, note);
        }
        height += 12.0;
        let (title, body) = (escaped(title), self.body);
        format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
             viewBox=\"0 0 {WIDTH} {height}\" role=\"img\">\n<title>{title}</title>\n<style>\n{STYLE}</style>\n\
             <rect class=\"back\" width=\"{WIDTH}\" height=\"{height}\"/>\n{body}</svg>\n"
        )
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// At most seven round figures, from 0 to at least `end`.
pub(super) fn ticks(end: f64) -> Vec<f64> {
    if end <= 0.0 {
        return vec![0.0, 1.0];
    }
    let power = 10_f64.powf((end / 5.0).log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].map(|digit| digit * power).into_iter().find(|step| end / step <= 5.0);
    let step = step.unwrap_or(10.0 * power);
    let mut ticks = vec![0.0];
    while ticks.last().is_some_and(|last| *last < end) {
        ticks.push(ticks.len() as f64 * step);
    }
    ticks
}

/// `25233` as `25,233`, `0.25` as `0.25`.
pub(super) fn grouped(value: f64) -> String {
    let text = format!("{}", (value * 1000.0).round() / 1000.0);
    let (whole, part) = text.split_once('.').map_or((text.as_str(), None), |(whole, part)| (whole, Some(part)));
    let mut out = String::new();
    for (at, digit) in whole.chars().enumerate() {
        if at > 0 && (whole.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    part.map_or(out.clone(), |part| format!("{out}.{part}"))
}
