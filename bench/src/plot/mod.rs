//! Plots of saved results as SVG text: the same results give the same bytes.

mod bars;
mod lines;
mod svg;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use clap::Args;
use serde::Deserialize;

use crate::counts;
use crate::measure::pin::Placement;
use crate::results::{JobResult, Results};
use bars::{Bar, Kind, Panel};

/// The command line of `plot`.
#[derive(Debug, Clone, Args)]
pub(crate) struct Plot {
    /// Files that `host` and `device` wrote. If several have the job of a plot, the last one is plotted
    #[arg(required = true, value_name = "RESULTS")]
    results: Vec<PathBuf>,

    /// Directory for the plots
    #[arg(long, value_name = "DIR", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/plots"))]
    out: PathBuf,

    /// Instructions of the protocol core, as `counts --write` saves them
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/results/counts.json"))]
    counts: PathBuf,

    /// Instructions of the device server, as `cargo firmware count` checks them
    #[arg(long, value_name = "FILE", default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../firmware/budgets.toml"))]
    budgets: PathBuf,
}

/// Plots with bars: file, title, jobs.
const BARS: [(&str, &str, &[&str]); 6] = [
    ("large-files", "One file of 1 GiB", &["get-tmpfs", "put-tmpfs", "put-disk"]),
    ("protected-files", "One file of 512 MiB over protected connections", &["sealed-get-tmpfs", "sealed-put-tmpfs"]),
    ("small-files", "2,000 files of 1 KiB", &["small-get-disk", "small-put-disk"]),
    ("one-small-file", "One file of 500 bytes", &["session", "tiny"]),
    ("device", "The embedded server behind a TAP", &["get", "put"]),
    (
        "device-small-buffers",
        "The embedded server with socket buffers of 2 and 4 KiB",
        &["small-buffers-get", "small-buffers-put"],
    ),
];

/// The jobs that are plotted as lines.
const FILE_SIZES: &str = "file-sizes";
const SESSIONS: &str = "sessions";

/// Writes the plots and prints their names.
pub(crate) fn run(args: &Plot) -> Result<()> {
    let results = args.results.iter().map(|path| Results::read(path)).collect::<Result<Vec<_>>>()?;
    fs::create_dir_all(&args.out).with_context(|| args.out.display().to_string())?;
    let write = |name: &str, svg: String| {
        let path = args.out.join(name).with_extension("svg");
        fs::write(&path, svg).with_context(|| path.display().to_string())?;
        println!("{}", path.display());
        Ok::<_, anyhow::Error>(())
    };
    for (name, title, jobs) in BARS {
        if let Some((run, jobs)) = find(&results, jobs) {
            let panels: Vec<_> = jobs.into_iter().map(Panel::of).collect();
            write(name, bars::draw(title, &panels, &circumstances(run)))?;
        }
    }
    let (run, jobs) = find(&results, &[FILE_SIZES]).unzip();
    for job in jobs.into_iter().flatten() {
        let (name, title) = match job.placement {
            Some(Placement::OneProcessor) => ("file-sizes-one-processor", ", server and client on one processor"),
            Some(Placement::TwoProcessors) => (FILE_SIZES, ", server and client on two processors"),
            None => (FILE_SIZES, ""),
        };
        let title = format!("Throughput by file size, one session{title}");
        write(name, lines::draw(&title, "size of each file", job, &run.map(circumstances).unwrap_or_default()))?;
    }
    for (run, job) in
        find(&results, &[SESSIONS]).into_iter().flat_map(|(run, jobs)| jobs.into_iter().map(move |job| (run, job)))
    {
        let title = "Throughput by number of sessions, files of 1 KiB";
        write(SESSIONS, lines::draw(title, "sessions at a time", job, &circumstances(run)))?;
    }
    let panels = [on_cortex_m(&args.budgets)?, of_the_core(&args.counts)?];
    let note = ["Counted by QEMU and by valgrind: the same on every run, so there is no spread."];
    write("instructions", bars::draw("Instructions", &panels, &note.map(str::to_owned)))
}

/// The last run that has one of these jobs, and those of them that it has.
fn find<'r>(results: &'r [Results], jobs: &[&str]) -> Option<(&'r Results, Vec<&'r JobResult>)> {
    let of = |run: &'r Results| {
        let found = jobs.iter().flat_map(|name| run.jobs.iter().filter(move |job| job.job == *name));
        found.collect::<Vec<_>>()
    };
    results.iter().rev().map(|run| (run, of(run))).find(|(_, jobs)| !jobs.is_empty())
}

/// Where and when a run was made, and the meaning of its spread.
fn circumstances(run: &Results) -> Vec<String> {
    let (machine, date) = (&run.machine, run.date.get(..10).unwrap_or_default());
    let kernel = machine.kernel.split('-').next().unwrap_or_default();
    let rounds = run.jobs.first().and_then(|job| job.contenders.first()).map_or(0, |one| one.values.len());
    vec![
        format!(
            "{date}, commit {}, {}, {} processors, {kernel}",
            machine.commit, machine.processor, machine.processors
        ),
        format!("The median of {rounds} rounds; half of all rounds lie between the ends of the thin line."),
    ]
}

fn on_cortex_m(budgets: &Path) -> Result<Panel> {
    #[derive(Deserialize)]
    struct Budgets {
        server: Server,
    }
    #[derive(Deserialize)]
    struct Server {
        ping: f64,
        write: f64,
        read: f64,
        put: f64,
        get: f64,
    }
    let text = fs::read_to_string(budgets).with_context(|| budgets.display().to_string())?;
    let Budgets { server } = toml::from_str(&text).with_context(|| budgets.display().to_string())?;
    let bars = [
        ("per KiB: put", server.put),
        ("per KiB: get", server.get),
        ("a ping", server.ping),
        ("a write of nothing", server.write),
        ("a read of nothing", server.read),
    ];
    Ok(counted("Device server on a Cortex-M3, with TCP stack and store in RAM", bars))
}

fn of_the_core(counts: &Path) -> Result<Panel> {
    // 64 KiB would dwarf the others; 1 KiB shows the same.
    let kept = counts::kept(counts)?.into_iter().filter(|(name, ..)| *name != "crc-64k");
    Ok(counted("Protocol core on x86-64, without I/O", kept.map(|(_, what, value)| (what, value))))
}

fn counted<'n>(title: &str, figures: impl IntoIterator<Item = (&'n str, f64)>) -> Panel {
    let bar = |(name, value): (&str, f64)| Bar {
        name: name.to_owned(),
        kind: Kind::Ours,
        spread: (value, value),
        median: value,
        label: svg::grouped(value),
    };
    Panel {
        title: title.to_owned(),
        axis: "instructions".to_owned(),
        scale: 1.0,
        bars: figures.into_iter().map(bar).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::Sample;
    use crate::results::{ContenderResult, Role, Unit};

    fn job(unit: Unit, contenders: &[(&str, Role, &[f64])]) -> JobResult {
        let contender = |(name, role, values): &(&str, Role, &[f64])| {
            let samples: Vec<_> = values.iter().map(|&value| Sample { value, ..Sample::default() }).collect();
            ContenderResult::new(name, *role, &samples, Vec::new())
        };
        JobResult {
            job: "x".to_owned(),
            placement: None,
            what: "a <job>".to_owned(),
            unit,
            contenders: contenders.iter().map(contender).collect(),
            goals: Vec::new(),
            skipped: Vec::new(),
            others: None,
        }
    }

    /// True if `words` occur in the text in this order.
    fn follow(svg: &str, words: &[&str]) -> bool {
        let mut rest = svg;
        words.iter().all(|word| {
            rest.split_once(word).is_some_and(|(_, behind)| {
                rest = behind;
                true
            })
        })
    }

    #[test]
    fn bars_stand_beside_each_other_the_best_first_and_too_long_ones_are_cut() {
        let job = job(
            Unit::Seconds,
            &[
                ("slow & old", Role::Peer, &[90.0, 91.0, 92.0]),
                ("skiff", Role::Skiff, &[2.0, 1.0, 3.0]),
                ("skiff server", Role::SkiffServer, &[0.5, 0.5, 0.5]),
                ("fast", Role::Peer, &[0.5, 0.6, 0.7]),
                ("limit: cp", Role::Limit, &[0.1, 0.1, 0.1]),
            ],
        );
        let draw = || bars::draw("Title", &[Panel::of(&job)], &["note".to_owned()]);
        let svg = draw();
        assert_eq!(svg, draw());
        let order = ["<title>Title", "a &lt;job&gt;", ">fast<", ">0.600 s<", ">skiff<", ">2.00 s<", ">slow &amp; old<"];
        assert!(
            follow(&svg, &order) && follow(&svg, &[">91.0 s<", ">limit: cp<", "seconds; shorter is better"]),
            "{svg}"
        );
        assert!(!svg.contains("skiff server"), "{svg}");
        // The axis ends at 3 times skiff's third quartile of 2.5 s, rounded up to a tick.
        assert_eq!((svg.matches("class=\"cut\"").count(), svg.matches(">8<").count()), (1, 1), "{svg}");
        assert!(svg.contains("A bar with a gap") && svg.contains("width=\"720\""), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn lines_go_through_the_sizes_of_each_server() {
        let values: &[f64] = &[90.0, 100.0, 110.0];
        let job = job(
            Unit::MbPerSecond,
            &[
                ("skiff, 1 KiB", Role::SkiffServer, &[9.0, 10.0, 11.0]),
                ("nginx, 1 KiB", Role::PeerServer, &[9.0, 10.0, 11.0]),
                ("skiff, 16 KiB", Role::SkiffServer, values),
            ],
        );
        let svg = lines::draw("Title", "size of each file", &job, &[]);
        assert!(follow(&svg, &["MB/s; higher is better", ">1 KiB<", ">16 KiB<", "size of each file"]), "{svg}");
        let points = |class: &str| {
            let line = svg.lines().find(|line| line.starts_with("<polyline") && line.contains(class));
            line.map_or(0, |line| line.matches(',').count())
        };
        assert_eq!((points("s0"), points("s1")), (2, 1), "{svg}");
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    fn kept(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("results").join(name)
    }

    fn plot(results: Vec<PathBuf>, dir: &Path) -> Plot {
        let budgets = kept("../../firmware/budgets.toml");
        Plot { results, out: dir.join("plots"), counts: kept("counts.json"), budgets }
    }

    #[test]
    fn a_run_of_file_sizes_alone_becomes_a_plot() {
        let dir = tempfile::tempdir().unwrap();
        let mut results = Results::read(&kept("2026-11-28-host.json")).unwrap();
        let sizes = ["1 KiB", "16 KiB", "64 MiB"];
        let names: Vec<_> =
            sizes.iter().flat_map(|size| [format!("skiff, {size}"), format!("nginx, {size}")]).collect();
        let contenders: Vec<_> =
            names.iter().map(|name| (name.as_str(), Role::SkiffServer, &[9.0, 11.0][..])).collect();
        results.jobs = vec![JobResult { job: FILE_SIZES.to_owned(), ..job(Unit::MbPerSecond, &contenders) }];
        let path = dir.path().join("file-sizes.json");
        fs::write(&path, serde_json::to_string(&results).unwrap()).unwrap();
        let args = plot(vec![kept("2026-11-28-host.json"), path], dir.path());
        run(&args).unwrap();
        let svg = fs::read_to_string(args.out.join("file-sizes.svg")).unwrap();
        assert!(
            follow(&svg, &["Throughput by file size", ">1 KiB<", ">64 MiB<", ">skiff<", ">nginx<", "median of 2"]),
            "{svg}"
        );
        assert_eq!(svg.matches("<polyline").count(), 2, "{svg}");
    }

    #[test]
    fn kept_results_of_the_repository_can_be_plotted() {
        let dir = tempfile::tempdir().unwrap();
        let args = plot(vec![kept("2026-11-28-host.json"), kept("2026-11-25-device.json")], dir.path());
        run(&args).unwrap();
        let names = fs::read_dir(&args.out).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        let all = ["device-small-buffers", "device", "instructions", "large-files", "one-small-file", "small-files"];
        assert_eq!(names, all.map(|name| format!("{name}.svg")));
    }

    #[test]
    fn ticks_are_round_and_reach_the_end() {
        let shown = |end: f64| svg::ticks(end).into_iter().map(svg::grouped).collect::<Vec<_>>().join(" ");
        let ends = [0.0, 0.43, 9.0, 1200.0].map(shown);
        assert_eq!(ends, ["0 1", "0 0.1 0.2 0.3 0.4 0.5", "0 2 4 6 8 10", "0 500 1,000 1,500"]);
        assert_eq!([25_233.0, 0.25, 1e6, 999.0].map(svg::grouped), ["25,233", "0.25", "1,000,000", "999"]);
    }
}
