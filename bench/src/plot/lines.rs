//! Lines over file sizes or numbers of sessions, one for each server, with logarithmic axes.

use super::svg::{Anchor, Svg, WIDTH, grouped};
use crate::measure::stats;
use crate::results::{ContenderResult, JobResult};

const LEFT: f64 = 76.0;
const RIGHT: f64 = WIDTH - 32.0;
const TOP: f64 = 56.0;
const BOTTOM: f64 = 336.0;

/// Contenders are named `SERVER, SIZE`, sizes in order; `axis` says what a size is.
pub(super) fn draw(title: &str, axis: &str, job: &JobResult, notes: &[String]) -> String {
    let (mut servers, mut sizes) = (Vec::new(), Vec::new());
    let parts = |one: &'_ ContenderResult| one.name.rsplit_once(", ").map(|(a, b)| (a.to_owned(), b.to_owned()));
    for (server, size) in job.contenders.iter().filter_map(parts) {
        if !servers.contains(&server) {
            servers.push(server);
        }
        if !sizes.contains(&size) {
            sizes.push(size);
        }
    }
    let values = || job.contenders.iter().flat_map(|one| &one.values).copied().filter(|value| *value > 0.0);
    // Whole powers of ten around all values.
    let low = values().fold(f64::INFINITY, f64::min).log10().floor();
    let high = values().fold(0.0, f64::max).log10().ceil().max(low + 1.0);
    let place_x = |at: usize| LEFT + (RIGHT - LEFT) * (at as f64 + 0.5) / sizes.len().max(1) as f64;
    let place_y = |value: f64| BOTTOM - (BOTTOM - TOP) * (value.log10() - low) / (high - low);

    let mut svg = Svg::default();
    let mut power = low;
    while power <= high {
        let y = place_y(10_f64.powf(power));
        svg.line("grid", (LEFT, y), (RIGHT, y));
        svg.text("note", Anchor::End, LEFT - 6.0, y + 4.0, &grouped(10_f64.powf(power)));
        power += 1.0;
    }
    svg.text("note", Anchor::Start, 16.0, TOP - 12.0, "MB/s; higher is better");
    for (at, size) in sizes.iter().enumerate() {
        svg.text("note", Anchor::Middle, place_x(at), BOTTOM + 16.0, size);
    }
    svg.text("note", Anchor::Middle, (LEFT + RIGHT) / 2.0, BOTTOM + 32.0, axis);
    svg.line("axis", (LEFT, BOTTOM), (RIGHT, BOTTOM));

    for (number, server) in servers.iter().enumerate() {
        let class = format!("series s{}", number % 4);
        let mut points = Vec::new();
        for (at, size) in sizes.iter().enumerate() {
            let Some(one) = job.contender(&format!("{server}, {size}")) else { continue };
            let Some((first, third)) = stats::quartiles(&one.values) else { continue };
            // Side by side, so that spreads do not hide one another.
            let x = place_x(at) + 4.0 * (number as f64 - (servers.len() - 1) as f64 / 2.0);
            svg.line(&class, (x, place_y(first)), (x, place_y(third)));
            points.push((x, place_y(one.median())));
        }
        svg.polyline(&class, &points);
        let (x, y) = (LEFT + 16.0, TOP + 12.0 + 16.0 * number as f64);
        svg.line(&class, (x, y), (x + 20.0, y));
        svg.text("note", Anchor::Start, x + 26.0, y + 4.0, server);
    }
    svg.finish(title, BOTTOM + 36.0, notes)
}
