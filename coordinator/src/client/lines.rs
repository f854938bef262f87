//! Bytes that come in pieces, as lines.

#[derive(Debug, Default)]
pub(super) struct LineBuffer(Vec<u8>);

impl LineBuffer {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.0.extend_from_slice(bytes);
        let Some(end) = self.0.iter().rposition(|byte| *byte == b'\n') else {
            return Vec::new();
        };
        let rest = self.0.split_off(end + 1);
        let whole = std::mem::replace(&mut self.0, rest);
        whole
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(<[u8]>::to_vec)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_whole_however_they_come() {
        let mut lines = LineBuffer::default();
        assert!(lines.push(b"1a").is_empty());
        assert_eq!(lines.push(b"b\n2c\n1"), [b"1ab".to_vec(), b"2c".to_vec()]);
        assert_eq!(lines.push(b"d\n"), [b"1d".to_vec()]);
    }
}
