//! A set of bytes, for texts each of whose bytes must be one of a few.

/// A table with an entry for each byte, so that a search needs no branches.
pub(super) struct ByteSet([bool; 256]);

impl ByteSet {
    #[expect(
        clippy::indexing_slicing,
        reason = "the compiler evaluates it for a `static`, and refuses an index out of range"
    )]
    pub(super) const fn new(members: &[u8]) -> Self {
        let mut table = [false; 256];
        let mut index = 0;
        while index < members.len() {
            table[members[index] as usize] = true;
            index += 1;
        }
        Self(table)
    }

    pub(super) fn contains(&self, byte: u8) -> bool {
        self.0.get(usize::from(byte)).copied().unwrap_or_default()
    }
}
