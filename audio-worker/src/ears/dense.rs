//! A layer of a neural network: a matrix and a bias, applied to some frames at once.

/// Outputs that are computed side by side; the compiler makes vector instructions of them.
type Lanes<const LANES: usize> = [f32; LANES];

/// A layer whose rows are stored `LANES` at a time, input by input, so that weights are read in order.
#[derive(Debug)]
pub(super) struct Dense<const LANES: usize> {
    inputs: usize,
    weights: Box<[Lanes<LANES>]>,
    biases: Box<[Lanes<LANES>]>,
}

impl<const LANES: usize> Dense<LANES> {
    /// Takes `outputs` rows of `inputs` and then `outputs` biases. What is missing is zero.
    pub(super) fn read(inputs: usize, outputs: usize, values: &mut impl Iterator<Item = f32>) -> Self {
        let blocks = outputs / LANES;
        let mut weights = vec![[0.0; LANES]; blocks * inputs].into_boxed_slice();
        for output in 0..outputs {
            for (input, value) in values.by_ref().take(inputs).enumerate() {
                weights[output / LANES * inputs + input][output % LANES] = value;
            }
        }
        let mut biases = vec![[0.0; LANES]; blocks].into_boxed_slice();
        for (bias, value) in biases.as_flattened_mut().iter_mut().zip(values) {
            *bias = value;
        }
        Self { inputs, weights, biases }
    }

    /// Applies the layer to `FRAMES` frames, each `step` further on in `input`; in `output` they follow each other.
    pub(super) fn apply<const FRAMES: usize>(&self, input: &[f32], step: usize, output: &mut [f32]) {
        let outputs = self.biases.len() * LANES;
        let frames: [&[f32]; FRAMES] = std::array::from_fn(|frame| &input[frame * step..][..self.inputs]);
        let blocks = self.weights.chunks_exact(self.inputs).zip(&self.biases);
        for (number, (rows, bias)) in blocks.enumerate() {
            let sums = products(rows, frames, *bias);
            for (frame, sums) in sums.iter().enumerate() {
                output[frame * outputs + number * LANES..][..LANES].copy_from_slice(sums);
            }
        }
    }
}

/// The outputs of one block. The lengths of the loops are known, so they become vector instructions; and they are no
/// iterators, which would cost twice as much unoptimised.
#[inline]
fn products<const LANES: usize, const FRAMES: usize>(
    rows: &[Lanes<LANES>],
    frames: [&[f32]; FRAMES],
    bias: Lanes<LANES>,
) -> [Lanes<LANES>; FRAMES] {
    let frames = frames.map(|frame| &frame[..rows.len()]);
    let mut sums = [bias; FRAMES];
    for (at, row) in rows.iter().enumerate() {
        let mut frame = 0;
        while frame < FRAMES {
            let (value, sums) = (frames[frame][at], &mut sums[frame]);
            let mut lane = 0;
            while lane < LANES {
                sums[lane] += row[lane] * value;
                lane += 1;
            }
            frame += 1;
        }
    }
    sums
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_is_a_matrix_and_a_bias() {
        // Two rows of three, then two biases.
        let mut values = [1.0, 2.0, 3.0, 10.0, 20.0, 30.0, 0.5, 0.25].into_iter();
        let layer = Dense::<2>::read(3, 2, &mut values);
        assert_eq!(values.next(), None);
        let mut output = [0.0; 4];
        layer.apply::<2>(&[1.0, 0.0, 2.0, 4.0], 1, &mut output);
        assert_eq!(output, [7.5, 70.25, 16.5, 160.25]);
    }
}
