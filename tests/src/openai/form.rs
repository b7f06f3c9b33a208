//! Pure: `multipart/form-data` as RFC 7578 has it, as much as is sent with a recording.

/// One field of a form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field<'a> {
    pub(super) name: &'a str,
    pub(super) file_name: Option<&'a str>,
    pub(super) value: &'a [u8],
}

/// The fields of a form; none when it is not one.
pub(super) fn fields<'a>(content_type: &str, body: &'a [u8]) -> Option<Vec<Field<'a>>> {
    let boundary = content_type.strip_prefix("multipart/form-data")?.split("boundary=").nth(1)?;
    let delimiter = format!("\r\n--{}", boundary.trim_matches('"'));
    let delimiter = delimiter.as_bytes();
    // The first delimiter has no line before it.
    let mut rest = body.strip_prefix(&delimiter[2..])?;
    let mut fields = Vec::new();
    loop {
        if rest.starts_with(b"--") {
            return Some(fields);
        }
        rest = rest.strip_prefix(b"\r\n")?;
        let end = find(rest, delimiter)?;
        fields.push(field(&rest[..end])?);
        rest = &rest[end + delimiter.len()..];
    }
}

fn field(part: &[u8]) -> Option<Field<'_>> {
    let end = find(part, b"\r\n\r\n")?;
    let head = std::str::from_utf8(&part[..end]).ok()?;
    let line = head.lines().find(|line| line.to_ascii_lowercase().starts_with("content-disposition: form-data;"))?;
    let of = |key: &str| {
        line.split(';').find_map(|part| part.trim().strip_prefix(key)?.strip_prefix("=\"")?.strip_suffix('"'))
    };
    Some(Field { name: of("name")?, file_name: of("filename"), value: &part[end + 4..] })
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    let first = *wanted.first()?;
    let mut from = 0;
    while let Some(at) = bytes.get(from..)?.iter().position(|&byte| byte == first) {
        if bytes[from + at..].starts_with(wanted) {
            return Some(from + at);
        }
        from += at + 1;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: &str = "multipart/form-data; boundary=b1";

    #[test]
    fn fields_and_files_are_found() {
        let body = b"--b1\r\nContent-Disposition: form-data; name=\"model\"\r\n\r\nwhisper-1\r\n--b1\r\n\
            Content-Disposition: form-data; name=\"file\"; filename=\"a.wav\"\r\nContent-Type: audio/wav\r\n\r\n\
            \r\n--b2\x00\r\n--b1--\r\n";
        let expected = [
            Field { name: "model", file_name: None, value: b"whisper-1" },
            Field { name: "file", file_name: Some("a.wav"), value: b"\r\n--b2\x00" },
        ];
        assert_eq!(fields(KIND, body).as_deref(), Some(&expected[..]));
    }

    #[test]
    fn what_is_no_form_is_none() {
        for body in [
            &b""[..],
            b"--b1",
            b"--b2--",
            b"--b1\r\n\r\n--b1--",
            b"--b1\r\nContent-Disposition: form-data; name=\"a\"\r\n\r\nx",
        ] {
            assert_eq!(fields(KIND, body), None, "{body:?}");
        }
        assert_eq!(fields("application/json", b"--b1--"), None);
        assert_eq!(fields(KIND, b"--b1--"), Some(Vec::new()));
    }
}
