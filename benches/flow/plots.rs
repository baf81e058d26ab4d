//! Curves as SVG.

use std::error::Error;
use std::ops::Range;
use std::path::Path;

use plotters::coord::ranged1d::{DefaultFormatting, KeyPointHint};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

/// A picture of one or more curves.
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    /// Whether the axes are logarithmic; one that is not begins at zero.
    pub(crate) logarithmic: (bool, bool),
    pub(crate) series: Vec<Series>,
}

/// One curve.
pub(crate) struct Series {
    pub(crate) name: &'static str,
    pub(crate) points: Vec<(f64, f64)>,
}

const SIZE: (u32, u32) = (800, 500);
/// How much room is left beyond the outermost points.
const ROOM: f64 = 1.1;
/// Colours that those can tell apart who see no red or no green.
const COLOURS: [RGBColor; 2] = [RGBColor(0, 114, 178), RGBColor(213, 94, 0)];

/// Writes the plot to a file.
pub(crate) fn draw(file: &Path, plot: &Plot) {
    if let Err(error) = drawn(file, plot) {
        panic!("{}: {error}", file.display());
    }
}

fn drawn(file: &Path, plot: &Plot) -> Result<(), Box<dyn Error>> {
    let points = || plot.series.iter().flat_map(|it| &it.points);
    let x = Axis::over(points().map(|it| it.0), plot.logarithmic.0);
    let y = Axis::over(points().map(|it| it.1), plot.logarithmic.1);
    let root = SVGBackend::new(file, SIZE).into_drawing_area();
    root.fill(&WHITE)?;
    let mut chart = ChartBuilder::on(&root)
        .caption(&plot.title, ("sans-serif", 20))
        .margin(16)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .build_cartesian_2d(x, y)?;
    let label = |it: &f64| if *it >= 10.0 || it.fract() == 0.0 { format!("{it:.0}") } else { format!("{it:.1}") };
    chart
        .configure_mesh()
        .x_desc(plot.x)
        .y_desc(plot.y)
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .label_style(("sans-serif", 14))
        .light_line_style(WHITE)
        .draw()?;
    for (series, colour) in plot.series.iter().zip(COLOURS.iter().cycle()) {
        let line = LineSeries::new(series.points.iter().copied(), colour.stroke_width(2)).point_size(3);
        let legend = move |(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2));
        chart.draw_series(line)?.label(series.name).legend(legend);
    }
    if plot.series.len() > 1 {
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperLeft)
            .label_font(("sans-serif", 14))
            .background_style(WHITE)
            .border_style(BLACK)
            .draw()?;
    }
    root.present()?;
    Ok(())
}

/// An axis, linear from zero or logarithmic by powers of two.
#[derive(Clone)]
struct Axis {
    range: Range<f64>,
    logarithmic: bool,
}

impl Axis {
    fn over(values: impl Iterator<Item = f64> + Clone, logarithmic: bool) -> Self {
        let largest = values.clone().fold(f64::MIN_POSITIVE, f64::max);
        let smallest = values.fold(f64::MAX, f64::min).min(largest);
        let range = if logarithmic {
            smallest.log2().floor().exp2()..(largest * ROOM).log2().ceil().exp2()
        } else {
            0.0..largest * ROOM
        };
        Self { range, logarithmic }
    }

    fn place(&self, value: f64) -> f64 {
        if self.logarithmic { value.log2() } else { value }
    }
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, limit: (i32, i32)) -> i32 {
        let (from, to) = (self.place(self.range.start), self.place(self.range.end));
        let share = (self.place(*value) - from) / (to - from);
        limit.0 + (f64::from(limit.1 - limit.0) * share).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if !self.logarithmic {
            return RangedCoordf64::from(self.range.clone()).key_points(hint);
        }
        let exponents = self.place(self.range.start) as i32..=self.place(self.range.end) as i32;
        exponents.map(|it| f64::from(it).exp2()).collect()
    }

    fn range(&self) -> Range<f64> {
        self.range.clone()
    }
}
