//! Plots as SVG: bars for ways, and lines for growth. They are readable on light and on dark pages.

const WIDTH: f64 = 760.0;
const ROW: f64 = 24.0;
const LEFT: f64 = 300.0;
const RIGHT: f64 = 90.0;
const OURS: &str = "#2a7de1";
const OTHERS: &str = "#8a8f98";
const COLOURS: [&str; 6] = ["#8a8f98", "#2a7de1", "#c2410c", "#15803d", "#7e22ce", "#0f766e"];

/// A bar: its label, its value, and whether it belongs to Sandgate.
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) value: f64,
    pub(super) is_ours: bool,
}

/// Horizontal bars from zero.
pub(super) fn bars(title: &str, unit: &str, bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.value).fold(f64::MIN_POSITIVE, f64::max);
    let mut body = String::new();
    let mut top = 44.0;
    for bar in bars {
        let width = bar.value / most * (WIDTH - LEFT - RIGHT);
        let colour = if bar.is_ours { OURS } else { OTHERS };
        body.push_str(&text(LEFT - 8.0, top + 12.0, "end", &bar.label));
        body.push_str(&format!(
            "<rect x=\"{LEFT}\" y=\"{top:.1}\" width=\"{width:.1}\" height=\"16\" fill=\"{colour}\"/>\n"
        ));
        let value = if bar.value < 10.0 {
            format!("{:.2}{unit}", bar.value)
        } else {
            format!("{:.0}{unit}", bar.value)
        };
        body.push_str(&text(LEFT + width + 6.0, top + 12.0, "start", &value));
        top += ROW;
    }
    frame(title, top + 8.0, &body)
}

/// A line: its label and its points.
pub(super) struct Line {
    pub(super) label: String,
    pub(super) points: Vec<(f64, f64)>,
}

/// Lines from the origin, both axes linear.
pub(super) fn lines(title: &str, across: &str, lines: &[Line]) -> String {
    let (left, bottom, height) = (70.0, 300.0, 240.0);
    let all = || lines.iter().flat_map(|line| &line.points);
    let most_x = end_of_axis(all().map(|point| point.0).fold(1.0, f64::max));
    let most_y = end_of_axis(all().map(|point| point.1).fold(1.0, f64::max));
    let place = |(x, y): (f64, f64)| {
        (left + x / most_x * (WIDTH - left - 40.0), bottom - y / most_y * height)
    };
    let mut body = String::new();
    for step in 0..=4 {
        let part = f64::from(step) / 4.0;
        let (x, y) = place((most_x * part, most_y * part));
        body.push_str(&text(left - 8.0, y + 4.0, "end", &format!("{:.0}", most_y * part)));
        body.push_str(&text(x, bottom + 18.0, "middle", &format!("{:.0}", most_x * part)));
        body.push_str(&format!(
            "<path d=\"M{left} {y:.1}H{:.1}\" stroke=\"#8a8f98\" stroke-opacity=\".35\"/>\n",
            WIDTH - 40.0
        ));
    }
    body.push_str(&text(WIDTH / 2.0, bottom + 38.0, "middle", across));
    let mut top = bottom + 62.0;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let points: Vec<String> = line
            .points
            .iter()
            .map(|point| place(*point))
            .map(|(x, y)| format!("{x:.1},{y:.1}"))
            .collect();
        body.push_str(&format!(
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>\n",
            points.join(" ")
        ));
        body.push_str(&format!(
            "<rect x=\"{left}\" y=\"{:.1}\" width=\"16\" height=\"4\" fill=\"{colour}\"/>\n",
            top - 6.0
        ));
        body.push_str(&text(left + 24.0, top, "start", &line.label));
        top += 20.0;
    }
    frame(title, top, &body)
}

/// The end of an axis that is not before `most` and whose four parts are round numbers.
fn end_of_axis(most: f64) -> f64 {
    let part = most / 4.0;
    let magnitude = 10_f64.powf(part.log10().floor());
    let round = [1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0].map(|step| step * magnitude);
    round.into_iter().find(|step| *step >= part).unwrap_or(10.0 * magnitude) * 4.0
}

fn text(x: f64, y: f64, anchor: &str, content: &str) -> String {
    let content = escape(content);
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{content}</text>\n")
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('`', "")
}

fn frame(title: &str, height: f64, body: &str) -> String {
    let title = escape(title);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" font-family=\"sans-serif\" \
         font-size=\"12\" role=\"img\" aria-label=\"{title}\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n\
         <text x=\"12\" y=\"22\" font-size=\"14\" font-weight=\"bold\">{title}</text>\n{body}</svg>\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_can_not_change_the_structure_of_a_plot() {
        let bar = Bar { label: "a <b> & `c`".to_owned(), value: 1.5, is_ours: true };
        let svg = bars("title", "", &[bar]);
        assert!(svg.contains(">a &lt;b&gt; &amp; c</text>"), "{svg}");
        assert!(svg.contains(">1.50</text>"), "{svg}");
    }

    #[test]
    fn the_parts_of_an_axis_are_round_numbers() {
        assert_eq!([4.0, 47_500.0, 1_710.0, 9.5].map(end_of_axis), [4.0, 50_000.0, 2_000.0, 10.0]);
    }

    #[test]
    fn the_largest_values_are_at_the_edges_of_the_plot() {
        let line = Line { label: "x".to_owned(), points: vec![(0.0, 0.0), (10.0, 4.0)] };
        assert!(lines("title", "x", &[line]).contains("points=\"70.0,300.0 720.0,60.0\""));
    }
}
