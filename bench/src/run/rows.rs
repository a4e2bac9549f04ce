//! What was found: one row for each figure, with its floor, its goal and whether it is met, as markdown and JSON.

use std::fmt::Write as _;

use serde::Serialize;

/// What a figure counts.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Seconds,
    Milliseconds,
    Microseconds,
    Mebibytes,
    PerSecond,
    Requests,
}

/// What is asked of a figure.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// Ours is at most so many times the floor.
    TimesFloor(f64),
    /// Ours is at least so many times the floor.
    OfFloor(f64),
    /// Ours is at most this.
    AtMost(f64),
    /// Ours is at most so much more than the floor.
    AboveFloor(f64),
    /// Nothing is asked: the figure explains another one.
    None,
}

#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub what: String,
    /// Which S3 server, and whether chunks were copied ahead; empty where neither matters.
    pub on: String,
    pub unit: Unit,
    pub ours: f64,
    /// What it is held against, and how much that was.
    pub floor: Option<(String, f64)>,
    pub goal: Goal,
    pub ratio: Option<f64>,
    pub met: Option<bool>,
    /// Of the figures whose median this is, the lowest and the highest.
    pub spread: Option<(f64, f64)>,
}

impl Row {
    pub fn new(what: impl Into<String>, on: impl Into<String>, unit: Unit, ours: f64) -> Row {
        Row {
            what: what.into(),
            on: on.into(),
            unit,
            ours,
            floor: None,
            goal: Goal::None,
            ratio: None,
            met: None,
            spread: None,
        }
    }

    /// The median of several figures.
    pub fn of(what: impl Into<String>, on: impl Into<String>, unit: Unit, figures: &[f64]) -> Row {
        let mut row = Row::new(what, on, unit, median(figures));
        let low = figures.iter().copied().fold(f64::INFINITY, f64::min);
        let high = figures.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        row.spread = (figures.len() > 1).then_some((low, high));
        row
    }

    pub fn against(mut self, what: impl Into<String>, floor: f64) -> Row {
        self.floor = Some((what.into(), floor));
        self.ratio = Some(self.ours / floor);
        self
    }

    /// Held against figures of the same rounds: the ratio is the median of the rounds' own, since what slows
    /// the machine down lasts longer than one.
    pub fn by_rounds(mut self, what: impl Into<String>, ours: &[f64], floor: &[f64]) -> Row {
        let ratios: Vec<f64> = ours.iter().zip(floor).map(|(ours, floor)| ours / floor).collect();
        self = self.against(what, median(floor));
        self.ratio = Some(median(&ratios));
        self
    }

    pub fn goal(mut self, goal: Goal) -> Row {
        self.goal = goal;
        let (ours, ratio) = (self.ours, self.ratio);
        let floor = self.floor.as_ref().map(|(_, floor)| *floor);
        self.met = match goal {
            Goal::TimesFloor(most) => ratio.map(|ratio| ratio <= most),
            Goal::OfFloor(least) => ratio.map(|ratio| ratio >= least),
            Goal::AtMost(most) => Some(ours <= most),
            Goal::AboveFloor(most) => floor.map(|floor| ours - floor <= most),
            Goal::None => None,
        };
        self
    }

    /// How much of what is allowed was used; 1 is the goal, less is better.
    pub fn used(&self) -> Option<f64> {
        let floor = self.floor.as_ref().map(|(_, floor)| *floor);
        match self.goal {
            Goal::TimesFloor(most) => self.ratio.map(|ratio| ratio / most),
            Goal::OfFloor(least) => self.ratio.map(|ratio| least / ratio),
            Goal::AtMost(most) => Some(self.ours / most),
            Goal::AboveFloor(most) => floor.map(|floor| (self.ours - floor).max(0.0) / most),
            Goal::None => None,
        }
    }

    fn goal_text(&self) -> String {
        match self.goal {
            Goal::TimesFloor(most) => format!("at most {most} times"),
            Goal::OfFloor(least) => format!("at least {least} times"),
            Goal::AtMost(most) => format!("at most {}", self.unit.show(most)),
            Goal::AboveFloor(most) => format!("at most {} more", self.unit.show(most)),
            Goal::None => String::new(),
        }
    }
}

impl Unit {
    pub fn show(self, figure: f64) -> String {
        let digits = match figure.abs() {
            100.0.. => 0,
            10.0.. => 1,
            _ => 2,
        };
        let unit = match self {
            Unit::Seconds => " s",
            Unit::Milliseconds => " ms",
            Unit::Microseconds => " µs",
            Unit::Mebibytes => " MiB",
            Unit::PerSecond => " /s",
            Unit::Requests => "",
        };
        format!("{figure:.digits$}{unit}")
    }
}

/// The rows as a table of markdown.
pub fn markdown(rows: &[Row]) -> String {
    let mut text = String::from(
        "| what | on | ours | floor | ratio | goal | met |\n|---|---|---|---|---|---|---|\n",
    );
    for row in rows {
        let spread = row
            .spread
            .map(|(low, high)| format!(" ({} to {})", row.unit.show(low), row.unit.show(high)));
        let floor =
            row.floor.as_ref().map(|(what, floor)| format!("{}: {what}", row.unit.show(*floor)));
        let met = match row.met {
            Some(true) => "yes",
            Some(false) => "**no**",
            None => "",
        };
        // Writing to a String cannot fail.
        let _ = writeln!(
            text,
            "| {} | {} | {}{} | {} | {} | {} | {met} |",
            row.what,
            row.on,
            row.unit.show(row.ours),
            spread.unwrap_or_default(),
            floor.unwrap_or_default(),
            row.ratio.map(|ratio| format!("{ratio:.2}")).unwrap_or_default(),
            row.goal_text(),
        );
    }
    text
}

/// The middle one; of an even number the mean of both.
pub fn median(figures: &[f64]) -> f64 {
    let mut figures = figures.to_vec();
    figures.sort_unstable_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match (figures.len() % 2, figures.get(middle)) {
        (_, None) => f64::NAN,
        (1, Some(figure)) => *figure,
        (_, Some(figure)) => (figure + figures.get(middle - 1).unwrap_or(figure)) / 2.0,
    }
}

/// The value below which this share of the figures lies.
pub fn percentile(figures: &mut [f64], share: f64) -> f64 {
    figures.sort_unstable_by(f64::total_cmp);
    let at = (figures.len() as f64 * share).ceil() as usize;
    figures.get(at.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}
