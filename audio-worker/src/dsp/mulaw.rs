//! ITU-T G.711 mu-law over slices, by table, bit-exact with the one's-complement form of ITU-T G.191.
//!
//! 0x7F ("minus zero") and 0xFF both decode to 0 and 0 encodes to 0xFF: the one code that does not survive.

/// The code of silence, which decodes to 0.
pub const SILENCE: u8 = 0xFF;

/// Decodes `codes` into `pcm`, appending one 16-bit sample a code (range ±32,124).
pub fn decode(codes: &[u8], pcm: &mut Vec<i16>) {
    pcm.extend(codes.iter().map(|&code| DECODED[usize::from(code)]));
}

/// Encodes `pcm` into `codes`, appending one code a sample.
pub fn encode(pcm: &[i16], codes: &mut Vec<u8>) {
    codes.extend(pcm.iter().map(|&sample| code(sample)));
}

/// The code of one sample.
pub fn code(sample: i16) -> u8 {
    ENCODED[usize::from(sample.cast_unsigned() >> 2)]
}

/// All 256 codes decoded.
static DECODED: [i16; 256] = {
    let mut table = [0; 256];
    let mut code = 0;
    while code < 256 {
        table[code] = expand(code as u8);
        code += 1;
    }
    table
};

/// Codes of the upper 14 bits of a sample: G.711 ignores the lower two, so 16 KiB do the work of 64.
static ENCODED: [u8; 1 << 14] = {
    let mut table = [0; 1 << 14];
    let mut upper = 0;
    while upper < table.len() {
        table[upper] = compress(((upper << 2) as u16).cast_signed());
        upper += 1;
    }
    table
};

/// One code to one sample (G.711 table 2b).
const fn expand(code: u8) -> i16 {
    let inverted = !code;
    let segment = (inverted >> 4) & 7;
    let step = (inverted & 0x0F) as i16;
    let magnitude = (((step << 3) + 0x84) << segment) - 0x84;
    if code & 0x80 == 0 { -magnitude } else { magnitude }
}

/// One sample to one code (G.711 table 2a): the magnitude of a negative sample is its one's complement.
const fn compress(sample: i16) -> u8 {
    /// G.711's bias of 33 on the 14-bit scale.
    const BIAS: u16 = 33;
    /// The largest biased magnitude.
    const CLIP: u16 = 0x1FFF;

    let magnitude = if sample < 0 { !sample } else { sample }.cast_unsigned() >> 2;
    let biased = if magnitude + BIAS > CLIP { CLIP } else { magnitude + BIAS };
    // Position of the leading one above bit 5 is the segment.
    let segment = 10 - biased.leading_zeros() as u16;
    let step = (biased >> (segment + 1)) & 0x0F;
    let code = !((segment << 4 | step) as u8) & 0x7F;
    if sample < 0 { code } else { code | 0x80 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_65536_samples_encode_as_the_standard_says() {
        let pcm: Vec<i16> = (i16::MIN..=i16::MAX).collect();
        let mut codes = Vec::new();
        encode(&pcm, &mut codes);
        for (&sample, code) in pcm.iter().zip(codes) {
            assert_eq!(code, audio_codec_algorithms::encode_ulaw(sample), "sample {sample}");
        }
    }

    #[test]
    fn all_256_codes_decode_as_the_standard_says() {
        let codes: Vec<u8> = (0..=255).collect();
        let mut pcm = Vec::new();
        decode(&codes, &mut pcm);
        for (&code, sample) in codes.iter().zip(pcm) {
            assert_eq!(sample, audio_codec_algorithms::decode_ulaw(code), "code {code:#04x}");
        }
    }

    #[test]
    fn known_values_of_g711() {
        let mut pcm = Vec::new();
        decode(&[0x00, 0x80, 0x7F, 0xFF, 0x7E, 0xFE, 0x0F, 0x8F], &mut pcm);
        assert_eq!(pcm, [-32124, 32124, 0, 0, -8, 8, -16764, 16764]);
    }

    #[test]
    fn every_code_but_minus_zero_survives_a_round_trip() {
        let codes: Vec<u8> = (0..=255).collect();
        let (mut pcm, mut again) = (Vec::new(), Vec::new());
        decode(&codes, &mut pcm);
        encode(&pcm, &mut again);
        let changed: Vec<_> = codes.iter().zip(&again).filter(|(a, b)| a != b).collect();
        assert_eq!(changed, [(&0x7F, &SILENCE)]);
    }
}
