//! Figures that others have printed, to stand beside ours. They are not measured here.

use serde::Serialize;

/// A published pair of figures in per cent.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub(super) struct Published {
    pub data: &'static str,
    pub method: &'static str,
    /// Image AUROC.
    pub image: &'static str,
    /// Pixel AUROC, where it was printed.
    pub pixel: &'static str,
    /// How the model was chosen, as far as its authors say.
    pub protocol: &'static str,
}

const TEST_CHOSEN: &str = "epoch chosen on the test set (oracle)";
const AS_PRINTED: &str = "as printed by its authors";

/// Of PBAS those of its published repository; of its peers those of their papers.
pub(super) const PUBLISHED: [Published; 7] = [
    Published { data: "MVTec AD", method: "PBAS", image: "99.8", pixel: "98.6", protocol: TEST_CHOSEN },
    Published { data: "VisA", method: "PBAS", image: "97.7", pixel: "98.6", protocol: TEST_CHOSEN },
    Published { data: "MPDD", method: "PBAS", image: "97.7", pixel: "98.8", protocol: TEST_CHOSEN },
    Published { data: "MVTec AD", method: "PatchCore", image: "99.1", pixel: "-", protocol: AS_PRINTED },
    Published { data: "MVTec AD", method: "SimpleNet", image: "99.6", pixel: "-", protocol: AS_PRINTED },
    Published { data: "MVTec AD", method: "GLASS", image: "99.9", pixel: "-", protocol: AS_PRINTED },
    Published { data: "MVTec AD", method: "EfficientAD-S", image: "98.8", pixel: "-", protocol: AS_PRINTED },
];
