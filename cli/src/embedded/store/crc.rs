//! The CRC of a whole from the CRCs of its parts, without a look at the bytes.
//!
//! For a reflected CRC, `crc(A || B) = crc(A) * x^(8 * len(B)) + crc(B)` over GF(2). Written here and not
//! borrowed from the program's own checksums on purpose: a store that shares its arithmetic with what it
//! is there to check would find that arithmetic's mistakes right.

/// A CRC's polynomial, reflected, and its width in bits.
#[derive(Debug, Clone, Copy)]
pub struct Crc {
    pub polynomial: u64,
    pub width: u32,
}

impl Crc {
    pub const CRC32: Crc = Crc { polynomial: 0xedb8_8320, width: 32 };
    pub const CRC32C: Crc = Crc { polynomial: 0x82f6_3b78, width: 32 };
    pub const CRC64NVME: Crc = Crc { polynomial: 0x9a6c_9329_ac4b_c9b5, width: 64 };

    /// The CRC of consecutive parts, each given by its CRC and length.
    pub fn combine(self, parts: impl IntoIterator<Item = (u64, u64)>) -> u64 {
        let mut whole = 0;
        // Parts mostly have one length, so its power is worked out once.
        let mut power = (0, self.one());
        for (crc, length) in parts {
            if power.0 != length {
                power = (length, self.power(length));
            }
            whole = self.multiply(whole, power.1) ^ crc;
        }
        whole
    }

    /// The polynomial 1: in a reflected CRC the highest bit stands for x^0.
    fn one(self) -> u64 {
        1 << (self.width - 1)
    }

    fn multiply(self, a: u64, b: u64) -> u64 {
        let mut product = 0;
        let mut shifted = b;
        let mut bit = self.one();
        while bit != 0 {
            if a & bit != 0 {
                product ^= shifted;
            }
            shifted = (shifted >> 1) ^ if shifted & 1 == 1 { self.polynomial } else { 0 };
            bit >>= 1;
        }
        product
    }

    /// x^(8 * bytes), by squaring.
    fn power(self, bytes: u64) -> u64 {
        let mut power = self.one();
        let mut square = self.one() >> 8;
        let mut left = bytes;
        while left > 0 {
            if left & 1 == 1 {
                power = self.multiply(power, square);
            }
            square = self.multiply(square, square);
            left >>= 1;
        }
        power
    }
}
