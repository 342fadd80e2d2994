//! The report as Markdown and CSV.

use super::ablations::{Difference, ablations, shown};
use super::figures::{METRICS, Spread, Table};
use super::published::PUBLISHED;
use crate::bench::Record;

/// A mean and its spread in per cent: `97.3 +- 0.4`.
pub(super) fn percent(spread: Option<Spread>) -> String {
    match spread {
        None => "-".into(),
        Some(Spread { mean, deviation: None, .. }) => format!("{:.2}", 100.0 * mean),
        Some(Spread { mean, deviation: Some(d), .. }) => format!("{:.2} ± {:.2}", 100.0 * mean, 100.0 * d),
    }
}

/// Tables for people: the means of each kind, then one table a metric.
pub(super) fn markdown(records: &[&Record], table: &Table, title: &str) -> String {
    let kinds = table.shown();
    let mut text = format!(
        "# {title}\n\nFigures in per cent: mean, and deviation over seeds.\n\n## Mean over categories\n\n"
    );
    let row = |text: &mut String, cells: Vec<String>| {
        let cells = cells.iter().map(|c| c.replace('|', "\\|")).collect::<Vec<_>>().join(" | ");
        text.push_str(&format!("| {cells} |\n"));
    };
    let rule = |text: &mut String, columns: usize| {
        text.push_str(&format!("| --- |{}\n", " ---: |".repeat(columns - 1)));
    };
    row(
        &mut text,
        std::iter::once("figures of".to_owned()).chain(METRICS.iter().map(|m| m.label.into())).collect(),
    );
    rule(&mut text, METRICS.len() + 1);
    for &k in &kinds {
        let means = table.means[k].iter().map(|m| percent(*m));
        row(&mut text, std::iter::once(table.kinds[k].name.clone()).chain(means).collect());
    }
    let changed = ablations(records, table);
    if !changed.is_empty() {
        text.push_str(
            "\n## Ablations\n\nOne thing left out or changed: mean, and in brackets points above the same runs without the change.\n\n",
        );
        let header = ["variant", "figures of", "runs"].map(String::from).into_iter();
        row(&mut text, header.chain(shown().map(|m| m.label.to_owned())).collect());
        rule(&mut text, 3 + shown().count());
        for a in changed {
            let cells = a.cells.iter().map(|c| c.map_or_else(|| "-".into(), Difference::text));
            let names = [a.variant, a.figures, a.pairs.to_string()].into_iter();
            row(&mut text, names.chain(cells).collect());
        }
    }
    for (m, metric) in METRICS.iter().enumerate() {
        if kinds.iter().all(|&k| table.cells[k][m].iter().all(Option::is_none)) {
            continue;
        }
        text.push_str(&format!("\n## {}\n\n", metric.label));
        row(
            &mut text,
            std::iter::once("category".to_owned())
                .chain(kinds.iter().map(|&k| table.kinds[k].name.clone()))
                .collect(),
        );
        rule(&mut text, kinds.len() + 1);
        for (c, category) in table.categories.iter().enumerate() {
            row(
                &mut text,
                std::iter::once(category.clone())
                    .chain(kinds.iter().map(|&k| percent(table.cells[k][m][c])))
                    .collect(),
            );
        }
    }
    text.push_str("\n## Published figures (printed by others, not measured here)\n\n");
    row(
        &mut text,
        ["data set", "method", "image AUROC", "pixel AUROC", "protocol"].map(String::from).to_vec(),
    );
    rule(&mut text, 5);
    for p in PUBLISHED {
        row(&mut text, [p.data, p.method, p.image, p.pixel, p.protocol].map(String::from).to_vec());
    }
    text
}

/// One row for each run and kind of figures, full precision.
pub(super) fn csv(records: &[&Record]) -> String {
    let table = Table::of(records);
    let mut writer = csv::Writer::from_writer(Vec::new());
    let header = ["category", "variant", "seed", "figures"].into_iter().chain(METRICS.iter().map(|m| m.key));
    let mut rows = vec![header.map(String::from).collect::<Vec<_>>()];
    for record in records {
        for kind in &table.kinds {
            let figures: Vec<Option<f64>> = METRICS.iter().map(|m| kind.figure(record, m)).collect();
            if figures.iter().all(Option::is_none) {
                continue;
            }
            let mut row = vec![
                record.category.clone(),
                record.variant.clone(),
                record.seed.to_string(),
                kind.key.clone(),
            ];
            row.extend(figures.into_iter().map(|f| f.map_or_else(String::new, |f| f.to_string())));
            rows.push(row);
        }
    }
    for row in rows {
        // Into memory: nothing can fail.
        let _ = writer.write_record(&row);
    }
    writer.into_inner().map_or_else(|_| String::new(), |bytes| String::from_utf8_lossy(&bytes).into_owned())
}
