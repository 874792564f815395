//! FNV-1a: a short hash that is the same on every machine and in every version. Not against anybody who looks for collisions.

pub(crate) struct Fnv(pub(crate) u64);

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Fnv {
    pub(crate) fn update(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
}

pub(crate) fn hash(text: &str) -> u64 {
    let mut fnv = Fnv::default();
    fnv.update(text.as_bytes());
    fnv.0
}
