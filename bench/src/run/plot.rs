//! The plots, in SVG: bars, and nothing that a library would be worth for.

use std::fmt::Write as _;

use super::rows::Row;

const WIDTH: f64 = 960.0;
const BAR: f64 = 22.0;
/// Where bars begin; names stand left of it.
const LEFT: f64 = 470.0;
const RIGHT: f64 = 80.0;
const TOP: f64 = 56.0;

/// A bar: its name, how long it is, what stands behind it, its colour.
pub struct Bar {
    pub name: String,
    pub length: f64,
    pub text: String,
    pub colour: &'static str,
}

pub const GOOD: &str = "#2f855a";
pub const BAD: &str = "#c53030";
pub const SHADES: [&str; 3] = ["#90cdf4", "#4299e1", "#2b6cb0"];

/// How much of each goal was used: a bar that ends before the line has met it.
pub fn goals(rows: &[Row]) -> String {
    let bars = rows.iter().filter_map(|row| {
        let used = row.used()?;
        let met = row.met?;
        Some(Bar {
            name: if row.on.is_empty() {
                row.what.clone()
            } else {
                format!("{}, {}", row.what, row.on)
            },
            length: used,
            text: format!("{:.0} %", used * 100.0),
            colour: if met { GOOD } else { BAD },
        })
    });
    let bars: Vec<Bar> = bars.collect();
    draw("How much of what each goal allows was used (the line is the goal)", &bars, 2.0, Some(1.0))
}

/// Horizontal bars, cut off at `most`, and a line.
pub fn draw(title: &str, bars: &[Bar], most: f64, line: Option<f64>) -> String {
    let height = TOP + bars.len() as f64 * BAR + 24.0;
    let scale = (WIDTH - LEFT - RIGHT) / most;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n\
         <text x=\"16\" y=\"28\" font-size=\"16\" fill=\"#1a202c\">{}</text>\n",
        escaped(title)
    );
    for (bar, number) in bars.iter().zip(0..) {
        let y = TOP + f64::from(number) * BAR;
        let length = (bar.length.clamp(0.0, most) * scale).max(1.0);
        // Writing to a String cannot fail.
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\" fill=\"#2d3748\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{:.1}\" width=\"{length:.1}\" height=\"{:.1}\" fill=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"#2d3748\">{}</text>",
            LEFT - 8.0,
            y + 14.0,
            escaped(&bar.name),
            y + 2.0,
            BAR - 6.0,
            bar.colour,
            LEFT + length + 6.0,
            y + 14.0,
            escaped(&bar.text),
        );
    }
    if let Some(line) = line {
        let x = LEFT + line * scale;
        let _ = writeln!(
            svg,
            "<line x1=\"{x:.1}\" x2=\"{x:.1}\" y1=\"{:.1}\" y2=\"{:.1}\" stroke=\"#1a202c\" stroke-dasharray=\"4 3\"/>",
            TOP - 8.0,
            height - 16.0
        );
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}
