//! Backbones that their publishers offer under a stable address.

use serde::Serialize;

/// A network that `pbas backbone fetch` knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Known {
    /// Its name here and at its publisher's.
    pub name: &'static str,
    /// Where the file lies.
    pub url: &'static str,
    /// Bytes of the file, about.
    pub bytes: u64,
    /// How the SHA-256 of the file begins: what the publisher puts into the file's name, by which its own tools check it.
    pub sha256_prefix: &'static str,
    /// Licence of the weights as the publisher states it.
    pub licence: &'static str,
}

/// Licence of torchvision, whose weights come with no other; the pictures they were trained on have their own terms.
const TORCHVISION: &str =
    "BSD-3-Clause (torchvision); trained on ImageNet, whose terms may bind the use of the weights";
const MIB: u64 = 1 << 20;

macro_rules! torchvision {
    ($name:literal, $digest:literal, $mib:literal) => {
        Known {
            name: $name,
            url: concat!("https://download.pytorch.org/models/", $name, "-", $digest, ".pth"),
            bytes: $mib * MIB,
            sha256_prefix: $digest,
            licence: TORCHVISION,
        }
    };
}

/// The torchvision family, each with the weights called IMAGENET1K_V1, which published results are made with.
pub const KNOWN: [Known; 7] = [
    torchvision!("resnet18", "f37072fd", 45),
    torchvision!("resnet34", "b627a593", 83),
    torchvision!("resnet50", "0676ba61", 98),
    torchvision!("resnet101", "63fe2227", 171),
    torchvision!("resnet152", "394f9c45", 230),
    torchvision!("wide_resnet50_2", "95faca4d", 132),
    torchvision!("wide_resnet101_2", "32ee1156", 243),
];

/// The known network of this name.
#[must_use]
pub fn known(name: &str) -> Option<&'static Known> {
    KNOWN.iter().find(|k| k.name == name)
}
