//! A strict reader of OpenMetrics 1.0 text, as far as UpFlow uses it: a page that breaks a rule is refused, as
//! `promtool check metrics` and Prometheus itself would.
//! <https://github.com/prometheus/OpenMetrics/blob/v1.0.0/specification/OpenMetrics.md>

use std::collections::BTreeMap;

type Labels = BTreeMap<String, String>;

/// The samples of a page.
#[derive(Debug, Default)]
pub struct Page {
    samples: Vec<(String, Labels, f64)>,
}

#[derive(Debug, Default)]
struct Family {
    name: String,
    kind: String,
    unit: Option<String>,
    help: bool,
}

impl Page {
    pub fn parse(text: &str) -> Result<Self, String> {
        let body = text.strip_suffix("# EOF\n").ok_or("it does not end with # EOF")?;
        let (mut page, mut seen, mut family) = (Self::default(), Vec::new(), Family::default());
        for line in body.lines() {
            let wrong = |why: &str| format!("{why}: {line}");
            if let Some(meta) = line.strip_prefix("# ") {
                let mut words = meta.splitn(3, ' ');
                let (Some(what), Some(name), Some(rest)) =
                    (words.next(), words.next(), words.next())
                else {
                    return Err(wrong("it is no HELP, TYPE or UNIT"));
                };
                if family.name != name {
                    family.check()?;
                    if seen.contains(&name.to_owned()) {
                        return Err(wrong("the family stands twice"));
                    }
                    seen.push(name.to_owned());
                    family = Family { name: name.to_owned(), ..Family::default() };
                }
                match what {
                    "HELP" if !rest.is_empty() => family.help = true,
                    "TYPE" if ["counter", "gauge", "histogram"].contains(&rest) => {
                        family.kind = rest.to_owned();
                    }
                    "UNIT" => family.unit = Some(rest.to_owned()),
                    _ => return Err(wrong("it is no HELP, TYPE or UNIT")),
                }
                continue;
            }
            let (name, labels, value) = sample(line).ok_or_else(|| wrong("it is no sample"))?;
            let suffix = name.strip_prefix(&family.name).ok_or_else(|| wrong("a stray sample"))?;
            let fits = match family.kind.as_str() {
                "counter" => suffix == "_total" && value >= 0.0,
                "gauge" => suffix.is_empty(),
                "histogram" => ["_bucket", "_count", "_sum"].contains(&suffix),
                _ => false,
            };
            if !fits {
                return Err(wrong("the sample does not fit its type"));
            }
            if page.samples.iter().any(|(known, with, _)| *known == name && *with == labels) {
                return Err(wrong("the sample stands twice"));
            }
            page.samples.push((name, labels, value));
        }
        family.check()?;
        page.check_buckets()?;
        Ok(page)
    }

    /// The sum of the samples of this name that have these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.matching(name, labels).map(|(.., value)| value).sum()
    }

    pub fn has(&self, name: &str, labels: &[(&str, &str)]) -> bool {
        self.matching(name, labels).next().is_some()
    }

    /// All values that a label has.
    pub fn values(&self, label: &str) -> Vec<&str> {
        let values = self.samples.iter().filter_map(|(_, labels, _)| labels.get(label));
        values.map(String::as_str).collect()
    }

    fn matching<'a>(
        &'a self,
        name: &'a str,
        labels: &'a [(&'a str, &'a str)],
    ) -> impl Iterator<Item = &'a (String, Labels, f64)> {
        let fits = move |with: &Labels| {
            labels.iter().all(|(label, value)| with.get(*label).is_some_and(|v| v == value))
        };
        self.samples.iter().filter(move |(known, with, _)| known == name && fits(with))
    }

    /// Buckets grow to the one without an end, which is the count.
    fn check_buckets(&self) -> Result<(), String> {
        for (name, labels, count) in &self.samples {
            let Some(family) = name.strip_suffix("_count") else { continue };
            let bucket = format!("{family}_bucket");
            let of_this = |with: &Labels| {
                let mut with = with.clone();
                with.remove("le").is_some() && with == *labels
            };
            let found = self.samples.iter().filter(|(known, ..)| *known == bucket);
            let found = found.filter(|(_, with, _)| of_this(with)).map(|(_, with, value)| {
                let bound = if with["le"] == "+Inf" { f64::INFINITY } else { number(&with["le"])? };
                Some((bound, *value))
            });
            let found: Option<Vec<_>> = found.collect();
            let found = found.ok_or_else(|| format!("{bucket}: a bound that is no number"))?;
            let grows = found.windows(2).all(|two| two[0].0 < two[1].0 && two[0].1 <= two[1].1);
            if !grows || found.last() != Some(&(f64::INFINITY, *count)) {
                return Err(format!("{family}: {found:?} are no buckets of {count}"));
            }
        }
        Ok(())
    }
}

impl Family {
    fn check(&self) -> Result<(), String> {
        let unit = self.unit.as_ref();
        let named = unit.is_none_or(|unit| self.name.ends_with(&format!("_{unit}")));
        match self.name.is_empty() || (self.help && !self.kind.is_empty() && named) {
            true => Ok(()),
            false => Err(format!("the family is not described as it should be: {self:?}")),
        }
    }
}

fn sample(line: &str) -> Option<(String, Labels, f64)> {
    let (name, labels, value) = match line.split_once('{') {
        Some((name, rest)) => {
            let (labels, value) = rest.rsplit_once("} ")?;
            (name, labels, value)
        }
        None => line.split_once(' ').map(|(name, value)| (name, "", value))?,
    };
    let mut found = Labels::new();
    // None of ours has a comma or a quote in it.
    for pair in labels.split(',').filter(|pair| !pair.is_empty()) {
        let (label, value) = pair.split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        if !is_name(label) || value.contains(['"', '\\', '\n']) {
            return None;
        }
        if found.insert(label.to_owned(), value.to_owned()).is_some() {
            return None;
        }
    }
    is_name(name).then_some((name.to_owned(), found, number(value)?))
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

fn is_name(text: &str) -> bool {
    let mut letters = text.chars();
    letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
}
