//! Collecting what is wrong with the settings.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The faults found so far.
#[derive(Debug, Default)]
pub struct Faults(Vec<(String, String)>);

/// All that is wrong with the settings, a line each.
#[derive(Debug)]
pub struct NotConfigured(Vec<(String, String)>);

impl Faults {
    pub fn add(&mut self, variable: &str, problem: impl Into<String>) {
        self.0.push((variable.to_owned(), problem.into()));
    }

    /// The value of a variable that must be set and not empty.
    pub fn required(
        &mut self,
        variable: &str,
        value: Option<String>,
        what: &str,
    ) -> Option<String> {
        let value = value.filter(|value| !value.trim().is_empty());
        if value.is_none() {
            self.add(variable, format!("is not set: {what}"));
        }
        value
    }

    /// A number within `range`.
    pub fn number<T>(
        &mut self,
        variable: &str,
        value: &str,
        range: std::ops::RangeInclusive<T>,
    ) -> Option<T>
    where
        T: FromStr + PartialOrd + fmt::Display,
    {
        let number = value.trim().parse().ok().filter(|number| range.contains(number));
        if number.is_none() {
            let (least, most) = (range.start(), range.end());
            self.add(variable, format!("must be a number from {least} to {most}, not {value:?}"));
        }
        number
    }

    /// A length of time such as `15m` or `7d`, within `range`.
    pub fn duration(
        &mut self,
        variable: &str,
        value: &str,
        range: std::ops::RangeInclusive<Duration>,
    ) -> Option<Duration> {
        let duration = humantime::parse_duration(value.trim())
            .ok()
            .filter(|duration| range.contains(duration));
        if duration.is_none() {
            let (least, most) = (
                humantime::format_duration(*range.start()),
                humantime::format_duration(*range.end()),
            );
            self.add(
                variable,
                format!("must be a time from {least} to {most}, written like 90s, 15m, 12h or 7d, not {value:?}"),
            );
        }
        duration
    }

    /// A number of bytes, with a binary unit or without, within `range`.
    pub fn bytes(
        &mut self,
        variable: &str,
        text: &str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Option<i64> {
        let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let power = ["", "KiB", "MiB", "GiB", "TiB"].iter().position(|known| *known == unit.trim());
        let bytes = number.parse::<i64>().ok().zip(power);
        let bytes = bytes.and_then(|(number, power)| number.checked_mul(1 << (10 * power)));
        let bytes = bytes.filter(|bytes| range.contains(bytes));
        if bytes.is_none() {
            let (least, most) = (range.start(), range.end());
            let form = "in bytes, or with KiB, MiB, GiB or TiB as in 8MiB";
            self.add(
                variable,
                format!("must be a size from {least} to {most} {form}, not {text:?}"),
            );
        }
        bytes
    }

    pub fn flag(&mut self, variable: &str, value: &str) -> Option<bool> {
        match value.trim().to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Some(true),
            "0" | "false" | "no" | "off" => Some(false),
            _ => {
                self.add(variable, format!("must be true or false, not {value:?}"));
                None
            }
        }
    }

    /// The settings, if nothing was wrong with them.
    pub fn end<T>(self, settings: Option<T>) -> Result<T, NotConfigured> {
        match settings {
            Some(settings) if self.0.is_empty() => Ok(settings),
            _ => Err(NotConfigured(self.0)),
        }
    }
}

impl fmt::Display for NotConfigured {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the settings are not complete:")?;
        for (variable, problem) in &self.0 {
            write!(f, "\n  {variable} {problem}")?;
        }
        f.write_str("\nThey come from the environment or a .env file; .env.example explains each.")
    }
}

impl std::error::Error for NotConfigured {}
