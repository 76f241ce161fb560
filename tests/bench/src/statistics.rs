//! Medians and quartiles of a few rounds.

/// The value that a part of the values does not exceed, between two values in proportion. 0 without values.
pub(crate) fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = part * last as f64;
    // The values on both sides of the place. A round has too few values for a search to matter.
    let below = sorted.iter().zip(0_u32..).take_while(|(_, index)| f64::from(*index) <= place);
    let low = below.last().map_or(0.0, |(value, _)| *value);
    let above = sorted.iter().zip(0_u32..).find(|(_, index)| f64::from(*index) >= place);
    let high = above.map_or(low, |(value, _)| *value);
    low + (high - low) * place.fract()
}

pub(crate) fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// The ratios of two ways, round by round.
pub(crate) fn ratios(values: &[f64], base: &[f64]) -> Vec<f64> {
    values.iter().zip(base).map(|(value, base)| value / base).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_lies_between_two_values_in_proportion() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert_eq!(quantile(&[0.0, 10.0], 0.99), 9.9);
        assert_eq!(quantile(&[], 0.5), 0.0);
    }
}
