//! Optimisers as torch has them: Adam with coupled L2 for the projection, AdamW for the discriminator.

use pbas_nn::linalg::Threads;
use pbas_nn::vectorized;

use super::sweep::each;

/// Decay of the running mean of gradients.
const BETA1: f32 = 0.9;
/// Decay of the running mean of squared gradients.
const BETA2: f32 = 0.999;
/// Added to the root of the second moment.
const EPS: f32 = 1e-8;
/// Weights of one piece of work: less is not worth another thread.
const PIECE: usize = 1 << 15;

/// How weight decay enters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Decay {
    /// Added to the gradient: `g + decay * w` (torch's `Adam(weight_decay=...)`).
    Coupled(f32),
    /// Taken from the weight: `w (1 - rate * decay)` before the step (torch's `AdamW`).
    Decoupled(f32),
}

/// Moments of one tensor's gradients.
#[derive(Debug, Clone, PartialEq)]
pub struct Moments {
    /// Running mean of the gradient.
    pub first: Vec<f32>,
    /// Running mean of the squared gradient.
    pub second: Vec<f32>,
}

impl Moments {
    /// Zeros for `n` values.
    #[must_use]
    pub fn zeros(n: usize) -> Self {
        Self { first: vec![0.0; n], second: vec![0.0; n] }
    }

    /// One update of `weight` by `gradient`, in one sweep over memory; `step` counts from 1
    /// (Kingma and Ba 2015; Loshchilov and Hutter 2019; bias correction as in torch).
    ///
    /// # Panics
    /// If the lengths differ.
    pub fn update(
        &mut self,
        weight: &mut [f32],
        gradient: &[f32],
        step: u64,
        rate: f32,
        decay: Decay,
        threads: Threads,
    ) {
        assert!(weight.len() == gradient.len() && weight.len() == self.first.len(), "one gradient a weight");
        let power = |beta: f32| 1.0 - f64::from(beta).powf(step as f64);
        let step_size = (f64::from(rate) / power(BETA1)) as f32;
        let root = power(BETA2).sqrt() as f32;
        let (coupled, keep) = match decay {
            Decay::Coupled(d) => (d, 1.0),
            Decay::Decoupled(d) => (0.0, 1.0 - rate * d),
        };
        let moments = self.first.chunks_mut(PIECE).zip(self.second.chunks_mut(PIECE));
        let parts = weight.chunks_mut(PIECE).zip(gradient.chunks(PIECE)).zip(moments);
        each(threads, parts, |_, ((weight, gradient), (first, second))| {
            vectorized!({
                let moments = first.iter_mut().zip(second);
                for ((w, g), (m, v)) in weight.iter_mut().zip(gradient).zip(moments) {
                    let g = g + coupled * *w;
                    *m += (1.0 - BETA1) * (g - *m);
                    *v = BETA2 * *v + (1.0 - BETA2) * g * g;
                    *w = keep * *w - step_size * *m / (v.sqrt() / root + EPS);
                }
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// torch 2: two steps of Adam(lr=0.1, weight_decay=0.5) and AdamW on w = 1 with gradients 0.2, -0.4, by hand
    /// in float64.
    #[test]
    fn two_steps_by_hand() {
        for decay in [Decay::Coupled(0.5), Decay::Decoupled(0.5)] {
            let (mut w, mut m, mut v) = (1.0f64, 0.0f64, 0.0f64);
            let mut fast = [1.0f32];
            let mut moments = Moments::zeros(1);
            for (t, g) in [(1, 0.2f64), (2, -0.4)] {
                moments.update(&mut fast, &[g as f32], t, 0.1, decay, Threads::All);
                let g = match decay {
                    Decay::Coupled(d) => g + f64::from(d) * w,
                    Decay::Decoupled(d) => {
                        w *= 1.0 - 0.1 * f64::from(d);
                        g
                    }
                };
                m = 0.9 * m + 0.1 * g;
                v = 0.999 * v + 0.001 * g * g;
                let (mh, vh) = (m / (1.0 - 0.9f64.powi(t as i32)), v / (1.0 - 0.999f64.powi(t as i32)));
                w -= 0.1 * mh / (vh.sqrt() + 1e-8);
                assert!((f64::from(fast[0]) - w).abs() < 1e-6, "{decay:?} step {t}: {} {w}", fast[0]);
            }
        }
    }
}
