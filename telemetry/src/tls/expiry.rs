//! When a certificate expires: the one field that TLS itself does not tell. Read from its DER as RFC 5280 lays it out, and
//! believed of files that TLS has taken already.

/// Tags of DER (X.690, section 8) that lead to the field.
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xA0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

const SECONDS_A_DAY: u64 = 86_400;

/// The last second at which the certificate is good, since the Unix epoch; `None` for what is no certificate.
pub(super) fn not_after(mut certificate: &[u8]) -> Option<u64> {
    let mut outer = of(&mut certificate, SEQUENCE)?;
    let mut fields = of(&mut outer, SEQUENCE)?;
    if fields.first() == Some(&VERSION) {
        element(&mut fields)?;
    }
    // Serial number, algorithm, issuer.
    for _ in 0..3 {
        element(&mut fields)?;
    }
    let mut validity = of(&mut fields, SEQUENCE)?;
    element(&mut validity)?;
    let (tag, text) = element(&mut validity)?;
    moment(tag, text)
}

/// The content of the next element, which must have this tag.
fn of<'a>(input: &mut &'a [u8], tag: u8) -> Option<&'a [u8]> {
    element(input).filter(|(found, _)| *found == tag).map(|(_, content)| content)
}

/// The next element: its tag and its content.
fn element<'a>(input: &mut &'a [u8]) -> Option<(u8, &'a [u8])> {
    let (&[tag, first], rest) = input.split_first_chunk()?;
    let (length, rest) = match first {
        0..=0x7F => (usize::from(first), rest),
        // So many bytes of length follow; four are more than any file here has.
        0x81..=0x84 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7F))?;
            (length.iter().fold(0, |length, &byte| length << 8 | usize::from(byte)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    *input = rest;
    Some((tag, content))
}

/// `YYMMDDhhmmssZ` or `YYYYMMDDhhmmssZ`: the only forms that there are (RFC 5280, section 4.1.2.5).
fn moment(tag: u8, text: &[u8]) -> Option<u64> {
    let digits = text.strip_suffix(b"Z").filter(|digits| digits.iter().all(u8::is_ascii_digit))?;
    let number = |digits: &[u8]| digits.iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    let (year, rest) = match (tag, digits.len()) {
        (UTC_TIME, 12) => {
            let (year, rest) = digits.split_at(2);
            let year = number(year);
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        (GENERALIZED_TIME, 14) => {
            let (year, rest) = digits.split_at(4);
            (number(year), rest)
        }
        _ => return None,
    };
    let mut rest = rest.chunks(2).map(number);
    let mut next = || rest.next();
    let (month, day, hour, minute, second) = (next()?, next()?, next()?, next()?, next()?);
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    Some(days(year, month, day)? * SECONDS_A_DAY + hour * 3600 + minute * 60 + second)
}

/// Days from the Unix epoch to a date after it. Years begin with March here, so that a leap day is the last of its year.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let before = year * 365 + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    // From the first of March of the year 0 to the epoch.
    before.checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, date_time_ymd};

    use super::*;

    #[test]
    fn the_moment_is_the_one_that_the_certificate_was_made_with() {
        for (year, month, day) in
            [(1970, 1, 1), (2024, 2, 29), (2049, 12, 31), (2050, 1, 1), (2100, 3, 1), (4096, 1, 1)]
        {
            let mut params = CertificateParams::new(["worker".to_owned()]).unwrap();
            params.not_after = date_time_ymd(year, month, day);
            let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
            let expected = u64::try_from(params.not_after.unix_timestamp()).unwrap();
            assert_eq!(not_after(certificate.der()), Some(expected), "{year}-{month}-{day}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end() {
        let params = CertificateParams::new(["worker".to_owned()]).unwrap();
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        let whole = certificate.der().as_ref();
        for length in 0..whole.len() {
            assert_eq!(not_after(&whole[..length]), None);
        }
        assert_eq!(not_after(&[0xFF; 64]), None);
        for text in ["20300101000000", "2030010100000Z", "20301301000000Z", "2030010100000xZ", "19691231235959Z"] {
            assert_eq!(moment(GENERALIZED_TIME, text.as_bytes()), None, "{text}");
        }
        assert_eq!(moment(UTC_TIME, b"700101000001Z"), Some(1));
    }
}
