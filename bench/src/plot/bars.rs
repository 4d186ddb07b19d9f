//! Horizontal bars, one for each contender, with the spread of its rounds.

use super::svg::{Anchor, Svg, WIDTH, grouped, ticks};
use crate::measure::stats;
use crate::report::short;
use crate::results::{ContenderResult, JobResult, Role, Unit};

/// Where bars begin, and where the axis ends.
const LEFT: f64 = 212.0;
const RIGHT: f64 = 624.0;

const ROW: f64 = 20.0;
const BAR: f64 = 12.0;

/// The axis ends at this multiple of skiff's longest bar; longer bars are cut.
const CUT: f64 = 3.0;

/// The owner of a bar.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Ours,
    Other,
    Limit,
}

#[derive(Debug)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) kind: Kind,
    pub(super) median: f64,
    pub(super) spread: (f64, f64),
    pub(super) label: String,
}

/// Bars over one axis.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) axis: String,
    /// The factor from values to the figures of the axis.
    pub(super) scale: f64,
    pub(super) bars: Vec<Bar>,
}

impl Panel {
    /// The contenders of a job, the best one first and the limit last. Servers alone are left out if whole programs
    /// were measured.
    pub(super) fn of(job: &JobResult) -> Self {
        let programs = job.contenders.iter().any(|one| one.role == Role::Skiff);
        let bar = |one: &ContenderResult| {
            let kind = match one.role {
                Role::Skiff => Kind::Ours,
                Role::Peer => Kind::Other,
                Role::SkiffServer if !programs => Kind::Ours,
                Role::PeerServer if !programs => Kind::Other,
                Role::Limit | Role::SkiffLimit => Kind::Limit,
                Role::SkiffServer | Role::PeerServer => return None,
            };
            Some(Bar {
                name: one.name.clone(),
                kind,
                median: one.median(),
                spread: stats::quartiles(&one.values)?,
                label: String::new(),
            })
        };
        let mut bars: Vec<_> = job.contenders.iter().filter_map(bar).collect();
        bars.sort_by(|one, other| {
            let order = one.median.total_cmp(&other.median);
            let order = if job.unit.is_rate() { order.reverse() } else { order };
            (one.kind == Kind::Limit).cmp(&(other.kind == Kind::Limit)).then(order)
        });
        let (unit, name, scale) = match job.unit {
            Unit::Seconds if end(&bars) < 1.0 => ("ms", "milliseconds", 1e3),
            Unit::Seconds => ("s", "seconds", 1.0),
            Unit::Microseconds => ("us", "microseconds", 1.0),
            Unit::Kib => ("KiB", "KiB", 1.0),
            Unit::MbPerSecond => ("MB/s", "MB/s", 1.0),
            Unit::PerSecond => ("/s", "per second", 1.0),
        };
        for bar in &mut bars {
            bar.label = format!("{} {unit}", short(bar.median * scale));
        }
        let better = if job.unit.is_rate() { "longer" } else { "shorter" };
        let axis = format!("{name}; {better} is better");
        let placement = job.placement.map_or_else(String::new, |placement| format!(" ({})", placement.name()));
        Self { title: format!("{}{placement}", job.what), axis, scale, bars }
    }
}

/// How far the axis has to reach.
fn end(bars: &[Bar]) -> f64 {
    let longest = |ours: bool| {
        let bars = bars.iter().filter(|bar| !ours || bar.kind == Kind::Ours);
        bars.map(|bar| bar.spread.1.max(bar.median)).fold(0.0, f64::max)
    };
    let (all, ours) = (longest(false), longest(true) * CUT);
    if ours > 0.0 { all.min(ours) } else { all }
}

/// A plot of several panels, one below the other.
pub(super) fn draw(title: &str, panels: &[Panel], notes: &[String]) -> String {
    let mut svg = Svg::default();
    legend(&mut svg, panels);
    let mut y = 40.0;
    let mut is_cut = false;
    for panel in panels {
        is_cut |= panel_at(&mut svg, panel, &mut y);
    }
    let cut = is_cut.then(|| "A bar with a gap is longer than the axis.".to_owned());
    let notes: Vec<_> = notes.iter().cloned().chain(cut).collect();
    svg.finish(title, y, &notes)
}

fn legend(svg: &mut Svg, panels: &[Panel]) {
    let drawn = |kind| panels.iter().flat_map(|panel| &panel.bars).any(|bar| bar.kind == kind);
    let kinds = [(Kind::Ours, "skiff", 54.0), (Kind::Other, "others", 62.0), (Kind::Limit, "limit", 42.0)];
    let kinds: Vec<_> = kinds.into_iter().filter(|(kind, ..)| drawn(*kind)).collect();
    if kinds.len() < 2 {
        return;
    }
    let mut x = WIDTH - 16.0 - kinds.iter().map(|(.., width)| width).sum::<f64>();
    for (kind, word, width) in kinds {
        svg.rect(class(kind), x, 16.0, 10.0, 10.0);
        svg.text("note", Anchor::Start, x + 14.0, 25.0, word);
        x += width;
    }
}

/// Draws one panel and moves `y` below it; true if a bar was cut.
fn panel_at(svg: &mut Svg, panel: &Panel, y: &mut f64) -> bool {
    *y += 18.0;
    svg.text("panel", Anchor::Start, 16.0, *y, &panel.title);
    *y += 8.0;
    let ticks = ticks(end(&panel.bars) * panel.scale);
    let last = ticks.last().copied().unwrap_or(1.0);
    let place = |value: f64| LEFT + (RIGHT - LEFT) * (value * panel.scale / last).min(1.0);
    let bottom = *y + ROW * panel.bars.len() as f64;
    for tick in &ticks {
        let x = place(tick / panel.scale);
        svg.line("grid", (x, *y), (x, bottom));
        svg.text("note", Anchor::Middle, x, bottom + 14.0, &grouped(*tick));
    }
    let mut is_cut = false;
    for bar in &panel.bars {
        let (top, middle) = (*y + (ROW - BAR) / 2.0, *y + ROW / 2.0);
        svg.text("name", Anchor::End, LEFT - 8.0, middle + 4.0, &bar.name);
        svg.rect(class(bar.kind), LEFT, top, place(bar.median) - LEFT, BAR);
        let (low, high) = (place(bar.spread.0), place(bar.spread.1));
        if bar.median * panel.scale > last {
            svg.line("cut", (RIGHT - 18.0, top + BAR + 2.0), (RIGHT - 12.0, top - 2.0));
            is_cut = true;
        } else if high - low >= 1.0 {
            svg.line("spread", (low, middle), (high, middle));
            for x in [low, high] {
                svg.line("spread", (x, middle - 3.0), (x, middle + 3.0));
            }
        }
        svg.text("value", Anchor::Start, place(bar.median).max(high) + 6.0, middle + 4.0, &bar.label);
        *y += ROW;
    }
    svg.line("axis", (LEFT, *y - ROW * panel.bars.len() as f64), (LEFT, *y));
    svg.text("note", Anchor::Start, 16.0, *y + 14.0, &panel.axis);
    *y += 26.0;
    is_cut
}

const fn class(kind: Kind) -> &'static str {
    match kind {
        Kind::Ours => "ours",
        Kind::Other => "other",
        Kind::Limit => "limit",
    }
}
